"""Planning for a model of a thousand layers, without its graph and with it, against torch's own tracing."""

import torch
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.api import Plan

from .harness import Bar, Contender, Figure, Result, alternate, ratio

BLOCKS, LAYERS, SIZE = 250, 4, 8
SECONDS = 60.0
UNTRACED, TRACED, TORCH = "plan, no graph", "plan, traced", "fx.symbolic_trace"
MOST_MILLISECONDS = Bar("<=", 300.0)
MOST_TRACES = Bar("<=", 3.0)
LINEARS = {"match": {"type": "Linear"}, "replace": {"with": "YatLinear"}}
CHAINS = {
    "match": {"type": "Linear", "followed_by": "ReLU"},
    "replace": {"with": "YatLinear", "activation": "drop"},
}


class Block(nn.Module):
    """Four layers with an activation behind each, two of them as functions."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(SIZE, SIZE) for _ in range(LAYERS))
        self.relu = nn.ReLU()

    def forward(self, x):
        y = F.relu(self.a(x))
        y = self.relu(self.b(y))
        y = self.c(y).relu()
        return x + self.relu(self.d(y))


def run(*, quick: bool = False) -> Result:
    """Time a plan by class alone, a plan by data flow, and a trace of the model."""
    contenders = [
        Contender(UNTRACED, lambda model: _all(bc.plan(model, _rules(LINEARS))), _model, fresh=True),
        Contender(TRACED, lambda model: _all(bc.plan(model, _rules(CHAINS))), _model, fresh=True),
        Contender(TORCH, torch.fx.symbolic_trace, _model, fresh=True),
    ]
    taken = alternate(f"{BLOCKS * LAYERS:,} Linears", contenders, budget=SECONDS, quick=quick)
    figures = [
        Figure(f"{UNTRACED}: median", taken[UNTRACED].median * 1e3, "ms", MOST_MILLISECONDS),
        ratio(taken, TRACED, TORCH, bar=MOST_TRACES),
    ]
    return Result("plan", tuple(taken.values()), tuple(figures), ())


def _rules(rule: dict[str, object]) -> dict[str, object]:
    return {"version": 1, "rules": [rule]}


def _model() -> nn.Module:
    return nn.Sequential(*(Block() for _ in range(BLOCKS)))


def _all(plan: Plan) -> None:
    if len(plan.applied) != BLOCKS * LAYERS:
        raise RuntimeError(f"every one of the {BLOCKS * LAYERS} layers must be planned for")
