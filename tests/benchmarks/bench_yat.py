"""Yat layers, forward and backward, against the blocks they replace and against nmn: speed and memory."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .harness import Bar, Contender, Figure, Result, Timing, alternate, installed, ratio
from .saved_memory import saved_bytes
from .yat_cases import CONVS, LINEARS, OURS, PEER, PLAIN, Case, Maker

SECONDS_PER_CASE = 6.0


@dataclass(frozen=True)
class Bars:
    """What one ratio must reach at each case, and in the median of the cases."""

    each: Bar | None
    median: Bar | None = None


LINEAR_OVER_PLAIN = Bars(each=Bar("<=", 1.10))
PEER_OVER_LINEAR = Bars(each=Bar(">=", 1.3))
CONV_OVER_PLAIN = Bars(each=Bar("<=", 1.25), median=Bar("<=", 1.15))
PEER_OVER_CONV = Bars(each=Bar(">=", 1.15), median=Bar(">=", 1.5))
SAVED_OVER_PEER = Bar("<=", 0.6)

Races = Mapping[Case, Mapping[str, Timing]]


def run(*, quick: bool = False) -> Result:
    """Time every shape, and weigh what is kept for its backward."""
    linears = {case: _race(case, quick) for case in LINEARS if case.compute_bound}
    small = {case: _race(case, quick) for case in LINEARS if not case.compute_bound}
    convs = {case: _race(case, quick) for case in CONVS}
    figures = [
        *_ratios(linears, OURS, PLAIN, LINEAR_OVER_PLAIN),
        *_ratios(small, OURS, PLAIN, Bars(each=None)),
        *_ratios(convs, OURS, PLAIN, CONV_OVER_PLAIN),
    ]
    if installed(PEER):
        figures += _ratios(linears, PEER, OURS, PEER_OVER_LINEAR)
        figures += _ratios(small, PEER, OURS, Bars(each=None))
        figures += _ratios(convs, PEER, OURS, PEER_OVER_CONV)
        figures += [_saved(case) for case in (*LINEARS, *CONVS)]
    timings = [
        timing for race in (linears, small, convs) for taken in race.values() for timing in taken.values()
    ]
    blocks = "plain is Linear+GELU, or Conv+BN+ReLU."
    notes = (blocks,) if installed(PEER) else (blocks, f"{PEER} is not installed: left out.")
    return Result("yat", tuple(timings), tuple(figures), notes)


def _race(case: Case, quick: bool) -> dict[str, Timing]:
    given = _given(case)
    contenders = [Contender(name, _step, _prepared(make, given)) for name, make in case.makers.items()]
    return alternate(str(case), contenders, budget=SECONDS_PER_CASE, quick=quick)


def _ratios(races: Races, above: str, below: str, bars: Bars) -> list[Figure]:
    each = [ratio(taken, above, below, bar=bars.each) for taken in races.values()]
    if bars.median is None:
        return each
    return [*each, _median(each, f"median of {len(each)} convolutions: {above} / {below}", bars.median)]


def _median(figures: Sequence[Figure], name: str, bar: Bar) -> Figure:
    return Figure(name, statistics.median(figure.value for figure in figures), "x", bar)


def _saved(case: Case) -> Figure:
    given = _given(case)
    ours, peers = (saved_bytes(case.makers[name](), given) for name in (OURS, PEER))
    return Figure(f"{case}: saved, {OURS} / {PEER}", ours / peers, "x", SAVED_OVER_PEER)


def _given(case: Case) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(case.size, requires_grad=True)


Subject = tuple[nn.Module, torch.Tensor, torch.Tensor]


def _prepared(make: Maker, given: torch.Tensor) -> Callable[[], Subject]:
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
