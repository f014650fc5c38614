"""Yat layers, forward and backward, against the blocks they replace and against nmn."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import bioconvert as bc

from .harness import Bar, Contender, Figure, Result, Timing, alternate, installed, ratio

SECONDS_PER_CASE = 12.0
OURS_LINEAR, OURS_CONV = "YatLinear", "YatConv2d"
PLAIN_LINEAR, PLAIN_CONV = "Linear+GELU", "Conv+BN+ReLU"
PEER = "nmn"

LINEARS = ((1024, 768, 3072), (256, 512, 512), (4096, 256, 256))
LINEAR_AT_PLAIN = (1024, 768, 3072)
LINEAR_OVER_PLAIN = Bar("<=", 1.15)
LINEAR_OVER_PEER = Bar(">=", 1.3)

CONV_OVER_PLAIN = Bar("<=", 1.2)
CONV_OVER_PEER = Bar(">=", 1.15)


@dataclass(frozen=True)
class Conv:
    """A 3×3 convolution on a square image, padded by one."""

    batch: int
    into: int
    out: int
    side: int
    stride: int = 1

    def __str__(self) -> str:
        """The shape as the tables show it."""
        stride = f", stride {self.stride}" if self.stride != 1 else ""
        return f"({self.batch}, {self.into}→{self.out}, {self.side}×{self.side}{stride})"


CONVS = (
    Conv(8, 64, 64, 32),
    Conv(8, 3, 32, 32),
    Conv(8, 32, 64, 28),
    Conv(8, 128, 128, 16),
    Conv(8, 64, 128, 32, 2),
)
CONV_AT_PLAIN = CONVS[0]


def run(*, quick: bool = False) -> Result:
    """Time every shape."""
    timings: list[Timing] = []
    figures: list[Figure] = []
    for shape in LINEARS:
        taken = _linear(shape, quick)
        timings += taken.values()
        plain_bar = LINEAR_OVER_PLAIN if shape == LINEAR_AT_PLAIN else None
        peer_bar = LINEAR_OVER_PEER if shape == LINEAR_AT_PLAIN else None
        figures.append(ratio(taken, OURS_LINEAR, PLAIN_LINEAR, bar=plain_bar))
        if PEER in taken:
            figures.append(ratio(taken, PEER, OURS_LINEAR, bar=peer_bar))
    for shape in CONVS:
        taken = _conv(shape, quick)
        timings += taken.values()
        plain_bar = CONV_OVER_PLAIN if shape == CONV_AT_PLAIN else None
        figures.append(ratio(taken, OURS_CONV, PLAIN_CONV, bar=plain_bar))
        if PEER in taken:
            figures.append(ratio(taken, PEER, OURS_CONV, bar=CONV_OVER_PEER))
    notes = () if installed(PEER) else (f"{PEER} is not installed: left out.",)
    return Result("yat", tuple(timings), tuple(figures), notes)


def _linear(shape: tuple[int, int, int], quick: bool) -> dict[str, Timing]:
    batch, into, out = shape
    makers: dict[str, Callable[[], nn.Module]] = {
        OURS_LINEAR: lambda: bc.layers.YatLinear(into, out),
        PLAIN_LINEAR: lambda: nn.Sequential(nn.Linear(into, out), nn.GELU()),
    }
    if installed(PEER):
        from nmn.torch import YatNMN

        makers[PEER] = lambda: YatNMN(into, out)
    return _race(f"({batch}, {into}→{out})", makers, (batch, into), quick)


def _conv(shape: Conv, quick: bool) -> dict[str, Timing]:
    def plain() -> nn.Module:
        conv = nn.Conv2d(shape.into, shape.out, 3, shape.stride, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(shape.out), nn.ReLU())

    makers: dict[str, Callable[[], nn.Module]] = {
        OURS_CONV: lambda: bc.layers.YatConv2d(shape.into, shape.out, 3, shape.stride, 1),
        PLAIN_CONV: plain,
    }
    if installed(PEER):
        from nmn.torch import YatConv2D

        makers[PEER] = lambda: YatConv2D(shape.into, shape.out, 3, shape.stride, 1)
    return _race(str(shape), makers, (shape.batch, shape.into, shape.side, shape.side), quick)


def _race(
    case: str, makers: dict[str, Callable[[], nn.Module]], size: tuple[int, ...], quick: bool
) -> dict[str, Timing]:
    torch.manual_seed(0)
    given = torch.randn(size, requires_grad=True)
    contenders = [Contender(name, _step, _prepared(make, given)) for name, make in makers.items()]
    return alternate(case, contenders, budget=SECONDS_PER_CASE, quick=quick)


Subject = tuple[nn.Module, torch.Tensor, torch.Tensor]


def _prepared(make: Callable[[], nn.Module], given: torch.Tensor) -> Callable[[], Subject]:
    def prepare() -> Subject:
        model = make()
        with torch.no_grad():
            onward = torch.randn_like(model(given))
        return model, given, onward

    return prepare


def _step(subject: Subject) -> tuple[torch.Tensor, ...]:
    """One forward, and one backward to the input and to every parameter."""
    model, given, onward = subject
    return torch.autograd.grad(model(given), (given, *model.parameters()), onward)
