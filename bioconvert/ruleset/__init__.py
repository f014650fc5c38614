"""Rule files become frozen, checked values, and select modules."""

from bioconvert.ruleset.actions import Attach, Replace, Wrap
from bioconvert.ruleset.builtin import builtin_names
from bioconvert.ruleset.comparison import Comparison
from bioconvert.ruleset.match import Link, Match
from bioconvert.ruleset.no_match import no_match
from bioconvert.ruleset.rule import Rule
from bioconvert.ruleset.rule_set import RuleSet, resolve_rules
from bioconvert.ruleset.schema import json_schema
from bioconvert.ruleset.selection import Candidate, Selection, select

__all__ = [
    "Attach",
    "Candidate",
    "Comparison",
    "Link",
    "Match",
    "Replace",
    "Rule",
    "RuleSet",
    "Selection",
    "Wrap",
    "builtin_names",
    "json_schema",
    "no_match",
    "resolve_rules",
    "select",
]
