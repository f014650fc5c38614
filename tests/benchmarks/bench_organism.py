"""Networks put together from nodes: a chain of twelve before and after a birth at each node, and joins."""

import contextlib
import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from bioconvert.organism import BaseEvolvableModule, DynamicNetwork

from .harness import Bar, Contender, Figure, Result, Timing, alternate, installed, ratio

SECONDS = 10.0
NODES, WIDTH, ROWS = 12, 64, 32
WIDE, WIDE_ROWS = 256, 64
"""A size that people use; layers of 64 take some 9 µs each, of which calling a module is a tenth."""
REPEATS = 20
DEEP, SHALLOW = 6, 3
"""Joins of two parallel nodes each: every one doubles the number of paths."""
_ALL_PATHS = 1 << 30
"""dno stops after 20 steps by default, however many nodes are left."""
OURS, PLAIN, DNO, SUMMED = "bioconvert", "plain modules", "dno", "plain sums"
MOST = Bar("<=", 1.1)
LINEAR = Bar("<=", 2.4)
UNCHANGED = Bar("<=", 0.0)
Run = Callable[[torch.Tensor], Any]


class Sum(nn.Module):
    """What a node and its branch compute together, written by hand."""

    def __init__(self, parent: nn.Module, clone: nn.Module, gate: nn.Parameter):
        super().__init__()
        self.parent = parent
        self.clone = clone
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the gated clone to its parent."""
        return self.parent(x) + self.gate * self.clone(x)


def run(*, quick: bool = False) -> Result:
    """Time the forward of chains and of joins, and measure what births change."""
    torch.manual_seed(0)
    small, wide = torch.randn(ROWS, WIDTH), torch.randn(WIDE_ROWS, WIDE)
    timings: list[Timing] = []
    figures: list[Figure] = []
    with torch.no_grad(), _one_thread():
        for part, x in (
            (_chain, small),
            (_chain, wide),
            (_grown, small),
            (_grown, wide),
            (_recorded, wide),
            (_joins, small),
        ):
            taken, found = part(x, quick=quick)
            timings += taken
            figures += found
    notes = [f"each time is that of {REPEATS} forward passes, on one thread."]
    notes += [] if installed(DNO) else ["dno is not installed here, so that only ours is timed."]
    return Result("organism", tuple(timings), tuple(figures), tuple(notes))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """What a network adds to its modules is Python's; threads that wait for one another would hide it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _chain(x: torch.Tensor, *, quick: bool) -> tuple[list[Timing], list[Figure]]:
    layers = _layers(x)
    runs: dict[str, Run] = {OURS: _ours(layers), PLAIN: nn.Sequential(*layers)}
    if installed(DNO):
        runs[DNO] = _theirs(layers)[0]
    taken = _timed(_named(x), runs, x, quick=quick)
    figures = [ratio(taken, OURS, PLAIN, bar=MOST)]
    figures += [ratio(taken, DNO, OURS)] if DNO in taken else []
    return list(taken.values()), figures


def _grown(x: torch.Tensor, *, quick: bool) -> tuple[list[Timing], list[Figure]]:
    case, layers = f"{_named(x)}, one birth each", _layers(x)
    network = _ours(layers)
    before = network(x)
    summed = _with_births(network)
    figures = [Figure(f"{case}: {OURS}'s outputs changed by", _change(network(x), before), "", UNCHANGED)]
    runs: dict[str, Run] = {OURS: network, SUMMED: summed}
    if installed(DNO):
        runs[DNO], grow = _theirs(layers)
        first = runs[DNO](x)
        for number in range(NODES):
            grow(f"n{number}")
        figures.append(Figure(f"{case}: {DNO}'s outputs changed by", _change(runs[DNO](x), first), ""))
    taken = _timed(case, runs, x, quick=quick)
    figures.append(ratio(taken, OURS, SUMMED, bar=MOST if x.shape[1] == WIDE else None))
    figures += [ratio(taken, DNO, OURS)] if DNO in taken else []
    return list(taken.values()), figures


