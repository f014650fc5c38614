"""Models in an importable module, each converted in a way that a fresh process must be able to repeat."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from reading_models import Positional, Product
from small_models import Cnn, Mlp, Optional, OwnForward, Tied, seeded
from torch import nn

import bioconvert as bc

ROWS = torch.linspace(-1, 1, 12).view(3, 4)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
SEQUENCE = torch.linspace(-1, 1, 24).view(2, 3, 4)
TOKENS = torch.arange(6).view(2, 3)


class Composed(nn.Module):
    """Holds a layer with a forward of its own."""

    def __init__(self):
        super().__init__()
        self.own, self.plain = OwnForward(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        """Pass x through both layers."""
        return self.plain(torch.relu(self.own(x)))


class Attending(nn.Module):
    """An encoder layer and attention, both of which read their layers' weights."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        """Pass x through both."""
        x = self.encoder(x)
        return self.attention(x, x, x, need_weights=False)[0]


class Reading(nn.Module):
    """Two containers that read the weight of a layer of theirs."""

    def __init__(self):
        super().__init__()
        self.certain, self.product = Positional(), Product()

    def forward(self, x):
        """Pass x through both."""
        return self.product(self.certain(x))


def rule(family: str, name: str, *links: str, subclasses: bool = False, **replace: Any) -> dict[str, Any]:
    """Give a rule that replaces the layers of a family."""
    match: dict[str, Any] = {"type": family, "subclasses": subclasses}
    if links:
        match["followed_by"] = list(links)
    return {"match": match, "replace": {"with": name, **replace}, "optional": True}


def rules(*given: dict[str, Any]) -> dict[str, Any]:
    """Give a rule set."""
    return {"version": 1, "rules": list(given)}


LINEAR = rules(rule("linear", "YatLinear", subclasses=True))
ACTIVATED = ("linear", "YatLinear", "ReLU|GELU")
REWRITTEN = rules(rule(*ACTIVATED, activation="drop"))
FOLDED = rules(rule("conv", "YatConv2d", "BatchNorm2d", "ReLU", activation="drop", norm="fold"))
STEPS = {"morph": {"steps": 10}}
MORPHING = rules(rule("linear", "YatLinear", subclasses=True, **STEPS))
MORPHING_CHAINS = rules(rule(*ACTIVATED, activation="drop", **STEPS))

Case = tuple[Callable[[], nn.Module], tuple[torch.Tensor, ...], Any, bool]
CASES: dict[str, Case] = {
    "layers": (Mlp, (ROWS,), "yat-all", True),
    "tied": (Tied, (TOKENS,), "yat-all", False),
    "rewritten": (Optional, (ROWS,), REWRITTEN, False),
    "rewritten and fitted": (Mlp, (ROWS,), REWRITTEN, True),
    "shared activation": (Cnn, (IMAGES,), "yat-cnn", True),
    "folded": (Cnn, (IMAGES,), FOLDED, True),
    "redirected": (Reading, (ROWS,), LINEAR, True),
    "owned": (Attending, (SEQUENCE,), LINEAR, False),
    "owned and fitted": (Attending, (SEQUENCE,), LINEAR, True),
    "composed": (Composed, (ROWS,), LINEAR, False),
    "morphing": (Mlp, (ROWS,), MORPHING, False),
    "morphing chains": (Mlp, (ROWS,), MORPHING_CHAINS, True),
    "morphing, redirected": (Reading, (ROWS,), MORPHING, True),
    "morphing, owned": (Attending, (SEQUENCE,), MORPHING, False),
    "morphing, composed": (Composed, (ROWS,), MORPHING, False),
}
"""How each model is built, what it runs on, the rules, and whether layers are fitted to that."""


def converted(case: str) -> nn.Module:
    """Build and convert the model of a case; one that morphs has gone three steps."""
    make, inputs, rule_set, data = CASES[case]
    model = bc.convert(seeded(make), rule_set, example_inputs=inputs if data else None)
    if "morphing" in case:
        for _ in range(3):
            bc.morph_step(model)
    return model


def outputs(model: nn.Module, case: str) -> list[torch.Tensor]:
    """Give a model's outputs in training, evaluation, and evaluation without gradients."""
    inputs = CASES[case][1]
    model, found = copy.deepcopy(model), []  # a norm in training would change its statistics
    for training, grad in ((True, True), (False, True), (False, False)):
        torch.manual_seed(0)
        with torch.set_grad_enabled(grad):
            found.append(model.train(training)(*inputs).detach())
    return found
