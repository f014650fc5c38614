"""Yat attention, forward and backward, against torch's attention and nmn's."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

import bioconvert as bc

from .harness import Bar, Contender, Figure, Result, Timing, alternate, installed, ratio

SECONDS_PER_CASE = 12.0
OURS, BLOCKED, PLAIN, PEER = "YatMultiheadAttention", "in blocks of 128", "nn.MultiheadAttention", "nmn"
BLOCK_SIZE = 128
OVER_PEER = Bar(">=", 1.0)
MEMORY_OVER_PEER = Bar("<=", 0.6)


@dataclass(frozen=True)
class Sequences:
    """Self-attention over a batch of sequences."""

    batch: int
    length: int
    width: int
    heads: int

    def __str__(self) -> str:
        """The shape as the tables show it."""
        return f"({self.batch}, {self.length}, {self.width}, {self.heads} heads)"


SHAPES = (
    Sequences(32, 65, 64, 4),
    Sequences(8, 128, 256, 8),
    Sequences(8, 197, 384, 6),
    Sequences(4, 512, 256, 8),
    Sequences(1, 1024, 512, 8),
)


def run(*, quick: bool = False) -> Result:
    """Time every shape, and measure what is kept for backward."""
    timings: list[Timing] = []
    figures: list[Figure] = []
    for shape in SHAPES:
        subjects = {name: _prepared(make, shape) for name, make in _makers(shape).items()}
        contenders = [Contender(name, _step, prepare) for name, prepare in subjects.items()]
        taken = alternate(str(shape), contenders, budget=SECONDS_PER_CASE, quick=quick)
        timings += taken.values()
        kept = {name: _kept(prepare()) for name, prepare in subjects.items()}
        figures.append(ratio(taken, OURS, PLAIN))
        if PEER in taken:
            figures.append(ratio(taken, PEER, OURS, bar=OVER_PEER))
            share = kept[OURS] / kept[PEER]
            figures.append(Figure(f"{shape}: kept, {OURS} / {PEER}", share, "x", MEMORY_OVER_PEER))
        figures.append(Figure(f"{shape}: kept, {BLOCKED} / {OURS}", kept[BLOCKED] / kept[OURS], "x"))
    notes = () if installed(PEER) else (f"{PEER} is not installed: left out.",)
    return Result("attention", tuple(timings), tuple(figures), notes)


def _makers(shape: Sequences) -> dict[str, Callable[[], nn.Module]]:
    sizes = shape.width, shape.heads
    makers: dict[str, Callable[[], nn.Module]] = {
        OURS: lambda: _OnItself(bc.layers.YatMultiheadAttention(*sizes, batch_first=True)),
        BLOCKED: lambda: _OnItself(
            bc.layers.YatMultiheadAttention(*sizes, batch_first=True, block_size=BLOCK_SIZE)
        ),
        PLAIN: lambda: _OnItself(nn.MultiheadAttention(*sizes, batch_first=True)),
    }
    if installed(PEER):
        from nmn.torch import MultiHeadYatAttention

        # The same scores: a learnt factor, which it has only where no constant is asked for.
        makers[PEER] = lambda: MultiHeadYatAttention(*sizes)
    return makers


class _OnItself(nn.Module):
    """Self-attention without weights, as a block of a Transformer calls it."""

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        self.attention = attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.attention(x, x, x, need_weights=False)[0]
        return output


Subject = tuple[nn.Module, torch.Tensor, torch.Tensor]


def _prepared(make: Callable[[], nn.Module], shape: Sequences) -> Callable[[], Subject]:
    def prepare() -> Subject:
        torch.manual_seed(0)
        model = make()
        given = torch.randn(shape.batch, shape.length, shape.width, requires_grad=True)
        return model, given, torch.randn_like(given)

    return prepare


def _step(subject: Subject) -> tuple[torch.Tensor, ...]:
    """One forward, and one backward to the input and to every parameter."""
    model, given, onward = subject
    return torch.autograd.grad(model(given), (given, *model.parameters()), onward)


def _kept(subject: Subject) -> int:
    """Bytes of what one forward keeps for backward, each memory once, parameters and input not."""
    model, given, _ = subject
    storages: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = model(given)
    for held in chain(model.parameters(), (given,)):
        storages.pop(held.untyped_storage().data_ptr(), None)
    del output
    return sum(storages.values())
