"""What a page is made from: gathered by whoever knows checkpoints and models, a page itself reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bioconvert.report.drift import Entry
from bioconvert.report.tree import TensorLine

if TYPE_CHECKING:
    import numpy as np

    from bioconvert.core.results import Outcomes
    from bioconvert.surgery.costs import CostChange

Kind = Literal["converted", "planned", "plain"]


@dataclass(frozen=True, slots=True)
class Weights:
    """Some values of a tensor, and of the one that was there before.

    Args:
        path: dotted name of the module that holds it.
        name: its name in the module.
        count: number of values that it has.
        new: some of them, spread over the whole.
        original: the same ones of the original's tensor; ``None`` where conversion left it as it was.
    """

    path: str
    name: str
    count: int
    new: np.ndarray
    original: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Growth:
    """What an organism lived through.

    Args:
        record: what is known of all its nodes together, as the model keeps it.
        nodes: the records of those that live.
    """

    record: Mapping[str, Any]
    nodes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Drifted:
    """How far outputs moved.

    Args:
        layers: one entry for each replaced layer, in the order of the model.
        output: that of the model's own output.
        inputs: on what, in words.
    """

    layers: tuple[Entry, ...]
    output: Entry
    inputs: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a conversion.

    Args:
        name: of the folder, file or architecture.
        kind: whether it is a converted model, a plan, or neither.
        costs: the modules with their parameters, before and after.
        architecture: what the model is built from, if that is known.
        rules: the resolved rule sets.
        outcomes: what was done and what was not; ``None`` where that isn't known.
        outcomes_note: what to know of them.
        tensors: those of the model as it is.
        weights: values for histograms.
        drift: how far outputs moved; ``None`` where there were no inputs.
        drift_note: why there is none.
        history: notes of plasticity, as ``History.to_dict`` gives them.
        growth: what an organism lived through.
        facts: what else a manifest says, in words.
        ties: groups of names that stand for one tensor.
    """

    name: str
    kind: Kind
    costs: CostChange
    architecture: str | None = None
    rules: tuple[Mapping[str, Any], ...] = ()
    outcomes: Outcomes | None = None
    outcomes_note: str = ""
    tensors: tuple[TensorLine, ...] = ()
    weights: tuple[Weights, ...] = ()
    drift: Drifted | None = None
    drift_note: str = ""
    history: tuple[Mapping[str, Any], ...] = ()
    growth: Growth | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    ties: tuple[tuple[str, ...], ...] = ()
