"""Every registered mechanism with its options, every kind of layer and optimizer: rows for property suites.

A mechanism that isn't named in :data:`OPTIONS` is a row with its defaults, a new layer is one more in
:data:`LAYERS`. What a mechanism refuses stands in :data:`REFUSED`, with the reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from bioconvert.core import registry
from bioconvert.layers import DynamicConv2d, DynamicLinear, YatConv2d, YatLinear
from bioconvert.plasticity.distributions import Distribution

MAIN = "Linear"
"""The layer that every combination is tried on."""


@dataclass(frozen=True)
class Case:
    """One mechanism with options.

    Args:
        mechanism: its name.
        label: what these options are called.
        options: the options.
        alters: what attaching it changes: ``"nothing"``, the ``"weights"``, their ``"form"``, or the
            ``"function"`` that the layer computes.
        seen: what of its buffers follows from forward passes alone, or counts steps.
        idle: whether it moves no weight and keeps nothing new at its steps.
        lingers: whether, under an optimizer with a count of steps, updates after a step differ, too.
        warms: whether ``warmup`` weakens all that it does to weights.
        constrains: whether it acts on weights of the wrong sign only.
        nan: what the error says where a weight is NaN; empty if each weight is dealt with on its own.
        nan_slope: the same for a gradient.
        late: whether a gradient that isn't finite is told after the step, when the weight isn't either.
        one_sign: whether the weights given to it are positive.
    """

    mechanism: str
    label: str = "defaults"
    options: dict[str, Any] = field(default_factory=dict)
    alters: str = "nothing"
    seen: tuple[str, ...] = ()
    idle: bool = False
    lingers: bool = False
    warms: bool = True
    constrains: bool = False
    nan: str = ""
    nan_slope: str = ""
    late: bool = False
    one_sign: bool = False

    @property
    def id(self) -> str:
        """Its name among the parameters of a test."""
        return f"{self.mechanism}, {self.label}"

    @property
    def by_hand(self) -> bool:
        """Whether the training loop calls it."""
        return self.mechanism == "by_hand"

    @property
    def parameter(self) -> str:
        """What it works on in a layer with a ``weight``."""
        return "synapses" if self.alters == "form" else "weight"


_FINITE = r"'layer\.weight' isn't finite"
_HOLDS_NAN = r"'layer\.weight' holds NaN or infinite weights"
_SLOPE = f"the gradient of {_FINITE}"
OPTIONS: dict[str, tuple[Case, ...]] = {
    "fuzzy_lr": (
        Case("fuzzy_lr"),
        *(
            Case("fuzzy_lr", each, {"distribution": each}, idle=each == "baseline")
            for each in Distribution.__args__
            if each not in ("uniform", "temporal", "activity")
        ),
        Case(
            "fuzzy_lr",
            "temporal",
            {"distribution": "temporal", "decay": 0.5, "decay_every": 2, "noise_every": 3},
        ),
        Case("fuzzy_lr", "activity", {"distribution": "activity"}, seen=("firing",)),
        Case("fuzzy_lr", "compact", {"storage": "compact", "nu": 0.5}),
        Case("fuzzy_lr", "on gradients", {"target": "gradient", "nu": 0.5}),
        Case("fuzzy_lr", "on updates", {"target": "update", "nu": 0.5}),
    ),
    "volume_lr": tuple(
        Case("volume_lr", law, {"law": law}, nan="" if law == "reference" else _FINITE)
        for law in ("normalised", "reference", "kasai", "multiplicative")
    ),
    "crystallize": (
        Case("crystallize", "reference", {"threshold": 0.5}, nan=_FINITE, nan_slope=_SLOPE),
        Case(
            "crystallize",
            "compact",
            {"threshold": 0.5, "recovery": 0.2, "storage": "compact"},
            nan=_FINITE,
            nan_slope=_SLOPE,
        ),
        Case(
            "crystallize",
            "si",
            {"law": "si", "consolidate_every": 2, "strength": 1.0},
            nan=_FINITE,
            nan_slope=_SLOPE,
        ),
        Case(
            "crystallize",
            "ewc",
            {"law": "ewc", "consolidate_every": 2, "strength": 1.0},
            nan=_FINITE,
            nan_slope=_SLOPE,
        ),
        Case("crystallize", "mas", {"law": "mas", "strength": 1.0}, nan=_FINITE, nan_slope=_SLOPE),
    ),
    "rejuvenate": (
        Case(
            "rejuvenate",
            "synapse",
            {"every": 1, "d_re": 0.5},
            nan=_HOLDS_NAN,
            nan_slope=_HOLDS_NAN,
            late=True,
        ),
        Case("rejuvenate", "reference", {"law": "reference", "every": 1, "d_re": 0.5}, warms=False),
        Case("rejuvenate", "reference_v1", {"law": "reference_v1", "every": 1, "d_re": 1.0}),
        Case(
            "rejuvenate",
            "redo",
            {"law": "redo", "every": 1, "tau": 1.0, "maturity": 0},
            seen=("activity", "seen", "age"),
            lingers=True,
        ),
        Case(
            "rejuvenate",
            "continual_backprop",
            {"law": "continual_backprop", "every": 1, "rate": 0.5, "maturity": 0},
            seen=("mean", "utility", "seen", "age"),
            lingers=True,
        ),
    ),
    "dale": tuple(
        Case(
            "dale",
            label,
            {"exempt": "none", **options},
            alters,
            warms=False,
            constrains=True,
            one_sign=alters == "nothing",
        )
        for label, options, alters in (
            ("majority", {}, "weights"),
            ("incoming", {"axis": "incoming"}, "weights"),
            ("exponentiated", {"by": "exponentiated"}, "weights"),
            ("fresh", {"signs": "fresh"}, "weights"),
            ("split", {"signs": "split"}, "nothing"),
        )
    ),
    "l1": (Case("l1", options={"strength": 0.1}),),
    "synaptic_scaling": (
        Case(
            "synaptic_scaling",
            "activity",
            {"window": 1, "beta": 0.5},
            seen=("activity", "target", "calls"),
        ),
        Case("synaptic_scaling", "target", {"target_rate": 5.0, "beta": 0.5}, seen=("activity", "calls")),
        Case("synaptic_scaling", "gradient", {"scope": "gradient"}, nan_slope=_SLOPE),
    ),
    "weight_splitting": (
        Case("weight_splitting", "synapses", {"synapses": 3}, "form"),
        Case("weight_splitting", "reference", {"law": "reference", "synapses": 2}, "function", idle=True),
    ),
    "by_hand": (Case("by_hand"),),
}


def _names() -> list[str]:
    """Name what bioconvert registers: other suites register mechanisms of their own for a while.

    What acts on outputs, and not on synapses, has a suite of its own (tests/replacements).
    """
    others = ("test_", "plain_", "backward_gradient_norm", "compress")
    return [each for each in registry.mechanisms.names() if not each.startswith(others)]


CASES = [case for name in _names() for case in OPTIONS.get(name, (Case(name),))]


class First(nn.Module):
    """Gives the first of the things that a recurrent or attention layer gives."""

    def __init__(self, inner: nn.Module, times: int = 1):
        super().__init__()
        self.inner = inner
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call the layer with the input as each of its arguments."""
        return self.inner(*(x,) * self.times)[0]


