"""Rules as plain values of the file's shape, from which the same rules can be read again."""

from __future__ import annotations

from collections.abc import Mapping

from bioconvert.ruleset.actions import Options, Replace
from bioconvert.ruleset.comparison import comparisons_to_plain
from bioconvert.ruleset.match import Match
from bioconvert.ruleset.rule import Rule


def rule_to_plain(rule: Rule) -> dict[str, object]:
    """Write a rule; options are written out with their defaults, empty conditions are left out."""
    plain: dict[str, object] = {"name": rule.name, "match": _match_to_plain(rule.match)}
    if rule.replace is not None:
        plain["replace"] = _replace_to_plain(rule.replace)
    if rule.attach:
        plain["attach"] = [{item.mechanism: _options_to_plain(item.options)} for item in rule.attach]
    if rule.wrap is not None:
        plain["wrap"] = {"kind": rule.wrap.kind, **_options_to_plain(rule.wrap.options)}
    return {**plain, **_given({"keep": rule.keep, "optional": rule.optional})}


def _match_to_plain(match: Match) -> dict[str, object]:
    return _given(
        {
            "type": list(match.type),
            "subclasses": match.subclasses,
            "path": list(match.path),
            "where": {name: comparisons_to_plain(given) for name, given in match.where.items()},
            "followed_by": [str(link) for link in match.followed_by],
            "not": list(match.exceptions),
            "parameter": match.parameter,
        }
    )


def _replace_to_plain(replace: Replace) -> dict[str, object]:
    own: dict[str, object] = {
        "with": replace.with_,
        "activation": replace.activation,
        "norm": replace.norm,
    }
    if replace.morph is not None:
        own["morph"] = {"steps": replace.morph.steps}
    return {**own, **_options_to_plain(replace.options)}


def _options_to_plain(options: Options) -> dict[str, object]:
    return {name: _thawed(value) for name, value in options.items()}


def _given(plain: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in plain.items() if value not in (None, False, [], {})}


def _thawed(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    return [_thawed(item) for item in value] if isinstance(value, list | tuple) else value
