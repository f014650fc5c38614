"""Rule sets: what ``convert`` and ``plan`` take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import StrictStr

from bioconvert.core.errors import Problem, RuleError
from bioconvert.core.suggest import hint
from bioconvert.ruleset.builtin import builtin_names
from bioconvert.ruleset.frozen import Frozen
from bioconvert.ruleset.loading import load_file, load_mapping, load_text
from bioconvert.ruleset.origins import FileOrigin, builtin_origin, exists, file_origin, looks_like_path
from bioconvert.ruleset.plain import rule_to_plain
from bioconvert.ruleset.quoting import shortened, shown
from bioconvert.ruleset.rule import Rule
from bioconvert.ruleset.sheet import Sheet

_LONGEST_NAME = 200


class RuleSet(Frozen):
    """Rules in the order in which they count: of each kind of action, the first that matches wins.

    Args:
        version: of the format.
        name: what reports call it.
        description: what it is for.
        rules: its rules, followed by those of the rule sets that it extends.
    """

    version: Literal[1] = 1
    name: StrictStr
    description: StrictStr = ""
    rules: tuple[Rule, ...] = ()

    @classmethod
    def load(cls, source: str | Path) -> RuleSet:
        """Read a rule set from a file, or a built-in one by its name.

        Raises:
            RuleError: it can't be used; with every problem, and its place.
        """
        return cls._of(load_file(_origin(source)))

    @classmethod
    def from_dict(cls, content: Mapping[str, object], source: str = "<dict>") -> RuleSet:
        """Take a rule set of the file's shape.

        Args:
            content: the rule set.
            source: what errors call it.

        Raises:
            RuleError: it can't be used; with every problem.
        """
        return cls._of(load_mapping(content, source))

    @classmethod
    def from_text(cls, text: str, source: str = "<text>") -> RuleSet:
        """Read a rule set from YAML.

        Args:
            text: the YAML.
            source: what errors call it.

        Raises:
            RuleError: it can't be used; with every problem, and its place.
        """
        return cls._of(load_text(text, source))

    def to_dict(self) -> dict[str, object]:
        """Give the rule set in the file's shape, as JSON can hold it; :meth:`from_dict` reads it back."""
        return {
            "version": self.version,
            "name": self.name,
            "description": self.description,
            "rules": [rule_to_plain(rule) for rule in self.rules],
        }

    @classmethod
    def _of(cls, loaded: tuple[Sheet, tuple[Rule, ...]]) -> RuleSet:
        sheet, rules = loaded
        return cls(name=sheet.name, description=sheet.description, rules=rules)


def resolve_rules(rules: str | Path | Mapping[str, object] | RuleSet | Sequence[object]) -> RuleSet:
    """Give the rule set that an argument stands for.

    Args:
        rules: a built-in name, a path, a dict of the file's shape, a rule set, or a list of these, whose
            rules then count in that order.

    Raises:
        RuleError: it can't be used; with every problem.
    """
    if isinstance(rules, list | tuple):
        return _joined(rules)
    if isinstance(rules, RuleSet):
        return rules
    if isinstance(rules, Mapping):
        return RuleSet.from_dict(rules)
    if isinstance(rules, str | Path):
        return RuleSet.load(rules)
    given = type(rules).__name__
    raise RuleError([Problem(f"rules are a name, a path, a dict, a RuleSet or a list of these, not {given}")])


def _joined(members: Sequence[object]) -> RuleSet:
    sets: list[RuleSet] = []
    problems: list[Problem] = []
    for member in members:
        try:
            if isinstance(member, list | tuple):
                raise RuleError([Problem("a list of rules holds no other lists")])
            sets.append(resolve_rules(member))  # type: ignore[arg-type]
        except RuleError as error:
            problems += error.problems
    if problems:
        raise RuleError(problems)
    if len(sets) == 1:
        return sets[0]
    return RuleSet(
        name=shortened("+".join(member.name for member in sets) or "none", _LONGEST_NAME),
        description=" + ".join(member.description for member in sets if member.description),
        rules=tuple(rule for member in sets for rule in member.rules),
    )


def _origin(source: str | Path) -> FileOrigin:
    if isinstance(source, Path):
        return file_origin(source)
    builtin = builtin_origin(source)
    if builtin is not None:
        return builtin
    if source and (looks_like_path(source) or exists(Path(source))):
        return file_origin(Path(source))
    message = f"there is no rule set named {shown(source)}. {hint(source, builtin_names())}"
    raise RuleError([Problem(message)])
