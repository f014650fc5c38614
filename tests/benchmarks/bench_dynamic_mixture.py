"""Dynamic layers that mix kernels, forward and backward, against torch's layers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import bioconvert as bc

from .harness import Bar, Contender, Figure, Result, Timing, alternate, ratio

SECONDS_PER_CASE = 10.0
PLAIN, CLOSED, MOVED = "plain", "gate 0", "gate moved"
AT_CLOSED, AT_MOVED = Bar("<=", 1.8), Bar("<=", 1.5)


@dataclass(frozen=True)
class Case:
    """One shape: a layer of torch's, the dynamic one, and what they are given."""

    name: str
    plain: Callable[[], nn.Module]
    dynamic: Callable[..., nn.Module]
    given: tuple[int, ...]
    judged: bool = False


def _convolution(
    batch: int, inputs: int, outputs: int, side: int, kernel: int, *, judged: bool = False
) -> Case:
    sizes = inputs, outputs, kernel
    return Case(
        f"B{batch}, {inputs}→{outputs}, {side}×{side}, {kernel}×{kernel}",
        lambda: nn.Conv2d(*sizes, padding=kernel // 2),
        lambda **options: bc.layers.DynamicConv2d(*sizes, padding=kernel // 2, **options),
        (batch, inputs, side, side),
        judged,
    )


def _linear(*batch: int, inputs: int, outputs: int) -> Case:
    return Case(
        f"{'×'.join(map(str, batch))}, {inputs}→{outputs}",
        lambda: nn.Linear(inputs, outputs),
        lambda **options: bc.layers.DynamicLinear(inputs, outputs, **options),
        (*batch, inputs),
    )


CASES = (
    _convolution(8, 64, 64, 32, 3, judged=True),
    _convolution(8, 16, 32, 32, 3),
    _convolution(8, 64, 64, 32, 1),
    _convolution(32, 128, 128, 14, 3),
    _linear(64, inputs=512, outputs=512),
    _linear(8, 197, inputs=384, outputs=384),
)


def run(*, quick: bool = False) -> Result:
    """Time every case."""
    timings: list[Timing] = []
    figures: list[Figure] = []
    for case in CASES:
        makers = {
            PLAIN: case.plain,
            CLOSED: case.dynamic,
            MOVED: lambda case=case: case.dynamic(gate=0.1),
        }
        contenders = [Contender(name, _step, _prepared(make, case)) for name, make in makers.items()]
        taken = alternate(case.name, contenders, budget=SECONDS_PER_CASE, quick=quick)
        timings += taken.values()
        for name, bar in ((CLOSED, AT_CLOSED), (MOVED, AT_MOVED)):
            figures.append(ratio(taken, name, PLAIN, bar=bar if case.judged else None))
    return Result("dynamic-mixture", tuple(timings), tuple(figures))


Subject = tuple[nn.Module, torch.Tensor, torch.Tensor]


def _prepared(make: Callable[[], nn.Module], case: Case) -> Callable[[], Subject]:
    def prepare() -> Subject:
        torch.manual_seed(0)
        layer = make()
        given = torch.randn(case.given, requires_grad=True)
        return layer, given, torch.randn_like(layer(given))

    return prepare


def _step(subject: Subject) -> tuple[torch.Tensor, ...]:
    """One forward, and one backward to the input and to every parameter."""
    layer, given, onward = subject
    return torch.autograd.grad(layer(given), (given, *layer.parameters()), onward)
