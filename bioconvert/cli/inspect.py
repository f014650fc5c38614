"""``bioconvert inspect``: what a checkpoint holds, from its header alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.options import UnsafePickle, Weights
from bioconvert.cli.source import Reading, require
from bioconvert.report.text import amount, size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bioconvert.cli.contents import Contents, Conversion


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A checkpoint file or folder.", readable=False)
    ],
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth", min=1, metavar="N", help="Levels of names to show; deeper ones are summed up."
        ),
    ] = None,
    weights: Weights = None,
    unsafe_pickle: UnsafePickle = False,
) -> Answer:
    """Show what a checkpoint holds.

    Of a safetensors file or a converted folder only the header or the manifest is read, no tensor.
    """
    from bioconvert.cli.contents import read_contents

    require(path)
    contents = read_contents(path, Reading(weights, unsafe_pickle))
    return Answer(_data(contents), lambda: _text(contents, depth))


def _data(contents: Contents) -> Mapping[str, object]:
    return {
        "path": str(contents.path),
        "format": contents.format,
        "files": contents.files,
        "values": contents.values,
        "bytes": contents.size,
        "dtypes": contents.dtypes,
        # asdict copies deeply, which takes seconds for a hundred thousand tensors.
        "tensors": [{"name": t.name, "dtype": t.dtype, "shape": t.shape} for t in contents.tensors],
        "non_finite": contents.non_finite,
        "conversion": None if contents.conversion is None else asdict(contents.conversion),
    }


def _text(contents: Contents, depth: int | None) -> Iterator[str | RenderableType]:
    from bioconvert.report.tables import facts, told
    from bioconvert.report.tree import checkpoint_tree

    yield facts(
        {
            "format": contents.format,
            "files": f"{len(contents.files):,}",
            "tensors": f"{len(contents.tensors):,}",
            "values": f"{amount(contents.values)}, parameters and buffers",
            "size": size(contents.size),
            "types": ", ".join(f"{count:,} × {dtype}" for dtype, count in contents.dtypes.items()),
            **({"not finite": told(contents.non_finite)} if contents.non_finite else {}),
        }
    )
    if contents.conversion is not None:
        yield from _conversion(contents.conversion)
    yield ""
    yield checkpoint_tree(contents.tensors, title=contents.path.name or str(contents.path), depth=depth)


def _model(architecture: str | None) -> str:
    if architecture is None:
        return "not known; bc.load needs factory="
    return "its tensors alone" if architecture.startswith("tensors:") else architecture


def _conversion(conversion: Conversion) -> Iterator[str | RenderableType]:
    from bioconvert.report.summary import summary_table
    from bioconvert.report.tables import facts

    yield ""
    yield facts(
        {
            "converted": conversion.source or "a model in memory",
            "model": _model(conversion.architecture),
            "rules": ", ".join(conversion.rules),
            "written by": ", ".join(f"{name} {version}" for name, version in conversion.tool.items()),
        }
    )
    yield ""
    yield summary_table(conversion.changes)
