"""What a rule does, checked against what is registered: names, and every option against its signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from bioconvert.core import registry
from bioconvert.core.options import checked_options, option_names
from bioconvert.core.registry import Registry
from bioconvert.ruleset.document import Document, Loc, path_text
from bioconvert.ruleset.messages import must_be, unknown_name, unknown_option
from bioconvert.ruleset.rule import default_name, rule_title

_OWN_KEYS = ("with", "activation", "norm", "morph")
"""Keys of ``replace`` that are no options."""


def report(document: Document, loc: Loc, message: str, *, key: bool = False) -> None:
    """Take note of a problem, and say in which rule and at which key it is."""
    inside = loc[:-1] if key else loc
    if inside[:1] == ("rules",) and len(inside) > 1:
        title = rule_title(_name_of(document, inside[1]))
        inside = inside[2:]
        where = f"{title}: {path_text(inside)}: " if inside else f"{title}: "
    else:
        where = f"{path_text(inside)}: " if inside else ""
    document.report(loc, where + message, key=key)


def _name_of(document: Document, index: Any) -> str:
    rule = document.value["rules"][index]  # type: ignore[index]
    name = rule.get("name") if isinstance(rule, dict) else None
    return name if isinstance(name, str) else default_name(index)


@dataclass
class RuleCheck:
    """Brings one rule from the file's shape into the shape of its model; reports what is wrong on the way.

    What is not even a mapping or list is left as it is: the model's own check speaks of that.

    Args:
        document: the file.
        index: position of the rule, counted from 0.
    """

    document: Document
    index: int

    def checked(self, rule: object) -> object:
        """Give the rule, with the options of its actions apart from their other keys."""
        if not isinstance(rule, dict):
            return rule
        steps = {"replace": self.replace, "attach": self.attach, "wrap": self.wrap}
        done = {key: steps[key](value) if key in steps else value for key, value in rule.items()}
        return {"name": default_name(self.index), **done}

    def replace(self, value: object) -> object:
        """Check a replacement."""
        if not isinstance(value, dict):
            return value
        own = {key: value[key] for key in _OWN_KEYS if key in value}
        options = {key: item for key, item in value.items() if key not in own}
        name = value.get("with")
        if isinstance(name, str):
            options = self.options(registry.replacements, name, options, ("replace", "with"), ("replace",))
        return {**own, "options": options}

    def attach(self, value: object) -> object:
        """Check mechanisms."""
        if not isinstance(value, list):
            return value
        return [self.mechanism(item, ("attach", i)) for i, item in enumerate(value)]

    def mechanism(self, item: object, loc: Loc) -> dict[str, object]:
        """Check one mechanism: ``name``, or ``name: {option: value}``."""
        refused: dict[str, object] = {"mechanism": path_text(loc), "options": {}}
        if isinstance(item, str):
            return {"mechanism": item, "options": self.options(registry.mechanisms, item, {}, loc, loc)}
        if not isinstance(item, dict) or len(item) != 1:
            self.report(loc, "each mechanism is an item of its own: `- name` or `- name: {option: value}`")
            return refused
        ((name, options),) = item.items()
        if not isinstance(options, dict | None):
            self.report((*loc, name), "options are a mapping: `{option: value}`")
            return refused
        at = (*loc, name)
        return {
            "mechanism": name,
            "options": self.options(registry.mechanisms, name, options or {}, at, at, key=True),
        }

    def wrap(self, value: object) -> object:
        """Check a node."""
        if not isinstance(value, dict):
            return value
        options = {key: item for key, item in value.items() if key != "kind"}
        kind = value.get("kind", "block")
        if isinstance(kind, str):
            options = self.options(registry.nodes, kind, options, ("wrap", "kind"), ("wrap",))
        return {**({"kind": kind} if "kind" in value else {}), "options": options}

    def options(
        self,
        known: Registry,
        name: str,
        given: Mapping[str, object],
        name_at: Loc,
        at: Loc,
        *,
        key: bool = False,
    ) -> dict[str, object]:
        """Check a name and its options, and fill in the defaults.

        Args:
            known: what is registered of that kind.
            name: the name.
            given: the options.
            name_at: where the name stands in the rule; as a key if ``key``.
            at: where the options stand.
            key: whether the name is a key.
        """
        if name not in known.names():
            self.report_name(unknown_name(known.kind, name, known.names()), name_at, key=key)
            return {}
        build = next(iter(known.entries(name).values())).build
        try:
            return {option: _frozen(value) for option, value in checked_options(build, given).items()}
        except ValidationError as error:
            for loc, errors in by_value(error, given).items():
                self.report_option(name, option_names(build), (*at, *loc), errors)
            return {}

    def report_name(self, message: str, loc: Loc, *, key: bool) -> None:
        """Report an unknown name; where there is a line to show, that says in which rule it is."""
        if self.document.values:
            self.document.report(self.loc(loc), message, key=key)
        else:
            self.report(loc, message, key=key)

    def report_option(self, name: str, known: tuple[str, ...], loc: Loc, errors: list[Any]) -> None:
        """Report what is wrong with one option."""
        if errors[0]["type"] == "extra_forbidden":
            self.report(loc, unknown_option(name, str(loc[-1]), known), key=True)
        elif errors[0]["type"] == "missing":
            self.report(loc[:-1], f"{name} needs the option {loc[-1]!r}")
        else:
            self.report(loc, must_be(errors))

    def report(self, loc: Loc, message: str, *, key: bool = False) -> None:
        """Take note of a problem at a place in the rule."""
        report(self.document, self.loc(loc), message, key=key)

    def loc(self, loc: Loc) -> Loc:
        """Give the place in the file of a place in the rule."""
        return ("rules", self.index, *loc)


def by_value(error: ValidationError, given: object) -> dict[Loc, list[Any]]:
    """Sort errors by the value that they are about: the members of a union each have their say.

    Pydantic's own locations also name the member of the union; those steps are left out.
    """
    sorted_errors: dict[Loc, list[Any]] = {}
    for details in error.errors(include_url=False):
        loc: list[str | int] = []
        value: Any = given
        steps = (*details["loc"], *details.get("ctx", {}).get("at", ()))
        for i, step in enumerate(steps):
            if _leads_into(value, step):
                value = value[step]
            elif details["type"] not in ("missing", "extra_forbidden") or i < len(steps) - 1:
                continue
            loc.append(step)
        sorted_errors.setdefault(tuple(loc), []).append(details)
    return sorted_errors


def _leads_into(value: object, step: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
