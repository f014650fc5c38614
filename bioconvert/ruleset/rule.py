"""One rule: which modules, and what is done to them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, PrivateAttr, StrictBool, StrictStr, model_validator

from bioconvert.core.errors import Problem
from bioconvert.core.functions import functions_in
from bioconvert.ruleset.actions import Attach, Replace, Wrap
from bioconvert.ruleset.document import Place
from bioconvert.ruleset.frozen import Frozen, fault
from bioconvert.ruleset.match import Match
from bioconvert.ruleset.quoting import shown

_LONGEST_NAME = 200


def _name(given: str) -> str:
    if not given.strip() or not given.isprintable() or len(given) > _LONGEST_NAME:
        raise fault(f"a name is one line of printable text, of {_LONGEST_NAME} characters at most")
    return given


Name = Annotated[StrictStr, AfterValidator(_name)]


class Rule(Frozen):
    """Which modules, and what is done to them.

    Args:
        name: what reports call the rule.
        match: which modules it selects.
        replace: what they are turned into.
        attach: mechanisms that they are given.
        wrap: the node that they are made into.
        keep: whether nothing at all may touch them.
        optional: whether it may match nothing.
    """

    name: Name
    match: Match
    replace: Replace | None = None
    attach: tuple[Attach, ...] = ()
    wrap: Wrap | None = None
    keep: StrictBool = False
    optional: StrictBool = False
    _place: Place = PrivateAttr(default_factory=Place)

    @property
    def place(self) -> Place:
        """Where the rule was read."""
        return self._place

    def placed(self, place: Place) -> Rule:
        """Give the same rule, read at ``place``."""
        rule = self.model_copy()
        rule._place = place
        return rule

    def problem(self, message: str) -> Problem:
        """Give a problem of this rule that points at where it was read."""
        return self._place.problem(f"{rule_title(self.name)}: {message}")

    @model_validator(mode="after")
    def _does_something(self) -> Rule:
        acts = self.replace is not None or self.wrap is not None or bool(self.attach)
        if self.keep and acts:
            raise fault(
                "`keep` means that nothing is done: it excludes `replace`, `attach` and `wrap`", "keep"
            )
        if not self.keep and not acts:
            raise fault("it does nothing: give it `replace`, `attach`, `wrap` or `keep: true`")
        return self

    @model_validator(mode="after")
    def _drops_what_follows(self) -> Rule:
        if self.replace is None or self.match.followed_by:
            return self
        for key, value in (("activation", self.replace.activation), ("norm", self.replace.norm)):
            if value != "keep":
                gone = "dropped" if value == "drop" else "folded"
                message = f"`{key}: {value}` needs `followed_by` in `match`, which says what is {gone}"
                raise fault(message, "replace", key)
        return self

    @model_validator(mode="after")
    def _wraps_modules(self) -> Rule:
        if self.wrap is not None and self.match.parameter is not None:
            raise fault("`wrap` is done to modules; `parameter` selects parameters", "wrap")
        if self.wrap is not None and functions_in(self.match.type):
            raise fault("`wrap` is done to modules, not to calls of functions", "wrap")
        if self.match.parameter is not None and self.match.followed_by:
            message = "`followed_by` looks at what follows a module; `parameter` selects parameters"
            raise fault(message, "match", "followed_by")
        return self

    @model_validator(mode="after")
    def _attaches_once(self) -> Rule:
        names = [attach.mechanism for attach in self.attach]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise fault(f"{name!r} is attached twice", "attach", i)
        return self


def default_name(index: int) -> str:
    """Name a rule that has no name by its position, counted from 0."""
    return f"rule {index + 1}"


def rule_title(name: str) -> str:
    """Name a rule at the head of a sentence."""
    return name if name.startswith("rule ") and name[5:].isdecimal() else f"rule {shown(name)}"
