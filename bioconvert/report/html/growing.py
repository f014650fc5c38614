"""How an organism grew: its numbers, and the picture of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bioconvert.organism.control import KEY
from bioconvert.organism.lives import lives
from bioconvert.organism.timeline import drawn
from bioconvert.report.html.evidence import Growth
from bioconvert.report.text import short

LIVES, EVENTS, POINTS = 40, 400, 400
"""Nodes, events and points of a curve that are drawn at most."""
_TOLD = 100
"""Events that are listed as numbers at most."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Args:
        step: after how many steps of the optimizer.
        event: what.
        node: to which node; empty where to none.
        parameters: of the whole model by then, if known.
    """

    step: int
    event: str
    node: str
    parameters: int | None


@dataclass(frozen=True, slots=True)
class Grown:
    """The life of an organism.

    Args:
        step: steps of the optimizer.
        births: number of branches that were born.
        deaths: number of nodes that were pruned.
        nodes: number of nodes that live.
        events: what happened last.
        left_out: events that are not listed.
    """

    step: int
    births: int
    deaths: int
    nodes: int
    events: tuple[Event, ...]
    left_out: int


def grown_of(growth: Growth) -> Grown:
    """Give the numbers of a life."""
    history = growth.record.get("history", [])
    kinds = [event["event"] for event in history]
    return Grown(
        growth.record["step"],
        kinds.count("birth"),
        kinds.count("death"),
        len(growth.nodes),
        tuple(_event(event) for event in history[-_TOLD:]),
        max(0, len(history) - _TOLD),
    )


def timeline_of(growth: Growth, parameters: int) -> str:
    """Draw a life as SVG.

    Args:
        growth: what happened.
        parameters: number of values in the model's parameters today.
    """
    record = growth.record
    step, history = record["step"], [_harmless(event) for event in list(record.get("history", []))[-EVENTS:]]
    rows = [{**_harmless(node), "age": step - node["born"]} for node in growth.nodes[:LIVES]]
    loss = [(point[0], point[1]) for point in record["control"].get(KEY, {}).get("curve", ())]
    told = [(event["step"], event["parameters"]) for event in history if "parameters" in event]
    counts = [(0, record.get("parameters", parameters)), *told, (step, parameters)]
    return drawn(lives(rows, history, step)[:LIVES], history, loss[-POINTS:], counts)


def _harmless(told: Mapping[str, Any]) -> dict[str, Any]:
    """Make the names in a record short and printable."""
    return {
        name: short(value)
        if isinstance(value, str)
        else [short(str(each)) for each in value]
        if name == "learning"
        else value
        for name, value in told.items()
    }


def _event(event: Mapping[str, Any]) -> Event:
    return Event(event["step"], short(event["event"]), short(event.get("node", "")), event.get("parameters"))