def _conv1d_of_transformers() -> nn.Module:
    return pytest.importorskip("transformers.pytorch_utils").Conv1D(4, 5)


@dataclass(frozen=True)
class Layer:
    """A layer with weights, and what it is tried with.

    Args:
        make: makes it; it has 4 outputs.
        shape: of an input.
        head: makes the layer behind it, from 4 inputs to 3 outputs.
        path: the name of the module that holds the weights.
        entries: the number of entries of an embedding, whose inputs are indices; 0 for any other layer.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    head: Callable[[], nn.Module] = lambda: nn.Linear(4, 3)
    path: str = "layer"
    entries: int = 0

    def input(self, seed: int) -> torch.Tensor:
        """Draw an input."""
        generator = torch.Generator().manual_seed(seed)
        if self.entries:
            return torch.randint(self.entries, self.shape, generator=generator)
        return torch.randn(self.shape, generator=generator)


LAYERS = {
    "Linear": Layer(lambda: nn.Linear(5, 4), (6, 5)),
    "Conv1d": Layer(lambda: nn.Conv1d(3, 4, 3), (2, 3, 7), lambda: nn.Conv1d(4, 3, 1)),
    "Conv2d": Layer(lambda: nn.Conv2d(3, 4, 3), (2, 3, 5, 5), lambda: nn.Conv2d(4, 3, 1)),
    "Conv3d": Layer(lambda: nn.Conv3d(2, 4, 2), (2, 2, 3, 3, 3), lambda: nn.Conv3d(4, 3, 1)),
    "Embedding": Layer(lambda: nn.Embedding(6, 4), (5, 3), entries=6),
    "LSTM": Layer(lambda: First(nn.LSTM(5, 4)), (3, 2, 5), path="layer.inner"),
    "MultiheadAttention": Layer(lambda: First(nn.MultiheadAttention(4, 2), 3), (3, 2, 4), path="layer.inner"),
    "Conv1D of transformers": Layer(_conv1d_of_transformers, (6, 5)),
    "YatLinear": Layer(lambda: YatLinear(5, 4), (6, 5)),
    "YatConv2d": Layer(lambda: YatConv2d(3, 4, 3), (2, 3, 5, 5), lambda: nn.Conv2d(4, 3, 1)),
    "DynamicLinear": Layer(lambda: DynamicLinear(5, 4, gate=0.1), (6, 5)),
    "DynamicConv2d": Layer(
        lambda: DynamicConv2d(3, 4, 3, gate=0.1), (2, 3, 5, 5), lambda: nn.Conv2d(4, 3, 1)
    ),
}
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD, momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.05, foreach=False),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.05, foreach=False),
    "Adam, fused": lambda p: torch.optim.Adam(p, lr=0.05, fused=True),
    "Adam, foreach": lambda p: torch.optim.Adam(p, lr=0.05, foreach=True),
}

_NO_UNIT = "no dimension of its .* is that of its output's units"
_NOT_SEEN = "the activity of units is seen for the weight of a linear or convolutional layer, not for the"
_NOT_RENEWED = "replaces units of Linear and Conv layers, not"
_NOT_SPLIT = "can't be split: only the weight of a linear, conv"
_MANY = ("LSTM", "MultiheadAttention")
"""The layers with several weights of their own, none of which is the one of the units that they give out."""
REFUSED: dict[str, dict[str, str]] = {
    "fuzzy_lr, activity": dict.fromkeys(_MANY, _NO_UNIT),
    "synaptic_scaling, activity": dict.fromkeys((*_MANY, "Embedding"), _NOT_SEEN),
    "synaptic_scaling, target": dict.fromkeys((*_MANY, "Embedding"), _NOT_SEEN),
    "weight_splitting, synapses": dict.fromkeys(_MANY, _NOT_SPLIT),
    "weight_splitting, reference": dict.fromkeys((*_MANY, "Embedding"), _NOT_SPLIT),
    "rejuvenate, redo": dict.fromkeys((*_MANY, "Embedding", "Conv1D of transformers"), _NOT_RENEWED),
    "rejuvenate, continual_backprop": dict.fromkeys(
        (*_MANY, "Embedding", "Conv1D of transformers"), _NOT_RENEWED
    ),
}
"""What can't be attached where, by the case's id and the layer's name, with the reason."""


