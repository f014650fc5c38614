"""The shapes at which Yat layers are measured, with the makers of every contender."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

import bioconvert as bc

from .harness import installed

OURS, PLAIN, PEER = "Yat", "plain", "nmn"

Maker = Callable[[], nn.Module]


@dataclass(frozen=True)
class Linear:
    """A linear layer, and whether arithmetic rather than the calls themselves is what takes its time."""

    batch: int
    into: int
    out: int
    compute_bound: bool = True

    def __str__(self) -> str:
        """The shape as the tables show it."""
        return f"Linear ({self.batch}, {self.into}→{self.out})"

    @property
    def size(self) -> tuple[int, ...]:
        """The shape of the input."""
        return (self.batch, self.into)

    @property
    def makers(self) -> dict[str, Maker]:
        """What makes the layer, the block it replaces and the peer, if that is installed."""
        makers: dict[str, Maker] = {
            OURS: lambda: bc.layers.YatLinear(self.into, self.out),
            PLAIN: lambda: nn.Sequential(nn.Linear(self.into, self.out), nn.GELU()),
        }
        if installed(PEER):
            from nmn.torch import YatNMN

            makers[PEER] = lambda: YatNMN(self.into, self.out)
        return makers


@dataclass(frozen=True)
class Conv:
    """A convolution on a square image, padded so that its size stays (but for the stride)."""

    batch: int
    into: int
    out: int
    side: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    def __str__(self) -> str:
        """The shape as the tables show it."""
        stride = f", stride {self.stride}" if self.stride != 1 else ""
        groups = f", {self.groups} groups" if self.groups != 1 else ""
        shape = f"{self.batch}, {self.into}→{self.out}, {self.side}×{self.side}"
        return f"Conv {self.kernel}×{self.kernel} ({shape}{stride}{groups})"

    @property
    def size(self) -> tuple[int, ...]:
        """The shape of the input."""
        return (self.batch, self.into, self.side, self.side)

    @property
    def makers(self) -> dict[str, Maker]:
        """What makes the layer, the block it replaces and the peer, if that is installed."""
        given = (self.into, self.out, self.kernel)
        options = {"stride": self.stride, "padding": self.kernel // 2, "groups": self.groups}

        def plain() -> nn.Module:
            conv = nn.Conv2d(*given, **options, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(self.out), nn.ReLU())

        makers: dict[str, Maker] = {OURS: lambda: bc.layers.YatConv2d(*given, **options), PLAIN: plain}
        if installed(PEER):
            from nmn.torch import YatConv2D

            makers[PEER] = lambda: YatConv2D(*given, **options)
        return makers


Case = Linear | Conv

LINEARS = (
    Linear(1024, 768, 3072),
    Linear(4096, 256, 256),
    Linear(256, 512, 512),
    Linear(32, 64, 64, compute_bound=False),
)
CONVS = (
    Conv(8, 3, 32, 32),
    Conv(8, 16, 32, 32),
    Conv(8, 32, 64, 28),
    Conv(8, 64, 64, 32),
    Conv(8, 128, 128, 16),
    Conv(8, 256, 256, 8),
    Conv(8, 64, 128, 32, stride=2),
    Conv(8, 64, 64, 32, groups=4),
    Conv(8, 64, 64, 32, groups=64),
    Conv(8, 64, 128, 32, kernel=1),
    Conv(8, 32, 32, 28, kernel=7),
    Conv(8, 3, 64, 64, kernel=7, stride=2),
)
