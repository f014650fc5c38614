"""What a network does in which order, worked out once for a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from bioconvert.organism.topology import Parents, children, inputs, outputs


class Turn(NamedTuple):
    """One node's turn.

    Args:
        name: the node.
        parents: what it is fed by.
        casts: whether whole numbers are made floating ones for it.
        copies: whether it gets what it is fed by for itself, since it works in place and others read it too.
        done: whose outputs nobody needs after it.
        follows: whether it is fed by the node before it in the order, and by no other.
        kept: whether anyone but the next node needs its output.
    """

    name: str
    parents: tuple[str, ...]
    casts: bool
    copies: bool
    done: tuple[str, ...]
    follows: bool
    kept: bool


class Schedule(NamedTuple):
    """The turns in their order, and the nodes whose outputs are the network's."""

    steps: tuple[Turn, ...]
    outputs: tuple[str, ...]


def schedule(parents: Parents, members: Mapping[str, nn.Module]) -> Schedule:
    """Work out the turns of a graph, each node of which stands behind its parents."""
    fed = children(parents)
    given = outputs(parents)
    readers = {**{name: len(each) for name, each in fed.items()}, "": len(inputs(parents))}
    last = {parent: name for name, feeding in parents.items() for parent in feeding}
    before = dict(zip(list(parents)[1:], parents, strict=False))
    follows = {name: feeding == (before.get(name),) for name, feeding in parents.items()}
    passed_on = {before[name] for name in follows if follows[name] and readers[before[name]] == 1}
    return Schedule(
        tuple(
            Turn(
                name,
                feeding,
                casts=not feeding and not _takes_whole_numbers(members[name]),
                copies=len(feeding) < 2 and readers["".join(feeding)] > 1 and _works_in_place(members[name]),
                done=tuple(
                    each
                    for each in feeding
                    if last[each] == name and each not in given and each not in passed_on
                ),
                follows=follows[name],
                kept=name in given or name not in passed_on,
            )
            for name, feeding in parents.items()
        ),
        given,
    )


def _takes_whole_numbers(module: nn.Module) -> bool:
    return any(isinstance(each, (nn.Embedding, nn.EmbeddingBag)) for each in module.modules())


def _works_in_place(module: nn.Module) -> bool:
    return any(getattr(each, "inplace", False) is True for each in module.modules())