@torch.enable_grad()  # type: ignore[untyped-decorator]
def _recorded(x: torch.Tensor, *, quick: bool) -> tuple[list[Timing], list[Figure]]:
    """Time what is recorded for a backward pass: a branch reads a copy then."""
    network = _ours(_layers(x))
    runs: dict[str, Run] = {SUMMED: _with_births(network), OURS: network}
    taken = _timed(f"{_named(x)}, one birth each, gradients recorded", runs, x, quick=quick)
    return list(taken.values()), [ratio(taken, OURS, SUMMED, bar=MOST)]


def _with_births(network: DynamicNetwork) -> nn.Sequential:
    """Let each node give birth, and write by hand what they compute then, on the same modules."""
    for name in list(network.members):
        network.organism.grow(name)
    branches = {name: network.organism.seats[f"{name}+1"].branch for name in network.members}
    return nn.Sequential(
        *(
            Sum(member.child_module, branches[name].block.child_module, branches[name].gate)
            for name, member in network.members.items()
        )
    )


def _joins(x: torch.Tensor, *, quick: bool) -> tuple[list[Timing], list[Figure]]:
    """Time networks of joins: ours is to cost twice as much with twice as many, and not as many paths."""
    timings: list[Timing] = []
    figures: list[Figure] = []
    for name, make in {OURS: _ours_joined, DNO: _theirs_joined}.items():
        if name == DNO and not installed(DNO):
            continue
        runs = {f"{count} joins": make(count) for count in (DEEP, SHALLOW)}
        taken = _timed(f"joins, {name}", runs, x, quick=quick)
        timings += taken.values()
        bar = LINEAR if name == OURS else None
        figures.append(ratio(taken, f"{DEEP} joins", f"{SHALLOW} joins", bar=bar))
    return timings, figures


def _layers(x: torch.Tensor) -> list[nn.Linear]:
    return [nn.Linear(x.shape[1], x.shape[1]) for _ in range(NODES)]


def _named(x: torch.Tensor) -> str:
    return f"chain of {NODES}, {x.shape[1]} wide"


def _change(after: torch.Tensor, before: torch.Tensor) -> float:
    return (after - before).abs().max().item()


def _timed(case: str, runs: dict[str, Run], x: torch.Tensor, *, quick: bool) -> dict[str, Timing]:
    def repeated(run: Run, _: object) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            for _ in range(REPEATS):
                run(x)

    contenders = [Contender(name, partial(repeated, each)) for name, each in runs.items()]
    return alternate(case, contenders, budget=SECONDS, quick=quick)


def _ours(layers: list[nn.Linear]) -> DynamicNetwork:
    network = DynamicNetwork()
    for number, layer in enumerate(layers):
        network.add_layer(layer, [f"n{number - 1}"] if number else None, name=f"n{number}")
    return network.eval()


def _ours_joined(count: int) -> DynamicNetwork:
    network, parents = DynamicNetwork(), []
    for _ in range(count):
        parents = [network.add_layer(nn.Linear(WIDTH, WIDTH), parents) for _ in range(2)]
    assert all(isinstance(member, BaseEvolvableModule) for member in network.members.values())
    return network.eval()


def _theirs(layers: list[nn.Linear]) -> tuple[Run, Callable[[str], None]]:
    import dno

    config = dno.DnoConfig(training_phase="adaptive", d_model=layers[0].in_features)
    network = dno.DynamicNetwork(dno.OrganismManager(), config)
    for number, layer in enumerate(layers):
        _add(network, layer, f"n{number}", [f"n{number - 1}"] if number else None)
    engine = dno.GrowthEngine(network, config)

    def grow(name: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            engine.inject_layer(name, f"expert_{name}")

    return network.eval(), grow


def _theirs_joined(count: int) -> Run:
    import dno

    network = dno.DynamicNetwork(dno.OrganismManager(), dno.DnoConfig(d_model=WIDTH))
    for number in range(count):
        parents = [f"n{number - 1}{side}" for side in "ab"] if number else None
        for side in "ab":
            _add(network, nn.Linear(WIDTH, WIDTH), f"n{number}{side}", parents)
    return partial(network.eval(), max_steps=_ALL_PATHS)


def _add(network: Any, layer: nn.Module, name: str, parents: list[str] | None) -> None:
    import dno

    member = dno.BaseEvolvableModule(layer)
    member.dynamic_id = name
    network.add_layer(member, parents=parents)
