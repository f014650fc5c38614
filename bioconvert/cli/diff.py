"""``bioconvert diff``: how two checkpoints differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.exits import Exit
from bioconvert.cli.options import Every, UnsafePickle
from bioconvert.cli.source import require
from bioconvert.cli.streams import step
from bioconvert.report.text import measure, plural, shape

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bioconvert.checkpoint.formats.comparing import Distance
    from bioconvert.checkpoint.formats.stored import Contents
    from bioconvert.cli.differences import Changed, Differences, Form, ModuleChange

_OPTIONS_SHOWN = 4


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A checkpoint file or folder.", readable=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="What to compare it with.", readable=False)],
    structure: Annotated[
        bool, typer.Option("--structure", help="Compare names, types and shapes; read no values.")
    ] = False,
    weights_a: Annotated[
        str | None,
        typer.Option("--weights-a", metavar="KEY", help="Which weights of A, a training checkpoint, as ema."),
    ] = None,
    weights_b: Annotated[
        str | None, typer.Option("--weights-b", metavar="KEY", help="Which weights of B.")
    ] = None,
    unsafe_pickle: UnsafePickle = False,
    every: Every = False,
) -> Answer:
    """Compare two checkpoints of any format.

    Their tensors by name, type, shape and value, and in converted folders what became of each module. The
    exit code is 1 if they differ. NaN counts as equal to NaN, and 0 as equal to -0.
    """
    from bioconvert.checkpoint.formats.stored import find_tensors
    from bioconvert.cli.differences import find_differences

    for path in (a, b):
        require(path)
    one, other = (
        find_tensors(path, weights=weights, unsafe_pickle=unsafe_pickle)
        for path, weights in ((a, weights_a), (b, weights_b))
    )
    with step("comparing"):
        found = find_differences(one, other, values=not structure)
    data = {
        "a": _described(one),
        "b": _described(other),
        "structure_only": structure,
        "equal": not found.any,
        **found.to_dict(),
    }
    code = Exit.FINDINGS if found.any else Exit.DONE
    return Answer(data, lambda: _text(found, structure=structure, every=every), code)


def _nearness(changed: Changed) -> float:
    """Rank what is furthest off first."""
    found = changed.values
    return -inf if found is None or found.relative is None else -found.relative


def _described(contents: Contents) -> Mapping[str, object]:
    return {
        "path": str(contents.path),
        "format": contents.format,
        "tensors": len(contents.tensors),
        "prefix": contents.prefix,
    }


def _text(found: Differences, *, structure: bool, every: bool) -> Iterator[str | RenderableType]:
    from bioconvert.report.diff import Section, sections

    formed = {each.name: each for each in found.changed if each.a != each.b}
    others = [each for each in found.changed if each.a == each.b]
    valued = {each.name: each for each in sorted(others, key=_nearness)}
    kinds = (
        Section("module of another kind", "modules of other kinds", ("A", "B", "rules"), _modules(found)),
        Section("tensor only in A", "tensors only in A", ("type", "shape"), _forms(found.only_a)),
        Section("tensor only in B", "tensors only in B", ("type", "shape"), _forms(found.only_b)),
        Section(
            "tensor of another type or shape",
            "tensors of other types or shapes",
            ("A", "B", "values"),
            {name: _both_forms(each, structure=structure) for name, each in formed.items()},
        ),
        Section(
            "tensor of other values",
            "tensors of other values",
            ("values", "differ", "at most", "relative"),
            {name: _apart(each.values) for name, each in valued.items()},
        ),
    )
    yield from sections(kinds, every=every)
    told = "in name, type and shape" if structure else "in all values"
    yield f"{plural(found.same, 'tensor')} the same {told}"


def _forms(forms: Mapping[str, Form]) -> dict[str, tuple[str, ...]]:
    return {name: (form.dtype, shape(form.shape) or "scalar") for name, form in forms.items()}


def _both_forms(changed: Changed, *, structure: bool) -> tuple[str, ...]:
    a, b = (f"{form.dtype} {shape(form.shape) or 'scalar'}" for form in (changed.a, changed.b))
    if structure or changed.a.shape != changed.b.shape:
        return a, b, "not compared"
    if changed.values is None:
        return a, b, "the same"
    _, differ, largest, _ = _apart(changed.values)
    return a, b, f"{differ} differ, by {largest} at most"


def _apart(found: Distance | None) -> tuple[str, ...]:
    """Write how far values are apart; those of a format that can't be taken apart have no numbers."""
    if found is None or found.differing is None or found.largest is None:
        return ("", "some", "", "")
    differ = f"{found.differing:,}"
    if found.not_finite:
        differ += f" ({found.not_finite:,} not finite)"
    relative = "" if found.relative is None else measure(found.relative)
    return f"{found.values:,}", differ, measure(found.largest), relative


def _modules(found: Differences) -> dict[str, tuple[str, ...]]:
    return {each.path: _module(each) for each in found.modules}


def _module(change: ModuleChange) -> tuple[str, ...]:
    rules = ", ".join(dict.fromkeys((*change.a.rules, *change.b.rules)))
    if not change.options:
        return ", ".join(change.a.steps), ", ".join(change.b.steps), rules
    names = list(change.options)[:_OPTIONS_SHOWN]
    more = ", …" if len(change.options) > len(names) else ""
    a, b = (
        f"{', '.join(steps)}: " + ", ".join(f"{name} {change.options[name][i]}" for name in names) + more
        for i, steps in enumerate((change.a.steps, change.b.steps))
    )
    return a, b, rules
