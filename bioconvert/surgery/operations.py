"""From one rule's wish for one module to an operation on it, or to the reason why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bioconvert.core.change import Change, Fit, SampleData, SequentialFit, Site
from bioconvert.core.errors import Refused
from bioconvert.core.registry import Entry, mechanisms, nodes, replacements
from bioconvert.graph.borrowing import borrowing, lend, new_layer
from bioconvert.graph.classes import compose
from bioconvert.graph.redirect import Borrow
from bioconvert.replacements.folding import folded
from bioconvert.ruleset import Attach, Replace, Rule, Wrap
from bioconvert.surgery.chain import LayerChain
from bioconvert.surgery.drops import DropRequest
from bioconvert.surgery.elsewhere import Elsewhere, elsewhere_of
from bioconvert.surgery.handing_on import receiver_behind
from bioconvert.surgery.look import Look, class_refusal, refusal
from bioconvert.surgery.morphing import Follower, Morph, device_of, on_the_way, own_name
from bioconvert.surgery.owners import Owning, owning
from bioconvert.surgery.step import Dropping, Step, steps_of
from bioconvert.surgery.steps import conflicts

Action = Replace | Attach | Wrap


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """What is to be done to one module.

    Args:
        path: the module's first dotted name.
        module: the module.
        rule: name of the rule.
        action: ``"replace"``, ``"attach <mechanism>"`` or ``"wrap"``.
        name: what the rule file calls the new layer, mechanism or node.
        change: what becomes of the module.
        fit: finds better values on sample data; ``None`` if the change needs none.
        drop: what goes with it.
        fold: what becomes of the module when the normalisation behind it is folded in.
        morph: how the module goes over to what it becomes; ``None`` if it does so at once.
        after: what the original's output goes through while it does.
        own: what becomes of the containers that read the module's weight.
        parameter: the parameter that the rule named; empty where it named the module.
        receiver: the linear layer that takes over the scale and the offset of the outputs.
        elsewhere: what becomes of other modules for its sake.
    """

    path: str
    module: nn.Module
    rule: str
    action: str
    name: str
    change: Change
    fit: Fit | None = None
    drop: DropRequest | None = None
    fold: Change | None = None
    morph: Morph | None = None
    after: tuple[Follower, ...] = ()
    own: tuple[Owning, ...] = ()
    parameter: str = ""
    receiver: nn.Module | None = None
    elsewhere: tuple[Elsewhere, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What the operation is known by: a path and an action."""
        return self.path, self.action

    @property
    def is_sequential(self) -> bool:
        """Whether the module is fitted in the network that those before it have become."""
        return self.fit is not None and isinstance(self.fit, SequentialFit)

    @property
    def borrow(self) -> Borrow | None:
        """The parameter of a container that the module works with, if it has none of its own."""
        return next((own.borrow for own in self.own if own.borrow is not None), None)

    @property
    def dropping(self) -> Dropping | None:
        """The activation that goes with the layer, if it is the same behind every call."""
        return self.drop.dropping() if self.drop is not None else None

    def named(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Give values that were found for the replacement the names under which the module holds them."""
        own = self.morph.own if self.morph is not None else ()
        return {own_name(name, own): value.detach() for name, value in values.items()}

    def step(self) -> Step:
        """Give what is put on record."""
        return Step(
            self.rule,
            self.action,
            self.name,
            dropping=self.dropping,
            morph=self.morph,
            after=self.after,
            parameter=self.parameter,
        )

    @property
    def how(self) -> str:
        """Say in words what is done."""
        old = type(self.module).__name__
        if self.borrow is not None:
            old = self.borrow.function
        new = self.name if self.change.into is None else self.change.into.__name__
        words = f"{old} → {new}" if self.action != f"attach {self.name}" else self.name
        if self.change.summary:
            words += f": {self.change.summary}"
        if self.change.freezes:
            words += f"; {', '.join(self.change.freezes)} frozen"
        if self.morph is not None:
            words += f"; over {self.morph.steps:,} steps"
        if self.fold is not None:
            words += f"; {self.fold.summary}"
        if self.receiver is not None:
            words += f"; the {type(self.receiver).__name__} behind takes over scale and offset"
        if self.drop is not None and self.drop.names():
            words += f"; {', '.join(self.drop.names())} dropped"
        if self.own and self.borrow is None:
            owners = dict.fromkeys(type(own.container).__name__ for own in self.own)
            words += f"; {', '.join(owners)} {'calls' if len(owners) == 1 else 'call'} it from now on"
        return words


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """What one rule wants of one module.

    Args:
        path: the module's first dotted name, or that of its parameter.
        module: the module.
        rule: the rule.
        action: what it wants.
        parameter: the parameter that the rule names; empty where it names the module.
        data: the sample data that is at hand.
        seed: the seed of every random number.
        is_last: whether the module is the model's last layer.
    """

    path: str
    module: nn.Module
    rule: Rule
    action: Action
    parameter: str = ""
    data: SampleData = "none"
    seed: int = 0
    is_last: bool = False

    def site(self, look: Look) -> Site:
        """Say where the module stands, but for what follows it."""
        return Site(
            self.path,
            data=self.data,
            parameter=self.parameter,
            seed=self.seed,
            is_last=self.is_last,
            graphs=look.graphs,
        )

    @property
    def kind(self) -> str:
        """The kind of the action."""
        return kind_of(self.action)


def actions_of(rule: Rule) -> list[Action]:
    """Give what a rule does, one action of each kind."""
    wished: list[Action | None] = [rule.replace, *rule.attach, rule.wrap]
    return [action for action in wished if action is not None]


def kind_of(action: Action) -> str:
    """Name the kind of an action: of each kind, the first matching rule wins."""
    if isinstance(action, Attach):
        return f"attach {action.mechanism}"
    return "replace" if isinstance(action, Replace) else "wrap"


def rank_of(operation: Operation) -> int:
    """Rank the operations on one module: what wraps a layer comes after what makes it."""
    return {"replace": 0, "wrap": 2}.get(operation.action, 1)


def make_operation(wish: Wish, look: Look) -> Operation:
    """Say what a rule's action does to a module.

    Raises:
        Refused: nothing, for the reason given.
    """
    module, action = wish.module, wish.action
    if wish.parameter and isinstance(action, Replace):
        return call_operation(wish, action, look)
    site = wish.site(look)
    name, entry = _entry(module, action)
    _refuse_repetition(wish, name)
    check = class_refusal if isinstance(action, Attach) else refusal
    if (reason := check(module, look)) is not None:
        raise Refused(reason)
    chain = LayerChain.behind(module, wish.rule, action, look, has_data=site.has_data)
    change = entry.build(module, chain.site(site), **action.options)
    own = _owning(module, action, change, look)
    fold = None
    if chain.norm is not None and chain.norm_becomes == "fold":
        fold = folded(module, chain.norm)
    receiver = None
    if change.handed_on is not None:
        receiver = receiver_behind(module, wish.rule, chain, look)
    morph: Morph | None = None
    after: tuple[Follower, ...] = ()
    if isinstance(action, Replace) and action.morph is not None:
        change, morph = on_the_way(module, change, action.morph.steps, device_of(module))
        if fold is not None or receiver is not None:
            raise Refused("`morph` and folding can't both be: the original needs the weights as they are")
        after = chain.followers()
    for each in (fold, change):
        if each is not None:
            _refuse_conflicts(module, each, look)
    drop = chain.request(module, wish.rule.name, look, morph)
    fit = change.fit() if change.fit is not None and site.has_data else None
    return Operation(
        path=wish.path,
        module=module,
        rule=wish.rule.name,
        action=wish.kind,
        name=name,
        change=change,
        fit=fit,
        drop=drop,
        fold=fold,
        morph=morph,
        after=after,
        own=own,
        parameter=wish.parameter,
        receiver=receiver,
        elsewhere=elsewhere_of(change, look),
    )


def _owning(module: nn.Module, action: Action, change: Change, look: Look) -> tuple[Owning, ...]:
    """Say what becomes of the containers that read a module's weight, if the module computes otherwise."""
    if isinstance(action, Attach):
        if change.into is None:
            return ()
        if (reason := refusal(module, look)) is not None:
            raise Refused(reason)
    return owning(module, look)


def call_operation(wish: Wish, action: Replace, look: Look) -> Operation:
    """Say what becomes of the calls of a function on a parameter: a layer that works with it.

    Raises:
        Refused: nothing, for the reason given.
    """
    container = wish.module
    for step in steps_of(container):
        if any(borrow.parameter == wish.parameter for borrow in step.borrows):
            raise Refused(f"a layer works with it already, by rule {step.rule!r}")
    if action.morph is not None or action.activation != "keep" or action.norm != "keep":
        raise Refused("`morph`, `activation` and `norm` are for layers, not for calls of functions")
    use = look.uses(container).get(wish.parameter)
    if use is None:
        forward = f"the forward of {type(container).__name__}"
        raise Refused(f"no call of a function that {action.with_} could stand for was found in {forward}")
    if (reason := refusal(container, look)) is not None:
        raise Refused(reason)
    borrow = borrowing(container, wish.parameter, use)
    layer = new_layer(borrow)
    lend(layer, borrow, container)
    name, entry = _entry(layer, action)
    change = entry.build(layer, dataclasses.replace(wish.site(look), data="none"), **action.options)
    if change.overwrites or change.freezes:
        fate = "get new values" if change.overwrites else "stop training"
        raise Refused(f"its container keeps the weights, which would {fate}")
    own = (Owning(container, None, (borrow.child,), borrow=borrow),)
    return Operation(wish.path, layer, wish.rule.name, wish.kind, name, change, own=own)


def _entry(module: nn.Module, action: Action) -> tuple[str, Entry]:
    if isinstance(action, Replace):
        name, registry = action.with_, replacements
    elif isinstance(action, Attach):
        name, registry = action.mechanism, mechanisms
    else:
        name, registry = action.kind, nodes
    entry = registry.find(name, type(module))
    if entry is None:
        known = ", ".join(registry.entries(name))
        raise Refused(f"{name} can't replace a {type(module).__name__} (it replaces: {known})")
    return name, entry


def _refuse_repetition(wish: Wish, name: str) -> None:
    for step in steps_of(wish.module):
        if wish.kind == "replace" and step.action == "wrap":
            raise Refused(f"it is wrapped by rule {step.rule!r}: revert that, and let one call do both")
        if step.action == wish.kind and step.parameter == wish.parameter:
            same = step.name == name
            raise Refused(
                f"it is a {name} already, by rule {step.rule!r}"
                if same
                else f"it became a {step.name} by rule {step.rule!r}: revert that first"
            )


def _refuse_conflicts(module: nn.Module, change: Change, look: Look) -> None:
    if change.into is not None and issubclass(type(module), compose(change.into, type(module))):
        raise Refused(f"it is a {change.into.__name__} already")
    taken = conflicts(module, change)
    if taken:
        raise Refused(f"it has {_listed(taken)} of its own, where {_into(change)} would put its")
    for fate, names in (("get new values", change.overwrites), ("stop training", change.freezes)):
        for name in names:
            tied = look.owners.get(id(module._parameters.get(name)), [])
            if len(tied) > 1:
                raise Refused(f"its {name} would {fate} and is tied: {_listed(tied)}")


def _into(change: Change) -> str:
    return change.into.__name__ if change.into is not None else "the mechanism"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
