"""From one rule's wish for one module to an operation on it, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from bioconvert.core.change import Change, Fit, Site
from bioconvert.core.errors import Refused
from bioconvert.core.registry import Entry, mechanisms, nodes, replacements
from bioconvert.graph.activations import ACTIVATIONS
from bioconvert.graph.classes import compose
from bioconvert.graph.flow import Following, Mismatch
from bioconvert.graph.trace import Untraceable
from bioconvert.ruleset import Attach, Link, Replace, Rule, Wrap
from bioconvert.surgery.drops import DropRequest
from bioconvert.surgery.look import Look, refusal
from bioconvert.surgery.steps import Dropping, conflicts, steps_of

Action = Replace | Attach | Wrap

_AFTERWARDS = (
    Link(alternatives=("norm",), optional=True),
    Link(alternatives=tuple(sorted(ACTIVATIONS)), optional=True),
)
"""What is looked for behind a layer when its rule names no pattern and sample data is at hand."""


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
        drop: the activations that go with it.
    """

    path: str
    module: nn.Module
    rule: str
    action: str
    name: str
    change: Change
    fit: Fit | None = None
    drop: DropRequest | None = None

    @property
    def dropping(self) -> Dropping | None:
        """The activation that goes with the layer, if it is the same behind every call."""
        return self.drop.dropping() if self.drop is not None else None

    @property
    def how(self) -> str:
        """Say in words what is done."""
        old = type(self.module).__name__
        words = f"{old} → {self.name}" if self.action != f"attach {self.name}" else self.name
        if self.change.summary:
            words += f": {self.change.summary}"
        if self.drop is not None:
            words += f"; {', '.join(self.drop.names())} dropped"
        return words


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


def make_operation(
    path: str, module: nn.Module, rule: Rule, action: Action, kind: str, look: Look, *, has_data: bool
) -> Operation:
    """Say what a rule's action does to a module.

    Raises:
        Refused: nothing, for the reason given.
    """
    name, entry = _entry(module, action)
    _refuse_repetition(module, kind, name)
    if not isinstance(action, Attach) and (reason := refusal(module, look)) is not None:
        raise Refused(reason)
    following = _following(module, rule, look, has_data=has_data)
    dropping = isinstance(action, Replace) and action.activation == "drop" and following is not None
    change = entry.build(module, _site(path, following, dropping, has_data=has_data), **action.options)
    _refuse_conflicts(module, change, look)
    drop = None
    if dropping and following is not None:
        drop = DropRequest(module, rule.name, rule.match.followed_by, following, look.tree)
    fit = change.fit() if change.fit is not None and has_data else None
    return Operation(path, module, rule.name, kind, name, change, fit, drop)


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


def _refuse_repetition(module: nn.Module, kind: str, name: str) -> None:
    for step in steps_of(module):
        if kind == "replace" and step.action == "wrap":
            raise Refused(f"it is wrapped by rule {step.rule!r}: revert that, and let one call do both")
        if step.action == kind:
            same = step.name == name
            raise Refused(
                f"it is a {name} already, by rule {step.rule!r}"
                if same
                else f"it became a {step.name} by rule {step.rule!r}: revert that first"
            )


def _following(module: nn.Module, rule: Rule, look: Look, *, has_data: bool) -> Following | None:
    """Find what follows a module, if the rule or the sample data make it worth knowing."""
    links = rule.match.followed_by
    try:
        if links:
            return look.graphs.following(module, links)
        return look.graphs.following(module, _AFTERWARDS) if has_data and rule.replace else None
    except (Mismatch, Untraceable) as reason:
        if links:
            raise Refused(f"`followed_by`: {reason}") from reason
        return None


def _site(path: str, following: Following | None, dropping: bool, *, has_data: bool) -> Site:
    if following is None or not following.chains:
        return Site(path, has_data=has_data)
    first = following.chains[0]
    same = all(
        (chain.norm, chain.activation and chain.activation.name)
        == (first.norm, first.activation and first.activation.name)
        for chain in following.chains
    )
    if not same:
        return Site(path, has_data=has_data)
    return Site(path, first.activation, dropping, first.norm, has_data)


def _refuse_conflicts(module: nn.Module, change: Change, look: Look) -> None:
    if change.into is not None and issubclass(type(module), compose(change.into, type(module))):
        raise Refused(f"it is a {change.into.__name__} already")
    taken = conflicts(module, change)
    if taken:
        raise Refused(f"it has {_listed(taken)} of its own, where {_into(change)} would put its")
    for name in change.overwrites:
        tied = look.owners.get(id(module._parameters.get(name)), [])
        if len(tied) > 1:
            raise Refused(f"its {name} would get new values and is tied: {_listed(tied)}")


def _into(change: Change) -> str:
    return change.into.__name__ if change.into is not None else "the mechanism"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
