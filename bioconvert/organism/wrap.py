"""``wrap:`` in a rule file: a module of the model becomes a node that can grow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bioconvert.core.change import Change, Site
from bioconvert.core.errors import Refused
from bioconvert.core.registry import node
from bioconvert.organism.record import GENERAL, GROWN, node_record

if TYPE_CHECKING:
    from torch import nn

ROOT = "model"
"""The ``id`` of a node that is the whole model, whose path is empty."""
_TAKEN = (GROWN, "node_record", "dynamic_id", "tag", "set_specialty")
_ITERATES = frozenset({"children", "named_children", "_modules"})


@node("block")
def block(
    module: nn.Module, site: Site, *, tag: str = GENERAL, immortal: bool = False, grace: int = 100
) -> Change:
    """Make a block of a model a node: it computes what it did until it grows.

    Args:
        module: any module with a forward.
        site: where it stands.
        tag: what the node is for.
        immortal: whether nothing may prune it.
        grace: number of steps after its birth within which nothing prunes it by itself.

    Raises:
        Refused: it has no forward, or one that goes through whatever children there are, or names of its own
            where a node has its.
    """
    from bioconvert.organism.node import Node

    if grace < 0:
        raise Refused(f"grace must be a number of steps, not {grace}")
    taken = [name for name in _TAKEN if hasattr(module, name)]
    if taken:
        raise Refused(f"it has {', '.join(map(repr, taken))} of its own, where a node has its")
    reason = _unfit(module)
    if reason is not None:
        raise Refused(reason)
    record = node_record(site.path or ROOT, tag, immortal=immortal, grace=grace)
    return Change(into=Node, attributes={"node_record": record}, summary=f"node {record['id']!r}, {tag}")


def _unfit(module: nn.Module) -> str | None:
    from torch import nn

    forward = type(module).forward
    if forward is nn.Module.forward:
        return f"a {type(module).__name__} has no forward of its own: wrap what calls its children"
    names = _names_read(forward) & _ITERATES
    if names:
        return (
            f"its forward goes through its children ({', '.join(sorted(names))}), of which it would get more"
        )
    return None


def _names_read(function: Any) -> frozenset[str]:
    """Give the names of attributes and globals that a function reads, also inside what it defines."""
    code = getattr(function, "__code__", None)
    return frozenset() if code is None else frozenset(_names_in(code))


def _names_in(code: Any) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            yield from _names_in(constant)
