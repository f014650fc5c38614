"""From the topology that dno writes to a network of ours."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import ArchitectureError, CorruptFileError, OptionError, Refused
from bioconvert.organism.config import DnoConfig
from bioconvert.organism.dno_archive import DnoFile
from bioconvert.organism.dno_nodes import Factory, Told, make_node, own_tensors, stand_in
from bioconvert.organism.evolvable import BaseEvolvableModule
from bioconvert.organism.network import DynamicNetwork
from bioconvert.organism.record import GENERAL
from bioconvert.organism.topology import Parents, ordered

_log = logging.getLogger("bioconvert")
_CLONED = "Cloned "


class DnoReader:
    """Makes a network from a file of dno.

    Args:
        file: what the file holds.
        where: its name, for errors.
        factory: makes what a node holds from the name of its class, or gives ``None``.
        repair: whether something else may stand for nodes that can't be made.
        fallback: what.
    """

    def __init__(
        self, file: DnoFile, where: str, factory: Factory | None, *, repair: bool, fallback: str
    ) -> None:
        self.file = file
        self.where = where
        self.factory = factory
        self.repair = repair
        self.fallback = fallback
        self.problems: dict[str, str] = {}

    def network(self) -> DynamicNetwork:
        """Make it.

        Raises:
            CorruptFileError: the topology isn't one.
            ArchitectureError: nodes can't be made; every one is named, with the reason.
        """
        try:
            return self._network()
        except (KeyError, TypeError, AttributeError, OptionError) as error:
            said = f"{type(error).__name__}: {error}"
            raise CorruptFileError(f"{self.where}: its topology can't be read ({said})") from error

    def _network(self) -> DynamicNetwork:
        config = known_settings(self.file.config)
        entries = {str(entry["uuid"]): entry for entry in self.file.topology["nodes"]}
        parents = self._parents(entries)
        sources = self._sources(entries, parents)
        told = {name: self._told(name, entry) for name, entry in entries.items()}
        made = {name: self._made(told[name], config) for name in entries if name not in sources}
        self._insist(told)
        network = DynamicNetwork(config=config)
        kept = {name: [p for p in parents[name] if p not in sources] for name in made}
        for name in ordered({name: tuple(feeding) for name, feeding in kept.items()}):
            network.add_layer(made[name], kept[name], name=name)
        for name, source in sources.items():
            self._branch(network, told[name], source)
        self._finish(network, entries, sources)
        return network

    def _parents(self, entries: Mapping[str, Any]) -> Parents:
        found: dict[str, list[str]] = {name: [] for name in entries}
        for name, fed in self.file.topology["edges"].items():
            for child in fed:
                if name not in found or child not in found:
                    raise OptionError(f"an edge leads from {name!r} to {child!r}, which aren't both nodes")
                found[child].append(name)
        return {name: tuple(feeding) for name, feeding in found.items()}

    def _sources(self, entries: Mapping[str, Any], parents: Parents) -> dict[str, str]:
        """Tell of which member each clone is a branch; what is wired otherwise stays a member."""
        cloned = dict(_cloned(event) for event in self.file.topology.get("history", ()) if _is_clone(event))
        edges = self.file.topology["edges"]
        found: dict[str, str] = {}
        for name in entries:
            source, steps = name, 0
            while source in cloned and cloned[source] in entries and steps < len(entries):
                source, steps = cloned[source], steps + 1
            wired = [(set(parents[each]), set(edges.get(each, ()))) for each in (name, source)]
            if source != name and wired[0] == wired[1] and "gamma" in entries[name]:
                found[name] = source
        return found

    def _told(self, name: str, entry: Mapping[str, Any]) -> Told:
        return Told(name, str(entry["type"]), own_tensors(name, self.file.weights), entry)

    def _made(self, told: Told, config: DnoConfig) -> BaseEvolvableModule:
        try:
            return make_node(told, config, self.factory)
        except Refused as refused:
            self.problems[told.name] = refused.reason
            return (
                stand_in(told, config, self.fallback) if self.repair else BaseEvolvableModule(nn.Identity())
            )

    def _insist(self, told: Mapping[str, Told]) -> None:
        if not self.problems or self.repair:
            return
        listed = "\n".join(f"  {told[name].label}: {reason}" for name, reason in self.problems.items())
        raise ArchitectureError(
            f"{self.where}: {len(self.problems)} of {len(told)} nodes can't be made:\n{listed}\n"
            "Pass module_factory= (--factory), a function from the name of a class to a module, or "
            f"repair=True (--repair), to put a {self.fallback} in their places"
        )

    def _branch(self, network: DynamicNetwork, told: Told, source: str) -> None:
        if source in self.problems:
            self.problems[told.name] = f"it is a clone of {source!r}"
            return
        node = network.organism.grow(source, tag=_tag(told.entry))
        branch = network.organism.seats[node.dynamic_id].branch
        assert branch is not None
        held: Any = node
        try:
            held.child_module.load_state_dict(dict(told.tensors))
        except RuntimeError as error:
            raise OptionError(f"{told.name!r} isn't made as {source!r}, of which it is a clone") from error
        with torch.no_grad():
            branch.gate.fill_(float(told.entry["gamma"]))
        node.node_record["name"] = told.name

    def _finish(
        self, network: DynamicNetwork, entries: Mapping[str, Any], sources: Mapping[str, str]
    ) -> None:
        by_name = {node.node_record.get("name", node.dynamic_id): node for node in network.organism.nodes()}
        network.record["step"] = int(self.file.topology.get("step", 0))
        for name, node in by_name.items():
            entry = entries[name]
            node.set_specialty(_tag(entry))
            node.node_record["born"] = int(entry.get("creation_step", 0))
        frozen = {name for name in by_name if entries[name].get("frozen")}
        if frozen:
            learning = [node.dynamic_id for name, node in by_name.items() if name not in frozen]
            network.organism.freeze_all_except(*learning)
        for name, reason in self.problems.items():
            stays = "left out" if name in sources else f"a {self.fallback} stands for it"
            _log.warning("%s: node %r can't be made (%s); %s", self.where, name, reason, stays)
            network.record["history"].append(
                {"step": network.record["step"], "event": "repair", "node": name, "reason": reason}
            )


def known_settings(config: Mapping[str, Any]) -> DnoConfig:
    """Take the settings that mean something here from those of a file."""
    known = DnoConfig(manual_mode=True).to_dict().keys()
    passed_over = sorted(set(config) - set(known))
    if passed_over:
        _log.info("settings of dno that mean nothing here: %s", ", ".join(passed_over))
    return DnoConfig.from_dict({name: value for name, value in config.items() if name in known})


def _tag(entry: Mapping[str, Any]) -> str:
    return str(entry.get("tag") or GENERAL)


def _is_clone(event: Mapping[str, Any]) -> bool:
    return event.get("type") == "MITOSIS" and " -> " in str(event.get("details", ""))


def _cloned(event: Mapping[str, Any]) -> tuple[str, str]:
    """Read which node is a clone of which one: ``Cloned A -> B (tag)``."""
    source, _, rest = event["details"].removeprefix(_CLONED).partition(" -> ")
    return rest.partition(" (")[0], source
