"""A network put together from nodes: a graph in which each node runs once, and may grow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import ConversionError, OptionError
from bioconvert.core.suggest import hint
from bioconvert.graph.grown import ORGANISM
from bioconvert.organism.calls import runner
from bioconvert.organism.config import DnoConfig
from bioconvert.organism.evolvable import PARENTS, BaseEvolvableModule
from bioconvert.organism.joining import as_floating, averaged, summed
from bioconvert.organism.manager import OrganismManager, kind_of
from bioconvert.organism.module_spec import SpecReader, SpecWriter
from bioconvert.organism.node import Node
from bioconvert.organism.novelty import is_expert
from bioconvert.organism.organism import Organism
from bioconvert.organism.record import Record, organism_record
from bioconvert.organism.schedule import Schedule, schedule
from bioconvert.organism.seats import seats_in
from bioconvert.organism.topology import Parents, without

MEMBERS = "modules_dict"
_RESERVED = frozenset(dir(nn.ModuleDict()))


class _Derived:
    """What is worked out from a network when it is first needed: no part of a copy, nor of what is saved."""

    def __init__(self) -> None:
        self.organism: Organism | None = None
        self.schedules: dict[tuple[str, ...], Schedule] = {}

    def __deepcopy__(self, memo: Any) -> _Derived:
        # An organism's bindings hold optimizers, which train the original.
        return _Derived()

    def __reduce__(self) -> Any:
        return _Derived, ()


class _Members(Organism):
    """The nodes of a network, of which experts may be members as well as branches."""

    model: DynamicNetwork

    def prune(self, node: Node | str, *, optimizer: Any = None, refit: Any = None, **options: Any) -> None:
        """Take a node away for good; a member becomes a pass-through only where layers are to be refitted."""
        found = self.get(node)
        if found.dynamic_id not in self.model.members or refit is not None:
            super().prune(found, optimizer=optimizer, refit=refit, **options)
            return
        if optimizer is not None:
            self.bind(optimizer)
        self.model.remove_layer(found)

    def route(self, *tags: str, **router: Any) -> None:
        """Let only the branches of some tags or ids take part; so of members that are experts, too."""
        super().route(*tags, **router)
        if router.get("top_k") is None:
            for seat in self.seats.values():
                if not seat.key:
                    chosen = {seat.node.tag, seat.node.dynamic_id} & set(tags)
                    seat.node.node_record["active"] = bool(chosen or not tags or not is_expert(seat.node.tag))


class DynamicNetwork(nn.Module):
    r"""Runs a graph of nodes, each once, behind those that feed it.

    .. math::
        h_v = f_v\Bigl(\sum_{u \to v} h_u\Bigr), \qquad y = \frac{1}{|O|} \sum_{v \in O} h_v

    A node without parents is given the network's input :math:`x`; :math:`O` are the nodes that feed no other.
    Members are :class:`BaseEvolvableModule` nodes, which grow branches as the nodes of any model do, by
    :attr:`organism` or by :class:`~bioconvert.organism.growth_engine.GrowthEngine`.

    Args:
        manager: names the nodes and tells what happened; by default a new one.
        config: every knob; by default a :class:`~bioconvert.organism.config.DnoConfig` as it is.

    Shape:
        - Input: whatever the nodes without parents take. Whole numbers become floating ones for a node that
          holds no embedding.
        - Output: what the only output gives, or the mean over several, which must be of one shape.

    Example:
        >>> network = DynamicNetwork()
        >>> stem = network.add_layer(nn.Linear(4, 8), name="stem")
        >>> wide, deep = (network.add_layer(nn.Linear(8, 8), parents=[stem]) for _ in range(2))
        >>> head = network.add_layer(nn.Linear(8, 2), parents=[wide, deep])
        >>> network(torch.zeros(3, 4)).shape
        torch.Size([3, 2])
    """

    made_empty = True
    own_children = (MEMBERS,)

    def __init__(self, manager: OrganismManager | None = None, config: DnoConfig | None = None):
        super().__init__()
        self.modules_dict = nn.ModuleDict()
        self.config = DnoConfig() if config is None else config
        self.manager = OrganismManager() if manager is None else manager
        self.manager.attach(self)
        self._derived = _Derived()

    @property
    def members(self) -> Mapping[str, BaseEvolvableModule]:
        """The nodes of the graph by ``id``, each behind its parents; without the branches beside them."""
        # Asked in every forward pass: past the search for an attribute, which is slow.
        return self._modules[MEMBERS]._modules  # type: ignore[return-value, union-attr]

    @property
    def parents(self) -> Parents:
        """What each member is fed by."""
        return {name: tuple(member.node_record[PARENTS]) for name, member in self.members.items()}

    @property
    def organism(self) -> Organism:
        """All nodes together: growing, freezing, pruning, optimizers.

        Raises:
            OptionError: the network has no nodes yet.
        """
        if self._derived.organism is None:
            self._derived.organism = _Members(self)
        self._derived.organism.stabilization_steps = self.config.stabilization_steps
        return self._derived.organism

    @property
    def record(self) -> Record:
        """What is known of all nodes together."""
        record: Record = vars(self).setdefault(ORGANISM, organism_record(0))
        return record

    def add_layer(
        self, module: nn.Module, parents: Iterable[str] | None = None, *, name: str | None = None
    ) -> str:
        """Add a node.

        Args:
            module: a node, or any module, which becomes one.
            parents: the ids, or tags, of what feeds it; the network's input where there are none.
            name: its ``id``; by default what the node says, or else the module's class with a number behind.

        Returns:
            Its ``id``.

        Raises:
            OptionError: the ``id`` can't be one or is taken, or there is no such parent.
        """
        feeding = [self._member(each) for each in ([parents] if isinstance(parents, str) else parents or ())]
        member = module if isinstance(module, BaseEvolvableModule) else BaseEvolvableModule(module)
        if PARENTS in member.node_record:
            raise OptionError(f"{member.dynamic_id!r} is a member of a network already")
        identity = name or member.dynamic_id or self._free_name(member)
        self._check_name(identity)
        member.node_record.update(id=identity, **{PARENTS: list(dict.fromkeys(feeding))})
        member.node_record["grace"] = self.config.grace_period
        self.modules_dict[identity] = member
        self._derived.schedules.clear()
        self._note("birth", identity, tag=member.tag, parents=member.node_record[PARENTS])
        return identity

    def remove_layer(self, node: Node | str) -> None:
        """Take a node away for good: from the graph, and from the optimizers that are bound.

        A child that it fed is fed by its other parents; where it has none, by those of the node itself.

        Args:
            node: a node, its ``id`` or its tag.

        Raises:
            OptionError: there is no such node, it is immortal, or it is the last one.
        """
        found = self.organism.get(node)
        if found.dynamic_id not in self.members:
            self.organism.prune(found)
            return
        if found.node_record["immortal"]:
            raise OptionError(f"{found.dynamic_id!r} is immortal")
        if len(self.members) == 1:
            raise OptionError(f"{found.dynamic_id!r} is the network's last node")
        self._rewire(without(self.parents, {found.dynamic_id}))
        self._forget(found)
        del self.modules_dict[found.dynamic_id]
        del found.node_record[PARENTS]
        self._derived.schedules.clear()
        self._note("death", found.dynamic_id, tag=found.tag)

    def forward(self, x: Any) -> Any:
        """Run every node once; a node that isn't active is left out, as if it were removed."""
        members = self.members
        idle = [name for name, member in members.items() if not member.node_record["active"]]
        plan = self._derived.schedules.get(tuple(idle)) or self._scheduled(tuple(idle))
        values: dict[str, Any] = {}
        given = None
        for name, parents, casts, copies, done, follows, kept in plan.steps:
            # What is fed by the node before it goes on with what that gave.
            if not follows:
                if len(parents) > 1:
                    given = summed(parents, values)
                elif parents:
                    given = values[parents[0]]
                else:
                    given = as_floating(x) if casts else x
            for each in done:
                del values[each]
            if copies and isinstance(given, torch.Tensor):
                given = given.clone()
            given = runner(members[name])(given)
            if kept:
                values[name] = given
        return values[plan.outputs[0]] if len(plan.outputs) == 1 else averaged(plan.outputs, values)

    def set_active_expert(self, expert: str) -> None:
        """Let of all experts only those of a tag or ``id`` take part; the core always does.

        Raises:
            OptionError: there is no such node.
        """
        self.organism.route(expert)

    def clear_active_expert(self) -> None:
        """Let every node take part."""
        self.organism.route()

    def save_dno(self, path: str | os.PathLike[str]) -> None:
        """Write the network as :func:`~bioconvert.organism.dno_file.save_dno` does."""
        from bioconvert.organism.dno_file import save_dno

        save_dno(self, path)

    @staticmethod
    def load_dno(path: str | os.PathLike[str], module_factory: Any = None, **options: Any) -> DynamicNetwork:
        """Read a network as :func:`~bioconvert.organism.dno_file.load_dno` does."""
        from bioconvert.organism.dno_file import load_dno

        return load_dno(path, module_factory, **options)

    def save_standard(self, path: str | os.PathLike[str]) -> None:
        """Write the ``state_dict`` alone, by ``torch.save``."""
        torch.save(self.state_dict(), path)

    def blueprint(self, *, resized: bool = False) -> Record:
        """Say what a freshly built network can't know: its members, and how they are wired.

        Args:
            resized: whether tensors are told as they are now, and not as they were built.
        """
        problems: list[str] = []
        writer = SpecWriter(problems, resized=resized)
        specs = {name: writer.write(member, name) for name, member in self.members.items()}
        return {
            "config": self.config.to_dict(),
            "members": [{"id": name, "module": spec} for name, spec in specs.items()],
            "parents": {name: list(feeding) for name, feeding in self.parents.items()},
            "problems": problems,
        }

    def rebuild(self, blueprint: Mapping[str, Any]) -> list[tuple[nn.Module, str]]:
        """Become the network that a blueprint tells of; members that are there already stay.

        Returns:
            The children that were added: what holds each, and its name there.

        Raises:
            ConversionError: nodes that can't be made again; every one is named, and nothing is changed.
        """
        missing = [each for each in blueprint["members"] if each["id"] not in self.members]
        problems = list(blueprint["problems"]) if missing else []
        reader = SpecReader(problems)
        made = {} if problems else {each["id"]: reader.read(each["module"], each["id"]) for each in missing}
        problems += [f"{name}: is no node" for name, m in made.items() if not isinstance(m, Node)]
        if problems:
            raise ConversionError(
                "nodes of the network can't be made again; pass factory=, a function that gives a network "
                "with the same nodes:\n" + "\n".join(problems)
            )
        self.config = DnoConfig.from_dict(blueprint["config"])
        self.modules_dict._modules.update(made)
        for name, feeding in blueprint["parents"].items():
            self.members[name].node_record[PARENTS] = list(feeding)
        self._derived.schedules.clear()
        return [(self.modules_dict, name) for name in made]

    def _member(self, wanted: str) -> str:
        if wanted in self.members:
            return wanted
        found = next((name for name, each in self.members.items() if each.tag == wanted), None)
        if found is None:
            host, _, branch = str(wanted).rpartition("+")
            if host in self.members and branch:
                raise OptionError(f"what {wanted!r} gives is a part of what {host!r} gives: name {host!r}")
            known = {*self.members, *(each.tag for each in self.members.values())}
            raise OptionError(f"there is no node {wanted!r}. {hint(str(wanted), known)}")
        return found

    def _free_name(self, member: BaseEvolvableModule) -> str:
        kind = kind_of(member).lower()
        number = 1
        while f"{kind}{number}" in self.members or self._was_born(f"{kind}{number}"):
            number += 1
        return f"{kind}{number}"

    def _was_born(self, name: str) -> bool:
        return any(event.get("node") == name for event in self.record["history"])

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name or set(name) & set(".+") or name in _RESERVED:
            raise OptionError(f"an id must be a text without '.' and '+', no word of torch, not {name!r}")
        if name in self.members:
            raise OptionError(f"there is a node {name!r} already")

    def _rewire(self, parents: Parents) -> None:
        for name, feeding in parents.items():
            self.members[name].node_record[PARENTS] = list(feeding)

    def _forget(self, node: Node) -> None:
        """Let optimizers forget what belongs to a node and to no other one."""
        others = {id(p) for name, each in self.members.items() if each is not node for p in each.parameters()}
        gone = [p for p in node.parameters() if id(p) not in others]
        inside = {seat.node.dynamic_id for seat in seats_in(node).values()}
        for record in self.organism.record["groups"]:
            if record["of"] in inside:
                record["parameters"] = []
        for binding in self.organism._bindings:
            binding.forget(gone)

    def _scheduled(self, idle: tuple[str, ...]) -> Schedule:
        if not self.members:
            raise OptionError("the network has no nodes: add_layer one")
        parents = without(self.parents, idle)
        if not parents:
            raise OptionError("no node of the network is active")
        found = self._derived.schedules[idle] = schedule(parents, self.members)
        return found

    def _note(self, event: str, name: str, **told: Any) -> None:
        told = {"step": self.record["step"], "event": event, "node": name, **told}
        self.record["history"].append(told)