def rows(cases: list[Case], *, layers: bool = True, optimizers: tuple[str, ...] = ("Adam",)) -> list[Any]:
    """Give combinations as parameters of a test: most of them slow, each value of each in some that are not.

    Args:
        cases: the mechanisms.
        layers: whether all layers are tried, or the main one.
        optimizers: those that are tried.
    """
    found = []
    for case in cases:
        for layer in LAYERS if layers else (MAIN,):
            if layer in REFUSED.get(case.id, {}):
                continue
            for optimizer in optimizers:
                odd = (layer != MAIN) + (optimizer != optimizers[0])
                first = case is next(each for each in CASES if each.mechanism == case.mechanism)
                slow = [pytest.mark.slow] if odd > (1 if first else 0) else []
                label = (
                    f"{case.id} - {layer} - {optimizer}" if len(optimizers) > 1 else f"{case.id} - {layer}"
                )
                found.append(pytest.param(case, layer, optimizer, marks=slow, id=label))
    return found


def made(layer: str, case: Case | None = None) -> nn.Sequential:
    """Make a model of a layer and what is behind it; the same each time."""
    torch.manual_seed(0)
    row = LAYERS[layer]
    model = nn.Sequential()
    model.layer, model.between, model.head = row.make(), nn.Tanh(), row.head()
    if case is not None and case.one_sign:
        with torch.no_grad():
            for weight in model.layer.parameters():
                weight.abs_().mul_(0.2)
    return model


def rules(case: Case, layer: str, schedule: dict[str, int] | None = None) -> dict[str, Any]:
    """Give the rules that attach a mechanism to the model's layer."""
    attached = {case.mechanism: {**case.options, **(schedule or {})}}
    to_layer = {"match": {"path": LAYERS[layer].path}}
    if not case.by_hand:
        return {"version": 1, "rules": [{**to_layer, "attach": [attached]}]}
    whole = {"match": {"path": ""}, "attach": [attached]}
    return {"version": 1, "rules": [whole, {**to_layer, "attach": ["fuzzy_lr", "crystallize"]}]}


def option_names(mechanism: str) -> list[str]:
    """Name the options of a mechanism."""
    build = registry.mechanisms.entries(mechanism)[""].build
    parameters = inspect.signature(build).parameters.values()
    return [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
