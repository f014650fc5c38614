"""A module of the host model that can grow: the class that it takes on, and its branches."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from inspect import getattr_static
from typing import Any

from torch import nn

from bioconvert.graph.classes import standing_for
from bioconvert.graph.grown import shed
from bioconvert.organism.branch import Branch
from bioconvert.organism.containers import container_members
from bioconvert.organism.merging import first_floating, with_added
from bioconvert.organism.record import GROWN, Record
from bioconvert.organism.router import ROUTER, give_score, routed
from bioconvert.organism.untouched import HOST_CLASS

BYPASSED = "bypassed"
"""In the record of a node that hands on what it is given: the parameters that learned until then."""


class Node(nn.Module):
    r"""A block of a model that may get branches beside it.

    .. math::
        y = f(x) + \sum_k \gamma_k \, f_k(x)

    over the branches that are active; the sum goes into the first tensor of floating numbers of the output,
    and everything else in it is the block's own. At birth of a branch :math:`\gamma_k = 0`, so that ``y``
    keeps every bit.
    """

    keeps_name = True
    stays_outermost = True
    own_children = (GROWN,)
    node_record: Record

    @staticmethod
    def members_on(base: type[nn.Module]) -> dict[str, Any]:
        """Give the forward for blocks of a class."""

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            grown = self._modules.get(GROWN)
            if grown is None:
                return base.forward(self, *args, **kwargs)
            # The block may work in place, so what runs beside it runs first.
            record, branches = self.node_record, active(grown)
            additions = [branch(*args, **kwargs) for branch in branches]
            if ROUTER in record and branches:
                additions = routed(record[ROUTER], branches, additions, [*args, kwargs])
            if record.get(BYPASSED) is not None:
                return with_added(first_floating([*args, kwargs]), additions)
            return with_added(base.forward(self, *args, **kwargs), additions)

        # Surgery asks this class for these two; who asks the block gets the block's.
        own = {name: getattr_static(base, name) for name in ("leave", "regrow") if hasattr(base, name)}
        return {
            "forward": standing_for(forward, base.forward),
            HOST_CLASS: base,
            **container_members(base),
            **own,
        }

    @property
    def dynamic_id(self) -> str:
        """What the node is known by: the dotted path of its module, and ``+1`` for its first branch."""
        identity: str = self.node_record["id"]
        return identity

    @property
    def tag(self) -> str:
        """What the node is for."""
        tag: str = self.node_record["tag"]
        return tag

    def set_specialty(self, tag: str) -> None:
        """Say what the node is for."""
        self.node_record["tag"] = tag

    @staticmethod
    def regrow(module: nn.Module, attributes: Mapping[str, Any]) -> None:
        """Give a module of a freshly built model the branches that its record tells of."""
        keys: list[str] = attributes["node_record"]["branches"]
        for key, block in {key: copy.deepcopy(module) for key in keys}.items():
            branch = Branch(block)
            add_branch(module, key, branch)
            if ROUTER in attributes["node_record"]:
                give_score(branch, attributes["node_record"][ROUTER])
        if attributes["node_record"].get(BYPASSED) is not None:
            keep_grown(module)

    @staticmethod
    def leave(module: nn.Module, *, for_good: bool) -> None:
        """Take the branches from a module that is no node any more, and let it learn again."""
        if for_good:
            shed(module)
            record = vars(module)["node_record"]
            # A child may have been reverted before, and have lost what its conversion had added.
            held = dict(module.named_parameters(remove_duplicate=False))
            for name in (*(record["frozen"] or ()), *(record.get(BYPASSED) or ())):
                if name in held:
                    held[name].requires_grad_(True)


def active(grown: nn.Module) -> list[Branch]:
    """Give the branches that take part."""
    # Asked in every forward pass: past the search for an attribute, which is slow.
    return [each for each in grown._modules.values() if each._modules["block"].node_record["active"]]  # type: ignore[union-attr, misc, index]


def branches_of(module: nn.Module) -> dict[str, Branch]:
    """Give a node's branches by their keys."""
    grown = module._modules.get(GROWN)
    return {} if grown is None else dict(grown._modules)  # type: ignore[arg-type]


def add_branch(module: nn.Module, key: str, branch: Branch) -> None:
    """Put a branch beside a node."""
    keep_grown(module)
    grown = module._modules[GROWN]
    assert grown is not None
    grown._modules[key] = branch


def keep_grown(module: nn.Module) -> None:
    """Let a node have a place for branches; without one it runs as a plain block."""
    if GROWN not in module._modules:
        module._modules[GROWN] = nn.ModuleDict().train(module.training)


def remove_branch(module: nn.Module, key: str) -> Branch:
    """Take a branch from a node."""
    grown = module._modules[GROWN]
    assert grown is not None
    branch = grown._modules.pop(key)
    if not grown._modules and vars(module)["node_record"].get(BYPASSED) is None:
        del module._modules[GROWN]
    assert isinstance(branch, Branch)
    return branch
