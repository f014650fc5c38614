"""A node that holds a module, for networks that are put together from nodes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.graph.grown import grown_names, shed
from bioconvert.organism.calls import HELD
from bioconvert.organism.node import Node
from bioconvert.organism.record import GENERAL, GROWN, Record, node_record

PARENTS = "parents"
"""The entry in the record of a network's member that names what it is fed by."""


class Holder(nn.Module):
    """Holds the module that a node is made of."""

    child_module: nn.Module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run what is held."""
        return self.compute(*args, **kwargs)

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """Give what the node gives before it grows."""
        # Past the search for an attribute, which is slow.
        return self._modules["child_module"](*args, **kwargs)  # type: ignore[misc]


class BaseEvolvableModule(Node, Holder):
    r"""Makes any module a node, which computes what the module does until it grows.

    .. math::
        y = f(x) + \sum_k \gamma_k \, f_k(x)

    over the branches :math:`f_k` that are active, with gates :math:`\gamma_k = 0` at birth.

    Args:
        child_module: the module :math:`f`.
        creation_step: the step of its birth.

    Shape:
        - Input: whatever the module takes.
        - Output: whatever the module gives.

    Example:
        >>> seed = BaseEvolvableModule(nn.Linear(4, 2))
        >>> seed.dynamic_id = "seed"
        >>> seed.set_specialty("general")
        >>> seed.dynamic_id, seed.tag
        ('seed', 'general')
    """

    own_children = (GROWN,)
    forward = Node.members_on(Holder)["forward"]

    def __init__(self, child_module: nn.Module, creation_step: int = 0):
        super().__init__()
        if not isinstance(child_module, nn.Module):
            raise OptionError(f"a node holds an nn.Module, not a {type(child_module).__name__}")
        self.node_record: Record = {**node_record("", GENERAL), "born": creation_step}
        self.child_module = child_module

    @property
    def dynamic_id(self) -> str:
        """What the node is known by; of a member of a network, it can't be changed."""
        identity: str = self.node_record["id"]
        return identity

    @dynamic_id.setter
    def dynamic_id(self, identity: str) -> None:
        if PARENTS in self.node_record:
            raise OptionError(f"{self.dynamic_id!r} is a member of a network, which knows it by that name")
        self.node_record["id"] = identity

    def blueprint(self) -> Record:
        """Say what a freshly built node can't know."""
        return {"node_record": self.node_record}

    def rebuild(self, blueprint: Mapping[str, Any]) -> list[tuple[nn.Module, str]]:
        """Take a node's record on, and get as many branches as it tells of.

        Returns:
            The children that were added: what holds each, and its name there.
        """
        had = bool(shed(self))
        self.node_record = copy.deepcopy(blueprint["node_record"])
        Node.regrow(self, {"node_record": self.node_record})
        return [(self, name) for name in grown_names(self)] if not had else []


HELD[BaseEvolvableModule] = "child_module"
