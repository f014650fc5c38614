"""A graph of nodes, as what each of them is fed by: its order, and what becomes of it without some nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping

from bioconvert.core.errors import OptionError

Parents = Mapping[str, tuple[str, ...]]
"""What each node is fed by; the network's own input where there is none."""


def ordered(parents: Parents) -> tuple[str, ...]:
    """Give the nodes in an order in which each comes behind its parents; otherwise as they are given.

    Raises:
        OptionError: a node feeds itself, by whatever way, or has a parent that isn't there; all are named.
    """
    missing = {each for feeding in parents.values() for each in feeding} - set(parents)
    if missing:
        raise OptionError(f"every parent must be a node; there is no {', '.join(map(repr, sorted(missing)))}")
    waiting = {name: len(set(feeding)) for name, feeding in parents.items()}
    fed = children(parents)
    ready = deque(name for name, count in waiting.items() if count == 0)
    found: list[str] = []
    while ready:
        name = ready.popleft()
        found.append(name)
        for child in fed[name]:
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    if len(found) < len(parents):
        stuck = ", ".join(map(repr, sorted(set(parents) - set(found))))
        raise OptionError(f"no node may feed itself; there is a circle among {stuck}")
    return tuple(found)


def children(parents: Parents) -> dict[str, tuple[str, ...]]:
    """Give what each node feeds."""
    found: dict[str, list[str]] = {name: [] for name in parents}
    for name, feeding in parents.items():
        for parent in dict.fromkeys(feeding):
            found[parent].append(name)
    return {name: tuple(fed) for name, fed in found.items()}


def inputs(parents: Parents) -> tuple[str, ...]:
    """Give the nodes that are fed by the network's own input."""
    return tuple(name for name, feeding in parents.items() if not feeding)


def outputs(parents: Parents) -> tuple[str, ...]:
    """Give the nodes that feed no other."""
    return tuple(name for name, fed in children(parents).items() if not fed)


def without(parents: Parents, gone: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Give a graph without some of its nodes.

    A child of one that goes is fed by its other parents; where it has none, by those of the one that goes. So
    a sum loses a term, and a chain closes.

    Args:
        parents: the graph, each node behind its parents.
        gone: the nodes that go.
    """
    left = dict(parents)
    for name in reversed([name for name in parents if name in gone]):
        above = left.pop(name)
        for child, feeding in left.items():
            if name in feeding:
                left[child] = tuple(each for each in feeding if each != name) or above
    return left
