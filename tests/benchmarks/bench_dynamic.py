"""Convolutions whose kernels are composed from a context, forward and backward, against a plain one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import bioconvert as bc

from .harness import Bar, Contender, Figure, Result, Timing, alternate

SECONDS_PER_CASE = 20.0
BATCH, SIDE, KERNEL, CONTEXT = 8, 32, 3, 16
PLAIN, DELTA, MOBIUS = "nn.Conv2d", "DynamicConv2dDelta", "DynamicConv2dMobius"


@dataclass(frozen=True)
class Channels:
    """One shape, and how many times a plain convolution's time each layer may take on it.

    The bars are a quarter of what the reference took beside a plain convolution.
    """

    inner: int
    outer: int
    bars: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        """The shape as the tables show it."""
        return f"B{BATCH}, {self.inner}→{self.outer}, {SIDE}×{SIDE}, {KERNEL}×{KERNEL}"


SHAPES = (
    Channels(16, 32, ((DELTA, 3.4), (MOBIUS, 6.2))),
    Channels(64, 64, ((DELTA, 22.0), (MOBIUS, 11.0))),
)
Subject = tuple[nn.Module, tuple[torch.Tensor, ...], torch.Tensor]


def run(*, quick: bool = False) -> Result:
    """Time every shape, and judge the least time of each layer against the plain convolution's."""
    timings: list[Timing] = []
    figures: list[Figure] = []
    for shape in SHAPES:
        contenders = [Contender(name, _step, prepare) for name, prepare in _subjects(shape).items()]
        taken = alternate(str(shape), contenders, budget=SECONDS_PER_CASE, quick=quick)
        timings += taken.values()
        least = {name: min(timing.seconds) for name, timing in taken.items()}
        for name, limit in shape.bars:
            label = f"{shape}: least, {name} / {PLAIN}"
            figures.append(Figure(label, least[name] / least[PLAIN], "x", Bar("<=", limit)))
    return Result("dynamic", tuple(timings), tuple(figures))


def _subjects(shape: Channels) -> dict[str, Callable[[], Subject]]:
    sizes = shape.inner, shape.outer
    makers: dict[str, Callable[[], nn.Module]] = {
        PLAIN: lambda: nn.Conv2d(*sizes, KERNEL, padding=1),
        DELTA: lambda: bc.layers.DynamicConv2dDelta(*sizes, CONTEXT, KERNEL, padding=1),
        MOBIUS: lambda: bc.layers.DynamicConv2dMobius(*sizes, CONTEXT, KERNEL, padding=1),
    }
    return {name: lambda make=make, name=name: _subject(make(), name, shape) for name, make in makers.items()}


def _subject(layer: nn.Module, name: str, shape: Channels) -> Subject:
    torch.manual_seed(0)
    x = torch.randn(BATCH, shape.inner, SIDE, SIDE, requires_grad=True)
    given = (x,) if name == PLAIN else (x, torch.randn(BATCH, CONTEXT))
    return layer, given, torch.randn(BATCH, shape.outer, SIDE, SIDE)


def _step(subject: Subject) -> tuple[torch.Tensor, ...]:
    """One forward, and one backward to the input and to every parameter."""
    layer, given, onward = subject
    return torch.autograd.grad(layer(*given), (given[0], *layer.parameters()), onward)
