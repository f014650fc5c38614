"""What is kept between decisions on growth: readings, baseline, the last birth; all of it plain values.

It lies in the organism's record, under ``control``, and so is saved with the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from statistics import fmean
from typing import Any

import torch

from bioconvert.organism.record import Record
from bioconvert.organism.triggers import RECENT, is_spike

KEY = "growth"
"""Under ``control`` of an organism's record."""
_POINTS = 512
"""Of the curve of losses; where there are more, every second one goes."""


Row = list[float | None]


class Readings(list[Any]):
    """Rows of numbers, of which some are still on their device: a copy of it, and what is saved, has all.

    So nothing waits for the device between decisions, and nothing is lost where training ends between them.
    """

    def values(self) -> list[Row]:
        """Fetch all rows, in one go; numbers that aren't finite, which JSON doesn't have, are ``None``."""
        waiting = [row for row in self if isinstance(row, torch.Tensor)]
        rows = [row.to(waiting[0].device) for row in waiting]
        fetched = iter(torch.stack(rows).tolist() if rows else ())
        found = [next(fetched) if isinstance(row, torch.Tensor) else row for row in self]
        return [[value if value is not None and isfinite(value) else None for value in row] for row in found]

    def __deepcopy__(self, memo: Any) -> list[Row]:
        return self.values()

    def __reduce__(self) -> Any:
        return list, (self.values(),)


def fresh_state() -> Record:
    """Begin what is kept.

    Returns:
        ``calls`` and ``checks`` (how many steps, and decisions), ``pending`` (rows not looked at yet),
        ``losses`` and ``signals`` (the latest), ``spiked`` (whether a signal jumped since the last decision),
        ``best`` (the lowest loss since the last birth), ``birth`` (its ``step`` and ``loss``), ``request``
        (what was asked for by hand), ``novel`` (whether data were), ``where`` (the node that gradients speak
        for), ``reason`` (of the last decision), ``curve`` (of points: step, loss, signal) and ``stride``
        (decisions for each point).
    """
    return {
        "calls": 0,
        "checks": 0,
        "pending": [],
        "losses": [],
        "signals": [],
        "spiked": False,
        "best": None,
        "birth": None,
        "request": None,
        "novel": None,
        "where": None,
        "reason": "",
        "curve": [],
        "stride": 1,
    }


def state_in(control: Record) -> Record:
    """Give the state in an organism's ``control``, from where it was left or from the beginning."""
    state: Record = control.setdefault(KEY, fresh_state())
    if not isinstance(state["pending"], Readings):
        state["pending"] = Readings(state["pending"])
    return state


def absorb(state: Record, config: Any, rows: Sequence[Row], step: int) -> None:
    """Take in what was read since the last decision, one reading after the other.

    Numbers that weren't finite are left out: one bad batch would be in every mean for a whole window.

    Args:
        state: what is kept.
        config: says how many readings are.
        rows: a loss and perhaps a signal each.
        step: the step.
    """
    window = config.entropy_baseline_window
    for loss, *signals in rows:
        _push(state["losses"], [loss], 2 * config.plateau_window)
        _push(state["signals"], signals, window + RECENT)
        state["spiked"] |= bool(signals) and is_spike(state["signals"], window, config.entropy_spike_factor)
    losses = [row[0] for row in rows if row[0] is not None]
    if losses:
        mean = fmean(losses)
        state["best"] = mean if state["best"] is None else min(state["best"], mean)
        _plot(state, step, mean, state["signals"][-1] if state["signals"] else None)


def settle(state: Record, step: int, loss: float | None) -> None:
    """Begin anew after a birth: with its loss, and without a baseline."""
    state["birth"] = {"step": step, "loss": loss}
    state.update(best=None, request=None, signals=[], losses=[])


def _push(kept: list[float], values: Iterable[float | None], most: int) -> None:
    kept.extend(value for value in values if value is not None)
    del kept[: max(0, len(kept) - most)]


def _plot(state: Record, step: int, loss: float, signal: float | None) -> None:
    state["checks"] += 1
    if state["checks"] % state["stride"]:
        return
    state["curve"].append([step, loss, signal])
    if len(state["curve"]) > _POINTS:
        del state["curve"][::2]
        state["stride"] *= 2
