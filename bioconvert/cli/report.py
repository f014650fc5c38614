"""``bioconvert report``: one page about a conversion, or its structure as a diagram."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.inputs import Samples, samples
from bioconvert.cli.options import Inputs, InputShape, Seed
from bioconvert.cli.report_file import check_report, write_report
from bioconvert.cli.source import load_ours, require
from bioconvert.cli.streams import step
from bioconvert.report.text import shape

if TYPE_CHECKING:
    from bioconvert.api import Drift
    from bioconvert.cli.plan import Prepared
    from bioconvert.core.results import Outcomes
    from bioconvert.report.html.evidence import Evidence
    from bioconvert.surgery.costs import CostChange

_NO_INPUTS = "Not measured: give inputs, by --inputs FILE or --input-shape as 1,3,224,224."
_PLANNED = "Not known yet: nothing was converted."


class Format(str, Enum):
    """What a report is written as."""

    html = "html"
    mermaid = "mermaid"
    dot = "dot"


def report(
    path: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A converted folder; or any checkpoint.", readable=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The file to write; report.html for a page."),
    ] = None,
    format: Annotated[
        Format,
        typer.Option("--format", help="A page, or the structure as a diagram, to stdout without --out."),
    ] = Format.html,
    inputs: Inputs = None,
    input_shape: InputShape = None,
    history: Annotated[
        Path | None,
        typer.Option(
            "--history",
            metavar="FILE",
            readable=False,
            help="History of plasticity, as plasticity.history.to_json() gives it.",
        ),
    ] = None,
    seed: Seed = 0,
) -> Answer:
    """Write a page about a conversion that any browser shows.

    What was converted and why not the rest, sizes, weights, drift, plasticity and growth. One file, nothing
    in it is loaded from elsewhere.
    """
    require(path)
    if out is None and format is Format.html:
        out = Path("report.html")
    check_report(out, path)
    given = samples(inputs, input_shape, seed=seed)
    if history is not None:
        require(history)
    with step(f"looking at {path}"):
        from bioconvert.cli.report_folder import folder_evidence

        evidence = folder_evidence(path, given, history)
    if evidence.kind == "converted":
        evidence = _with_drift(evidence, None if given is None else _drift(path, given), given)
    return _answer(evidence, format, out)


def write_converted(
    folder: Path, given: Samples | None, outcomes: Outcomes, drift: Drift | None, file: Path
) -> None:
    """Write the page about a conversion that was just done."""
    from bioconvert.cli.report_folder import folder_evidence
    from bioconvert.report.html.rendering import render_page

    with step(f"writing {file}"):
        evidence = replace(folder_evidence(folder, given, None), outcomes=outcomes, outcomes_note="")
        write_report(file, render_page(_with_drift(evidence, drift, given)))


def write_planned(prepared: Prepared, costs: CostChange, file: Path) -> None:
    """Write the page about a plan."""
    from bioconvert.cli.report_weights import model_weights
    from bioconvert.report.html.evidence import Evidence
    from bioconvert.report.html.rendering import render_page
    from bioconvert.report.tree import TensorLine

    model, said = prepared.built.model, prepared.described
    named = said["architecture"]
    evidence = Evidence(
        Path(str(said["checkpoint"] or named or type(model).__name__)).name,
        "planned",
        costs,
        architecture=None if named is None else str(named),
        rules=({"name": said["rules"]},),
        outcomes=prepared.plan,
        tensors=tuple(
            TensorLine(name, str(tensor.dtype), tuple(tensor.shape))
            for name, tensor in (*model.named_parameters(), *model.named_buffers())
        ),
        weights=model_weights(model, [outcome.path for outcome in prepared.plan.applied]),
        drift_note=_PLANNED,
    )
    with step(f"writing {file}"):
        write_report(file, render_page(evidence))


def _with_drift(evidence: Evidence, drift: Drift | None, given: Samples | None) -> Evidence:
    from bioconvert.report.html.evidence import Drifted

    if drift is None:
        return replace(evidence, drift_note=_NO_INPUTS)
    return replace(evidence, drift=Drifted(drift.layers, drift.output, _named(given)))


def _named(given: Samples | None) -> str:
    if given is None:
        return "the calibration samples"
    if given.file is not None:
        return f"the inputs in {given.file.name}"
    return f"random numbers of shape {shape(given.shape)} (seed {given.seed})"


def _drift(folder: Path, given: Samples) -> Drift:
    from bioconvert import api

    model = load_ours(folder)
    with step("measuring the drift"):
        return api.drift(model, given.arguments(model))


def _answer(evidence: Evidence, format: Format, out: Path | None) -> Answer:
    from bioconvert.report.html.rendering import numbers_of

    text = _drawn(evidence, format)
    if out is not None:
        with step(f"writing {out}"):
            write_report(out, text)
    data = {"out": None if out is None else str(out), "format": format.value, "report": numbers_of(evidence)}
    if out is None:
        return Answer(data, lambda: [text.rstrip("\n")])
    return Answer(data, lambda: _said(evidence, out))


def _drawn(evidence: Evidence, format: Format) -> str:
    from bioconvert.report import diagram
    from bioconvert.report.html.rendering import render_page
    from bioconvert.report.html.structure import structure_of

    if format is Format.html:
        return render_page(evidence)
    draw: Callable[..., str] = {Format.mermaid: diagram.mermaid, Format.dot: diagram.dot}[format]
    return draw(structure_of(evidence.costs, evidence.tensors))


def _said(evidence: Evidence, out: Path) -> list[str]:
    from bioconvert.report.html.words import lead_of

    return [*lead_of(evidence), f"written to {out}"]
