"""One rule file as it stands, before what it extends is added."""

from __future__ import annotations

from typing import Literal

from pydantic import StrictStr, ValidationError

from bioconvert.ruleset.actions import Morph
from bioconvert.ruleset.checks import RuleCheck, by_value, report
from bioconvert.ruleset.document import Document, Loc
from bioconvert.ruleset.frozen import Frozen
from bioconvert.ruleset.match import Match
from bioconvert.ruleset.messages import must_be, unknown_key
from bioconvert.ruleset.quoting import shown
from bioconvert.ruleset.rule import Name, Rule

VERSION = 1


class Sheet(Frozen):
    """One rule file.

    Args:
        version: of the format.
        name: what reports call the rule set.
        description: what it is for.
        extends: built-in names or relative paths of the files whose rules follow.
        rules: its own rules.
    """

    version: Literal[1]
    name: Name
    description: StrictStr = ""
    extends: tuple[StrictStr, ...] = ()
    rules: tuple[Rule, ...] = ()


def keys_of(model: type[Frozen]) -> tuple[str, ...]:
    """Name the keys that a part of a rule file may have."""
    return tuple(info.alias or name for name, info in model.model_fields.items())


_KEYS = {"sheet": keys_of(Sheet), "rule": keys_of(Rule), "match": keys_of(Match), "morph": keys_of(Morph)}


def read_sheet(document: Document, default_name: str) -> Sheet | None:
    """Check a rule file; ``None`` if there is a problem, which the document then holds.

    Args:
        document: the file.
        default_name: its name, if it gives itself none.
    """
    if document.problems and document.value is None:
        return None
    if not isinstance(document.value, dict):
        given = shown(document.value)
        document.report((), f"a rule file is a mapping with `version: 1` and `rules: [...]`, not {given}")
        return None
    if not _is_version_known(document, document.value):
        return None
    content = {"name": default_name, **document.value, "version": VERSION}
    if isinstance(content.get("rules"), list):
        content["rules"] = [RuleCheck(document, i).checked(rule) for i, rule in enumerate(content["rules"])]
    try:
        sheet = Sheet.model_validate(content)
    except ValidationError as error:
        for loc, errors in by_value(error, document.value).items():
            _report(document, loc, errors)
        return None
    rules = tuple(rule.placed(document.place(("rules", i))) for i, rule in enumerate(sheet.rules))
    return None if document.problems else sheet.model_copy(update={"rules": rules})


def _is_version_known(document: Document, content: dict[str, object]) -> bool:
    if "version" not in content:
        document.report((), "`version: 1` is missing")
        return True
    version = content["version"]
    if type(version) is int and version == VERSION:
        return True
    document.report(
        ("version",), f"version {shown(version)} is unknown; this version of bioconvert reads `version: 1`"
    )
    return False


def _report(document: Document, loc: Loc, errors: list[dict[str, object]]) -> None:
    kind = errors[0]["type"]
    if kind == "extra_forbidden":
        part = next(
            (name for name in ("match", "morph") if name in loc[:-1]), "rule" if len(loc) > 1 else "sheet"
        )
        keys = _KEYS[part]
        report(document, loc, unknown_key(str(loc[-1]), keys), key=True)
    elif kind == "missing":
        report(document, loc[:-1], f"`{loc[-1]}` is missing")
    else:
        report(document, loc, must_be(errors, loc[-1] if loc else ""))
