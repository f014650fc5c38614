"""``bioconvert rules show``: what a rule set says once everything it extends is in it."""

from __future__ import annotations

from typing import Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.completing import rule_sets_and_files


def show_one(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="A built-in rule set or a rule file.",
            autocompletion=rule_sets_and_files,
        ),
    ],
) -> Answer:
    """Print a rule set as YAML, with everything that it extends."""
    import yaml

    from bioconvert.ruleset import resolve_rules

    content = resolve_rules(name).to_dict()
    return Answer(
        {"rules": content},
        lambda: [
            yaml.safe_dump(
                content, sort_keys=False, default_flow_style=None, allow_unicode=True, width=78
            ).rstrip()
        ],
    )
