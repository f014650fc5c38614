"""``bioconvert rules list``: the built-in rule sets."""

from __future__ import annotations

from bioconvert.cli.command import Answer


def list_all() -> Answer:
    """List the built-in rule sets."""
    from bioconvert.report.rules import rule_sets_table
    from bioconvert.ruleset import builtin_names, resolve_rules

    described = {name: resolve_rules(name).description for name in builtin_names()}
    return Answer(
        {"rules": [{"name": name, "description": text} for name, text in described.items()]},
        lambda: [rule_sets_table(described)],
    )
