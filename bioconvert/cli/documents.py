"""The schemas of the ``--json`` documents: one file a command in ``schemas/``, put together here."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from bioconvert.cli.command import SCHEMA_VERSION
from bioconvert.cli.exits import FAILURES, USAGE

Schema = dict[str, Any]

_FOLDER = Path(__file__).parent / "schemas"
_SHARED = "shared"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def documented_commands() -> tuple[str, ...]:
    """Name the commands whose documents have a schema."""
    names = (path.stem.replace("-", " ") for path in _FOLDER.glob("*.json"))
    return tuple(sorted(name for name in names if name != _SHARED))


def document_schema(command: str) -> Schema:
    """Give the JSON Schema (draft 2020-12) of a command's document, of success and of failure.

    Raises:
        KeyError: there is none of that name.
    """
    if command not in documented_commands():
        raise KeyError(command)
    definitions = {**_read(_SHARED), "success": _success(command), "failure": _failure()}
    return {
        "$schema": _DIALECT,
        "title": f"bioconvert {command} --json",
        "oneOf": [{"$ref": "#/$defs/success"}, {"$ref": "#/$defs/failure"}],
        "$defs": {name: definitions[name] for name in _used(definitions)},
    }


def _success(command: str) -> Schema:
    return {
        "type": "object",
        "properties": {"schema_version": {"const": SCHEMA_VERSION}, "command": {"const": command}},
        "required": ["schema_version", "command"],
        "allOf": [_read(command)],
        "unevaluatedProperties": False,
    }


def _failure() -> Schema:
    kinds = sorted({USAGE.kind, *(failure.kind for failure in FAILURES.values())})
    error = {
        "kind": {"enum": kinds},
        "message": {"type": "string"},
        "problems": {"type": "array", "items": {"$ref": "#/$defs/problem"}},
    }
    keys = {
        "schema_version": {"const": SCHEMA_VERSION},
        "command": {"type": "string", "description": "Empty where the command line names none."},
        "error": _closed(error),
    }
    return _closed(keys)


def _closed(keys: Schema) -> Schema:
    return {"type": "object", "properties": keys, "required": [*keys], "additionalProperties": False}


def _used(definitions: Schema) -> list[str]:
    """Name the definitions that a document can lead to."""
    found: dict[str, None] = {}
    waiting = ["success", "failure"]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting += _references(definitions[name])
    return list(found)


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        here = [value["$ref"].rpartition("/")[2]] if isinstance(value.get("$ref"), str) else []
        return here + [name for item in value.values() for name in _references(item)]
    return [name for item in value for name in _references(item)] if isinstance(value, list) else []


@lru_cache(maxsize=64)
def _read(name: str) -> Schema:
    path = _FOLDER / f"{name.replace(' ', '-')}.json"
    content: Schema = json.loads(path.read_text(encoding="utf-8"))
    return content
