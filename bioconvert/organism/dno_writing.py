"""A network of ours as dno's files tell it, and with what is needed to make it again exactly."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch

from bioconvert.core.errors import OptionError
from bioconvert.graph.classes import STEPS
from bioconvert.graph.grown import ORGANISM, is_put_together
from bioconvert.organism.dno_archive import DnoFile
from bioconvert.organism.evolvable import BaseEvolvableModule
from bioconvert.organism.identity_wrapper import IdentityWrapper
from bioconvert.organism.network import DynamicNetwork
from bioconvert.organism.node import branches_of
from bioconvert.organism.record import branch_id
from bioconvert.organism.seats import Seat
from bioconvert.organism.seed_block import SeedBlock

EXTRA = "bioconvert"
"""The entry of the topology with what dno's own doesn't tell."""
_BRANCH = re.compile(r"modules_dict\.([^.]+)\.grown\.([^.]+)\.(gate|block\.)(.*)")
_THEIRS = re.compile(r"modules_dict\.([^.]+)\+([^.+]+)\.(gamma|child_module\.)(.*)")


def topology_of(network: DynamicNetwork) -> dict[str, Any]:
    """Tell the nodes, the edges and the history of a network.

    Raises:
        OptionError: such a file can't tell of all that is in it.
    """
    _check(network)
    manager, record = network.manager, network.record
    seats = network.organism.seats
    return {
        "nodes": [_entry(seat) for seat in seats.values()],
        "edges": {name: list(fed) for name, fed in manager.edges.items()},
        "inputs": [name for name, seat in seats.items() if seat.host.dynamic_id in manager.inputs],
        "outputs": [name for name, seat in seats.items() if seat.host.dynamic_id in manager.outputs],
        "step": record["step"],
        "history": [_event(event) for event in record["history"]],
        EXTRA: {
            "version": 1,
            "blueprint": network.blueprint(resized=True),
            "records": {name: copy.deepcopy(seat.node.node_record) for name, seat in seats.items()},
            "organism": copy.deepcopy(record),
            "frozen": [name for name, p in network.named_parameters() if not p.requires_grad],
        },
    }


def weights_of(network: DynamicNetwork) -> dict[str, torch.Tensor]:
    """Give the tensors by the names that they have in dno's files."""
    return {_their_name(name): tensor.detach().cpu() for name, tensor in network.state_dict().items()}


def fill(network: DynamicNetwork, file: DnoFile) -> DynamicNetwork:
    """Make an empty network what a file of ours tells.

    Raises:
        ConversionError: a class isn't there any more.
    """
    extra = file.topology[EXTRA]
    network.rebuild(extra["blueprint"])
    records = copy.deepcopy(extra["records"])
    for name, member in network.members.items():
        member.rebuild({"node_record": records[name]})
        for key, branch in branches_of(member).items():
            vars(branch.block)["node_record"] = records[branch_id(name, key)]
    vars(network)[ORGANISM] = copy.deepcopy(extra["organism"])
    network.load_state_dict({_our_name(name): tensor for name, tensor in file.weights.items()})
    frozen = set(extra["frozen"])
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return network


def _check(network: DynamicNetwork) -> None:
    found = sorted({type(module).__name__ for module in network.modules() if STEPS in vars(module)})
    found += [_said(m) for m in network.modules() if m is not network and _is_network(m)]
    if found:
        raise OptionError(
            f"a .dno file can't tell of {', '.join(found)} in a network: use bioconvert.save, which can"
        )
    if not network.members:
        raise OptionError("the network has no nodes: add_layer one")


def _is_network(module: torch.nn.Module) -> bool:
    return is_put_together(module) and not isinstance(module, BaseEvolvableModule)


def _said(module: torch.nn.Module) -> str:
    return f"a {type(module).__name__}"


def _entry(seat: Seat) -> dict[str, Any]:
    node: Any = seat.node
    record = node.node_record
    entry = {
        "uuid": node.dynamic_id,
        "type": type(node if seat.branch is not None else node.child_module).__name__,
        "creation_step": record["born"],
        "energy_score": 0.0,
        "activation_count": 0,
        "frozen": record["frozen"] is not None,
        "tag": record["tag"],
    }
    if isinstance(node, SeedBlock):
        entry["mask_config"] = dict(node.mask_config)
    if isinstance(node, IdentityWrapper) and seat.branch is None:
        entry["gamma"] = node.gamma.item()
    if seat.branch is not None:
        entry |= {"gamma": seat.branch.gate.item(), "stability_score": 0.0}
    return entry


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    name, kind = event.get("node", ""), event["event"]
    if kind == "birth" and "of" in event:
        told = ("MITOSIS", f"Cloned {event['of']} -> {name} ({event['tag']})")
    elif kind == "birth":
        told = ("BIRTH", f"Added layer {name}")
    else:
        told = (kind.upper(), name)
    return {"step": event["step"], "type": told[0], "details": told[1]}


def _their_name(name: str) -> str:
    found = _BRANCH.fullmatch(name)
    if found is None:
        return name
    host, key, kind, rest = found.groups()
    return f"modules_dict.{host}+{key}." + ("gamma" if kind == "gate" else f"child_module.{rest}")


def _our_name(name: str) -> str:
    found = _THEIRS.fullmatch(name)
    if found is None:
        return name
    host, key, kind, rest = found.groups()
    return f"modules_dict.{host}.grown.{key}." + ("gate" if kind == "gamma" else f"block.{rest}")
