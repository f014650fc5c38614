"""Times contenders side by side in one process and judges the ratios of their medians."""

import gc
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich import box
from rich.console import Console
from rich.table import Table

OUTPUT = Path("benchmark-results")
WARM_UP_ROUNDS = 3
FEWEST_ROUNDS, MOST_ROUNDS = 9, 101
QUICK_ROUNDS = 3
WIDTH = 80


@dataclass(frozen=True)
class Contender:
    """One thing to time: `run` is timed on what `prepare` returns, and `prepare` is not timed."""

    name: str
    run: Callable[[Any], object]
    prepare: Callable[[], object] = lambda: None
    fresh: bool = False
    """Whether `prepare` builds anew for every round, instead of once."""


@dataclass(frozen=True)
class Timing:
    """Seconds that one contender took in each round of one case."""

    case: str
    contender: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The seconds that a quarter and three quarters of the rounds stayed below."""
        lower, _, upper = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return lower, upper


@dataclass(frozen=True)
class Bar:
    """What a figure must reach."""

    sense: Literal["<=", ">="]
    limit: float

    def admits(self, value: float) -> bool:
        """Whether the value is on the right side of the limit."""
        return value <= self.limit if self.sense == "<=" else value >= self.limit


@dataclass(frozen=True)
class Figure:
    """One number to report, and the bar it must reach, if it has one."""

    name: str
    value: float
    unit: str
    bar: Bar | None = None

    @property
    def verdict(self) -> str:
        """`bar met`, `missed` or `no bar`."""
        if self.bar is None:
            return "no bar"
        return "bar met" if self.bar.admits(self.value) else "missed"


@dataclass(frozen=True)
class Result:
    """All that one benchmark measured."""

    name: str
    timings: tuple[Timing, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()


def alternate(
    case: str, contenders: Sequence[Contender], *, budget: float, quick: bool = False
) -> dict[str, Timing]:
    """Run the contenders in turn (A, B, C, A, B, C, …) after a warm-up, for about `budget` seconds."""
    ready = {each.name: each.prepare() for each in contenders if not each.fresh}
    round_seconds = 0.0
    for _ in range(1 if quick else WARM_UP_ROUNDS):
        started = time.perf_counter()
        for each in contenders:
            _timed(each, ready)
        round_seconds = time.perf_counter() - started
    rounds = QUICK_ROUNDS if quick else min(MOST_ROUNDS, max(FEWEST_ROUNDS, int(budget / round_seconds)))
    seconds: dict[str, list[float]] = {each.name: [] for each in contenders}
    for _ in range(rounds):
        for each in contenders:
            seconds[each.name].append(_timed(each, ready))
    return {name: Timing(case, name, tuple(taken)) for name, taken in seconds.items()}


def _timed(contender: Contender, ready: Mapping[str, object]) -> float:
    subject = contender.prepare() if contender.fresh else ready[contender.name]
    if contender.fresh:
        gc.collect()  # what the contender before left behind is not this one's cost
    started = time.perf_counter()
    outcome = contender.run(subject)
    taken = time.perf_counter() - started
    del outcome
    return taken


def installed(module: str) -> bool:
    """Whether a peer can be imported here."""
    return importlib.util.find_spec(module) is not None


def ratio(timings: Mapping[str, Timing], above: str, below: str, *, bar: Bar | None = None) -> Figure:
    """The ratio of two medians of one case."""
    case = timings[below].case
    return Figure(f"{case}: {above} / {below}", timings[above].median / timings[below].median, "x", bar)


def machine() -> dict[str, str | int | list[float]]:
    """Name the machine, without its host name."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load": [round(each, 2) for each in os.getloadavg()] if hasattr(os, "getloadavg") else [],
    }


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def show(result: Result, described: Mapping[str, object], console: Console | None = None) -> None:
    """Print the medians and the figures of a benchmark."""
    console = console or Console(width=WIDTH, highlight=False)
    console.rule(result.name)
    console.print(" · ".join(f"{key} {value}" for key, value in described.items()), markup=False)
    if result.timings:
        console.print(_timing_table(result.timings))
    console.print(_figure_table(result.figures))
    for note in result.notes:
        console.print(f"Note: {note}", markup=False)


def _timing_table(timings: Sequence[Timing]) -> Table:
    table = Table(box=box.SIMPLE, width=WIDTH)
    table.add_column("case", ratio=1)
    table.add_column("contender")
    for heading in ("median ms", "quartiles ms", "rounds"):
        table.add_column(heading, justify="right", no_wrap=True)
    previous = None
    for each in timings:
        lower, upper = each.quartiles
        table.add_row(
            each.case if each.case != previous else "",
            each.contender,
            f"{each.median * 1e3:.2f}",
            f"{lower * 1e3:.2f}–{upper * 1e3:.2f}",
            str(len(each.seconds)),
        )
        previous = each.case
    return table


def _figure_table(figures: Sequence[Figure]) -> Table:
    table = Table(box=box.SIMPLE, width=WIDTH)
    table.add_column("figure", ratio=1)
    for heading in ("value", "bar"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for each in figures:
        bar = f"{each.bar.sense} {each.bar.limit:g}" if each.bar else "–"
        value = str(each.value) if isinstance(each.value, int) else f"{each.value:.2f}"
        table.add_row(each.name, f"{value} {each.unit}", bar, each.verdict)
    return table


def write(result: Result, described: Mapping[str, object], folder: Path = OUTPUT) -> Path:
    """Write a benchmark's measurements as JSON; gives the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    document = {
        "name": result.name,
        "machine": dict(described),
        "timings": [
            {**asdict(each), "median": each.median, "quartiles": each.quartiles} for each in result.timings
        ],
        "figures": [{**asdict(each), "verdict": each.verdict} for each in result.figures],
        "notes": result.notes,
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
