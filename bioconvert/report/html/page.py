"""All that a page shows, as frozen values: what the template draws and the JSON in it says."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from bioconvert.report.html.coverage import Coverage, coverage_of
from bioconvert.report.html.evidence import Evidence
from bioconvert.report.html.growing import Grown, grown_of, timeline_of
from bioconvert.report.html.heat_map import HeatMap, heat_maps_of
from bioconvert.report.html.histograms import Histogram, histograms_of
from bioconvert.report.html.moved import Movement, movement_of
from bioconvert.report.html.sizes import Sizes, sizes_of
from bioconvert.report.html.structure import Structure, structure_of
from bioconvert.report.html.words import drift_said, lead_of, meanings_of, rule_names, usage_of
from bioconvert.report.text import one_line, short

SCHEMA_VERSION = 1
"""Of the JSON in a page."""
_TIES, _TIED = 20, 6
_FACT = 400
"""Characters of a fact at most."""


@dataclass(frozen=True, slots=True)
class Page:
    """The numbers and words of a page.

    Args:
        name: of the folder, file or architecture.
        kind: ``"converted"``, ``"planned"`` or ``"plain"``.
        lead: two sentences: what was done, and what it costs.
        meanings: what the kinds of changes are.
        rules: names of the rule sets.
        structure: the modules before and after.
        coverage: what the rules did; ``None`` where that isn't known.
        sizes: parameters, bytes and operations.
        histograms: distributions of weights.
        more_histograms: tensors that have none here.
        drift: how far outputs moved; ``None`` where there were no inputs.
        drift_note: what that means, or why there is none.
        plasticity: numbers of weights while they were trained.
        growth: the life of an organism; ``None`` where there is none.
        facts: what else a manifest says.
        ties: names that stand for one tensor.
        usage: what it is for, and lines of code.
    """

    name: str
    kind: str
    lead: tuple[str, str]
    meanings: tuple[str, ...]
    rules: tuple[str, ...]
    structure: Structure
    coverage: Coverage | None
    sizes: Sizes
    histograms: tuple[Histogram, ...]
    more_histograms: int
    drift: Movement | None
    drift_note: str
    plasticity: tuple[HeatMap, ...]
    growth: Grown | None
    facts: tuple[tuple[str, str], ...]
    ties: tuple[str, ...]
    usage: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, object]:
        """Give the numbers as values that JSON can hold."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def page_of(evidence: Evidence) -> Page:
    """Work out what a page shows."""
    histograms = histograms_of(evidence.weights)
    growth, outcomes, drift = evidence.growth, evidence.outcomes, evidence.drift
    owners = [module.path for module in evidence.costs.before.modules if module.parameters]
    return Page(
        name=short(evidence.name),
        kind=evidence.kind,
        lead=lead_of(evidence),
        meanings=meanings_of(evidence),
        rules=tuple(map(short, rule_names(evidence.rules))),
        structure=structure_of(evidence.costs, evidence.tensors),
        coverage=None if outcomes is None else coverage_of(outcomes, owners, evidence.outcomes_note),
        sizes=sizes_of(evidence.costs),
        histograms=histograms,
        more_histograms=len(evidence.weights) - len(histograms),
        drift=None if drift is None else movement_of(drift),
        drift_note=evidence.drift_note
        if drift is None
        else drift_said(drift.output.relative, drift.output.cosine),
        plasticity=heat_maps_of(evidence.history),
        growth=None if growth is None else grown_of(growth),
        facts=tuple((one_line(name), one_line(said)[:_FACT]) for name, said in evidence.facts.items()),
        ties=tuple(" = ".join(map(short, group[:_TIED])) for group in evidence.ties[:_TIES]),
        usage=usage_of(evidence),
    )


def timeline(evidence: Evidence) -> str:
    """Draw the life of the organism as SVG; empty where there is none."""
    if evidence.growth is None or not evidence.growth.record.get("history"):
        return ""
    costs = evidence.costs
    return timeline_of(evidence.growth, (costs.after or costs.before).parameters)
