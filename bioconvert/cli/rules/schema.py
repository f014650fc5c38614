"""``bioconvert rules schema``: the JSON Schema of rule files, for an editor."""

from __future__ import annotations

import json

from bioconvert.cli.command import Answer


def schema() -> Answer:
    """Print the JSON Schema of rule files, for an editor."""
    from bioconvert.ruleset import json_schema

    content = json_schema()
    return Answer({"schema": content}, lambda: [json.dumps(content, indent=2)])
