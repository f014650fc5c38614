"""``bioconvert export``: a converted model as one file, for use without bioconvert."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.inputs import Samples, samples
from bioconvert.cli.options import Folder, Inputs, InputShape, Seed
from bioconvert.cli.source import load_ours, require
from bioconvert.cli.streams import step
from bioconvert.core.errors import OptionError
from bioconvert.report.text import plural

if TYPE_CHECKING:
    from bioconvert.checkpoint.exports.exported import Exported


class Kind(str, Enum):
    """The formats."""

    ONNX = "onnx"
    PT = "pt"
    PT2 = "pt2"


def export(
    kind: Annotated[
        Kind,
        typer.Argument(
            metavar="onnx|pt|pt2", help="ONNX; a state dict by torch.save; a program by torch.export."
        ),
    ],
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File to write.")],
    inputs: Inputs = None,
    input_shape: InputShape = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Let the first dimension of the inputs have any size.")
    ] = False,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> Answer:
    """Write a converted model as one file.

    onnx and pt2 hold the graph of eval mode, need sample inputs, and are run and compared with the model. pt
    holds the tensors by the names of bc.load's model. What only training needs is left out.
    """
    from bioconvert.checkpoint.exports.exported import check_file_target

    given = samples(inputs, input_shape, seed=seed)
    _check(kind, given, dynamic=dynamic)
    check_file_target(out, overwrite=overwrite)
    require(folder)
    done = _export(kind, folder, given, out, dynamic=dynamic, overwrite=overwrite)
    data = {
        "format": kind.value,
        "out": str(out),
        "bytes": done.size,
        "tensors": done.tensors,
        "left_out": done.left_out,
        "difference": done.difference,
        "compared_by": done.compared_by or None,
    }
    return Answer(data, lambda: _text(done))


def _check(kind: Kind, given: Samples | None, *, dynamic: bool) -> None:
    if kind is not Kind.PT and given is None:
        raise OptionError(
            f"{kind.value} needs sample inputs: give --inputs FILE or --input-shape 1,3,224,224"
        )
    if kind is Kind.PT and dynamic:
        raise OptionError("--dynamic is for onnx and pt2; a state dict holds no graph")


def _export(
    kind: Kind, folder: Path, given: Samples | None, out: Path, *, dynamic: bool, overwrite: bool
) -> Exported:
    if kind is Kind.ONNX:
        from bioconvert.checkpoint.exports.onnx_file import check_onnx_installed, export_onnx

        check_onnx_installed()
    model = load_ours(folder)
    if kind is Kind.PT or given is None:
        from bioconvert.checkpoint.exports.state_dict import export_state_dict

        with step(f"writing {out}"):
            return export_state_dict(model, out, overwrite=overwrite)
    arguments = given.arguments(model)
    with step(f"exporting to {out}"):
        if kind is Kind.ONNX:
            return export_onnx(model, arguments, out, dynamic=dynamic, overwrite=overwrite)
        from bioconvert.checkpoint.exports.program import export_program

        return export_program(model, arguments, out, dynamic=dynamic, overwrite=overwrite)


def _text(done: Exported) -> Iterator[str]:
    yield f"{plural(done.tensors, 'tensor')}, {plural(done.size, 'byte')}"
    if done.left_out:
        yield f"left out, as only training needs it: {plural(len(done.left_out), 'tensor')}"
    if done.difference is not None:
        yield f"largest difference of the outputs: {done.difference:.1e} of the largest ({done.compared_by})"
    elif done.compared_by:
        yield f"not compared with the model: {done.compared_by}"
    yield f"written to {done.path}"
