"""When each node was born, learned, was frozen and died, as its organism's history tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioconvert.organism.novelty import is_expert

Event = Mapping[str, Any]
OWN = ("birth", "death", "freeze", "unfreeze", "novel", "familiar")
"""Events that the rest of a picture shows by itself."""


@dataclass(slots=True)
class Life:
    """The life of one node.

    Args:
        name: its ``id``.
        tag: what it is for.
        born: the step of its birth; 0 for a block of the model itself.
        grown: whether it is a branch.
        died: the step of its death, if it died.
        frozen: the spans of steps in which it learned nothing; the end of the last may be open.
        events: what else happened to it: step and name.
    """

    name: str
    tag: str
    born: int
    grown: bool
    died: int | None = None
    frozen: list[tuple[int, int | None]] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)

    def hold(self, step: int, *, learns: bool) -> None:
        """Freeze it or let it learn from a step on."""
        held = bool(self.frozen) and self.frozen[-1][1] is None
        if learns and held:
            self.frozen[-1] = (self.frozen[-1][0], step)
        elif not learns and not held:
            self.frozen.append((step, None))


def lives(rows: Iterable[Mapping[str, Any]], history: Sequence[Event], step: int) -> list[Life]:
    """Tell the lives of all nodes, also of those that are gone: branches follow their block.

    Args:
        rows: those of :meth:`Organism.status`.
        history: the events.
        step: the step of the rows.
    """
    found = {row["id"]: Life(row["id"], row["tag"], step - row["age"], row["of"] is not None) for row in rows}
    for event in history:
        if event["event"] == "birth" and event["node"] not in found:
            found[event["node"]] = Life(event["node"], event["tag"], event["step"], grown=True)
    for event in history:
        _live_through(found, event)
    places = {name: place for place, name in enumerate(found)}
    return sorted(found.values(), key=lambda life: _place(life, places))


def _live_through(found: Mapping[str, Life], event: Event) -> None:
    kind, step = event["event"], event["step"]
    life = found.get(event.get("node", ""))
    if kind == "death" and life is not None:
        life.died = step
    elif life is not None and kind not in OWN:
        life.events.append((step, kind))
    elif kind in ("freeze", "unfreeze", "novel", "familiar"):
        alive = [each for each in found.values() if each.born <= step and each.died is None]
        for each in alive:
            each.hold(step, learns=_learns(each, event, alive))


def _learns(life: Life, event: Event, alive: Iterable[Life]) -> bool:
    if event["event"] == "freeze":
        return bool({life.name, life.tag} & set(event["learning"]))
    if event["event"] == "unfreeze" or not any(is_expert(each.tag) for each in alive):
        return True
    novel: bool = event["event"] == "novel"
    return is_expert(life.tag) == novel


def _place(life: Life, places: Mapping[str, int]) -> tuple[int, int]:
    """Put a branch behind its block, the older first."""
    host = life.name.rpartition("+")[0] if life.grown else life.name
    return (places.get(host, len(places)), life.born if life.grown else -1)
