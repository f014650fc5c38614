"""Converting a trained network to Yat layers in several ways, and what is left of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

import bioconvert as bc
from bioconvert.layers import YatConv2d, YatLinear

from .digits import Digits
from .training import accuracy, r_squared, train

METHODS = ("re-init", "copy", "closed form", "calibrate")
TUNING_STEPS = 100
TUNING_RATE = 3e-4
_INIT = {"re-init": "keep", "copy": "keep", "closed form": "closed_form", "calibrate": "calibrate"}


class Outcome(NamedTuple):
    """A converted network: accuracies in percent, and the R² of its logits against the original's."""

    at_once: float
    r_squared: float
    tuned: float


def rules(method: str) -> dict[str, object]:
    """Give the rules that convert every hidden layer, linear or convolution, and drop its activation."""
    replace = {"activation": "drop", "init": _INIT[method]}
    return {
        "version": 1,
        "rules": [
            {
                "match": {"type": kind, "followed_by": "ReLU|GELU"},
                "replace": {"with": f"Yat{kind}", **replace},
                "optional": True,
            }
            for kind in ("Linear", "Conv2d")
        ],
    }


def converted(model: nn.Module, method: str, sample: torch.Tensor) -> nn.Module:
    """Give a converted copy of a trained network.

    Args:
        model: the network.
        method: one of :data:`METHODS`; ``"re-init"`` draws the layers anew, Xavier normal.
        sample: calibration inputs; ``"re-init"`` and ``"copy"`` don't see them.
    """
    seen = [sample] if method in ("closed form", "calibrate") else None
    copied = bc.convert(copy.deepcopy(model), rules(method), calibration=seen)
    if method == "re-init":
        for layer in copied.modules():
            if isinstance(layer, (YatLinear, YatConv2d)):
                layer.reset_parameters()
    return copied


def trained(make: Callable[[], nn.Module], data: Digits, seed: int, steps: int) -> nn.Module:
    """Give a trained network."""
    torch.manual_seed(seed)
    model = make()
    train(model, data, steps=steps, seed=seed)
    return model


def outcome(model: nn.Module, method: str, data: Digits, samples: int, seed: int, tuning: int) -> Outcome:
    """Convert a network, judge it, train it on for some steps and judge it again."""
    other = converted(model, method, data.inputs[:samples])
    with torch.no_grad():
        explained = r_squared(other(data.test_inputs), model(data.test_inputs))
    return Outcome(accuracy(other, data), explained, tuned(other, data, seed, tuning))


def tuned(model: nn.Module, data: Digits, seed: int, steps: int) -> float:
    """Train a network on for some steps and give its accuracy."""
    train(model, data, steps=steps, seed=seed + 1000, rate=TUNING_RATE)
    return accuracy(model, data)
