"""What each rule makes of a module, and why: what a plan does to the whole model, told of a few places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import nn

from bioconvert.core.change import Change
from bioconvert.core.errors import OptionError
from bioconvert.core.random import Stream
from bioconvert.core.results import Applied, Outcome
from bioconvert.core.suggest import hint
from bioconvert.graph.trace import Untraceable
from bioconvert.graph.walk import Mismatch
from bioconvert.ruleset import Candidate, Rule, RuleSet, Selection, resolve_rules, select
from bioconvert.ruleset.clauses import Clause, clauses
from bioconvert.ruleset.globs import PatternError
from bioconvert.ruleset.patterns import Patterns, SlowPattern, deadline
from bioconvert.surgery.operations import Action, Operation, actions_of, kind_of
from bioconvert.surgery.own_tensors import read_tensor
from bioconvert.surgery.plan import Plan, Rules, make_plan
from bioconvert.surgery.samples import Inputs


@dataclass(frozen=True, slots=True)
class Doing:
    """What one action of a rule does to a module, or why not.

    Args:
        action: ``"replace"``, ``"attach <mechanism>"``, ``"wrap"`` or ``"keep"``.
        applied: whether it is done.
        how: how it is done, or why not.
        options: the options, those that the model decides filled in.
        adds: shapes of the tensors that are added, by name.
        warnings: what to know before going on.
    """

    action: str
    applied: bool
    how: str
    options: Mapping[str, object] = field(default_factory=dict)
    adds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule makes of a module.

    Args:
        rule: name of the rule.
        selected: whether the rule selects the module.
        clauses: each condition, and whether the module meets it.
        doings: what becomes of the module by the rule; empty where it isn't selected.
    """

    rule: str
    selected: bool
    clauses: tuple[Clause, ...]
    doings: tuple[Doing, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """What all rules make of a module.

    Args:
        path: its first dotted name; empty for the model itself.
        kind: name of its class.
        verdicts: what each rule makes of it, in the order of the rules.
    """

    path: str
    kind: str
    verdicts: tuple[Verdict, ...]


def explain(
    model: nn.Module,
    rules: Rules,
    pattern: str,
    *,
    example_inputs: Inputs | None = None,
    seed: int = 0,
) -> tuple[Explanation, ...]:
    """Say what each rule makes of some modules, and why; nothing is changed.

    Args:
        model: any module.
        rules: as for planning; a rule that matches nothing is no error here.
        pattern: a dotted name, a glob over such names, or a regular expression after ``re:``.
        example_inputs: inputs that the model runs on, for the order of execution.
        seed: the seed of every random number.

    Raises:
        OptionError: no module has such a name.
        RuleError: the rules are wrong.
    """
    rule_set = resolve_rules(rules)
    explainer = _Explainer(model, _lenient(rule_set), example_inputs, seed)
    return tuple(map(explainer.explain, explainer.named(pattern)))


def _lenient(rule_set: RuleSet) -> RuleSet:
    rules = tuple(rule.model_copy(update={"optional": True}) for rule in rule_set.rules)
    return rule_set.model_copy(update={"rules": rules})


@dataclass
class _Explainer:
    model: nn.Module
    rule_set: RuleSet
    example_inputs: Inputs | None
    seed: int
    alone: dict[int, Plan] = field(default_factory=dict)

    @cached_property
    def plan(self) -> Plan:
        return self._plan(self.rule_set)

    @cached_property
    def candidates(self) -> list[Candidate]:
        look = self.plan._job.look
        return [*look.candidates, *look.strays]

    @cached_property
    def selections(self) -> list[list[Selection]]:
        """What each rule selects."""
        look = self.plan._job.look
        return [[*select(rule, look.candidates), *select(rule, look.strays)] for rule in self.rule_set.rules]

    def named(self, pattern: str) -> Iterable[Candidate]:
        try:
            patterns = Patterns((pattern,), deadline())
            found = [candidate for candidate in self.candidates if patterns.match(candidate.names)]
        except PatternError as error:
            raise OptionError(f"{pattern!r} is no pattern of module names: {error}") from None
        except SlowPattern:
            raise OptionError(f"{pattern!r} takes too long on this model's names") from None
        if not found:
            names = (name for candidate in self.candidates for name in candidate.names if name)
            raise OptionError(f"no module is named {pattern!r}. {hint(pattern, names)}")
        return found

    def explain(self, candidate: Candidate) -> Explanation:
        verdicts = (self._verdict(index, candidate) for index in range(len(self.rule_set.rules)))
        return Explanation(candidate.names[0], candidate.cls.__name__, tuple(verdicts))

    def _verdict(self, index: int, candidate: Candidate) -> Verdict:
        rule = self.rule_set.rules[index]
        found = [each for each in self.selections[index] if each.candidate is candidate]
        look = self.plan._job.look
        told = clauses(rule.match, candidate, look.candidates, found)
        if not found:
            return Verdict(rule.name, False, told)
        if rule.match.followed_by:
            told = (*told, self._followed_by(rule, candidate))
        doings = [doing for each in found for doing in self._doings(index, each)]
        return Verdict(rule.name, True, told, tuple(doings))

    def _followed_by(self, rule: Rule, candidate: Candidate) -> Clause:
        wanted = ", then ".join(map(str, rule.match.followed_by))
        try:
            self.plan._job.look.graphs.following(candidate.module, rule.match.followed_by)  # type: ignore[arg-type]
        except (Mismatch, Untraceable) as reason:
            return Clause("followed_by", False, wanted, str(reason))
        return Clause("followed_by", True, wanted, "it is")

    def _doings(self, index: int, selection: Selection) -> Iterator[Doing]:
        rule = self.rule_set.rules[index]
        path = ".".join(name for name in (selection.candidate.names[0], selection.parameter) if name)
        if rule.keep:
            yield Doing("keep", True, "nothing may touch it, or what is in it")
        for action in actions_of(rule):
            yield self._doing(index, action, path, self._wanting(selection, kind_of(action)))

    def _wanting(self, selection: Selection, kind: str) -> list[int]:
        """Give the rules that want an action of a kind for the same place."""
        place = selection.candidate, selection.parameter
        return [
            index
            for index, rule in enumerate(self.rule_set.rules)
            if kind in map(kind_of, actions_of(rule))
            and any((each.candidate, each.parameter) == place for each in self.selections[index])
        ]

    def _doing(self, index: int, action: Action, path: str, wanting: Sequence[int]) -> Doing:
        """Say what an action does by the plan of all rules; where another rule won, by that of this one."""
        kind, plan = kind_of(action), self.plan
        outcome = _outcome(plan, path, kind)
        winner = next((i for i in wanting if outcome and self.rule_set.rules[i].name == outcome.rule), index)
        if outcome is not None and winner != index:
            if isinstance(outcome, Applied) and winner < index:
                return Doing(kind, False, f"rule {outcome.rule!r} comes first", action.options)
            plan = self._alone(index)
            outcome = _outcome(plan, path, kind)
        if not isinstance(outcome, Applied):
            reason = "another module stands for it" if outcome is None else outcome.reason
            return Doing(kind, False, reason, action.options)
        operation = next(o for o in plan._job.operations if (o.path, o.action) == (path, kind))
        return _applied(operation, action)

    def _alone(self, index: int) -> Plan:
        if index not in self.alone:
            rules = self.rule_set.rules
            some = tuple(rule for i, rule in enumerate(rules) if i == index or rule.keep)
            self.alone[index] = self._plan(self.rule_set.model_copy(update={"rules": some}))
        return self.alone[index]

    def _plan(self, rule_set: RuleSet) -> Plan:
        return make_plan(self.model, rule_set, example_inputs=self.example_inputs, seed=self.seed)


def _outcome(plan: Plan, path: str, kind: str) -> Outcome | None:
    return next((each for each in plan.outcomes if (each.path, each.action) == (path, kind)), None)


def _applied(operation: Operation, action: Action) -> Doing:
    change = operation.change
    decided = {name: value for name, value in change.attributes.items() if name in action.options}
    return Doing(
        operation.action,
        True,
        operation.how,
        {**action.options, **decided},
        dict(_shapes(operation.module, change)),
        change.warnings,
    )


def _shapes(module: nn.Module, change: Change) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, recipe in change.adds.items():
        old = {each: read_tensor(module, each).detach().to("meta") for each in recipe.reads}
        yield name, tuple(recipe.make(old, Stream(0, "")).shape)
