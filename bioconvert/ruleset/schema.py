"""The JSON Schema of rule files, for editors; the options come from what is registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bioconvert.core import registry
from bioconvert.core.families import FAMILIES
from bioconvert.core.functions import FUNCTIONS
from bioconvert.core.options import options_model
from bioconvert.core.registry import Registry

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_BOOLEAN: Schema = {"type": "boolean", "default": False}
_TEXT: Schema = {"type": "string"}
_SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}


def json_schema() -> Schema:
    """Give the JSON Schema (draft 2020-12) of a rule file, with the options of all that is registered."""
    definitions: Schema = {}
    rule = _rule(definitions)
    keys = {
        "version": {"const": 1, "description": "Version of the format."},
        "name": {**_TEXT, "description": "What reports call the rule set."},
        "description": {**_TEXT, "description": "What it is for."},
        "extends": {
            "type": "array",
            "items": _TEXT,
            "description": "Built-in names, or relative paths inside the same folder; their rules follow.",
        },
        "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
    }
    return {
        "$schema": _DIALECT,
        "title": "bioconvert rule file",
        **_closed(keys, required=["version"]),
        "$defs": {"rule": rule, "match": _match(), **definitions},
    }


def _rule(definitions: Schema) -> Schema:
    keys = {
        "name": {**_TEXT, "description": "What reports call the rule."},
        "match": {"$ref": "#/$defs/match"},
        "replace": _replace(definitions),
        "attach": {"type": "array", "items": _attach(definitions)},
        "wrap": _wrap(definitions),
        "keep": {**_BOOLEAN, "description": "Nothing may touch what this rule matches."},
        "optional": {**_BOOLEAN, "description": "The rule may match nothing."},
    }
    acts: list[Schema] = [{"required": [key]} for key in ("replace", "attach", "wrap", "keep")]
    return {**_closed(keys, required=["match"]), "anyOf": acts}


def _match() -> Schema:
    families, functions = ", ".join(FAMILIES), ", ".join(dict.fromkeys(FUNCTIONS.values()))
    keys = {
        "type": _texts(
            f"Class names, dotted paths of classes, or families: {families}. Also functions, for calls of "
            f"them on a module's own parameters: {functions}."
        ),
        "subclasses": {**_BOOLEAN, "description": "Also subclasses with a forward of their own."},
        "path": _texts('Globs over dotted names (`*` one segment, `**` any number), or "re:…".'),
        "where": {
            "type": "object",
            "additionalProperties": {"anyOf": [_SCALAR, {"type": "array"}]},
            "description": 'Conditions on attributes: a value, or a comparison such as ">=16" or ">2, <=64".',
        },
        "followed_by": _texts('What must follow in the data flow, such as "BatchNorm2d?", "ReLU|GELU".'),
        "not": _texts("Exceptions: first, last, globs over dotted names."),
        "parameter": {**_TEXT, "description": "A glob over names of parameters, in place of modules."},
    }
    return {**_closed(keys), "anyOf": [{"required": [key]} for key in ("type", "path", "parameter")]}


def _replace(definitions: Schema) -> Schema:
    activation = {
        "enum": ["keep", "drop"],
        "default": "keep",
        "description": "Whether the activation that follows stays; drop needs followed_by.",
    }
    norm = {
        "enum": ["keep", "fold", "drop"],
        "default": "keep",
        "description": "Whether the normalisation in between stays, goes into the weights, or goes.",
    }
    morph = {
        **_closed({"steps": {"type": "integer", "exclusiveMinimum": 0}}, required=["steps"]),
        "description": "The original gives way gradually, over this many steps of training.",
    }
    own = {"activation": activation, "norm": norm, "morph": morph}
    return _one_of(
        registry.replacements, definitions, lambda name: {"with": {"const": name}, **own}, ["with"]
    )


def _wrap(definitions: Schema) -> Schema:
    return _one_of(
        registry.nodes, definitions, lambda name: {"kind": {"const": name, "default": "block"}}, []
    )


def _attach(definitions: Schema) -> Schema:
    forms: list[Schema] = [{"enum": list(registry.mechanisms.names())}]
    for name in registry.mechanisms.names():
        options, required = _options(registry.mechanisms, name, definitions)
        forms.append(_closed({name: _closed(options, required)}, required=[name]))
    return {"anyOf": forms}


def _one_of(known: Registry, definitions: Schema, own: Any, own_required: list[str]) -> Schema:
    forms = []
    for name in known.names():
        options, required = _options(known, name, definitions)
        forms.append(_closed({**own(name), **options}, [*own_required, *required]))
    return {"anyOf": forms} if forms else {"not": {}, "description": f"No {known.kind} is installed."}


def _options(known: Registry, name: str, definitions: Schema) -> tuple[Schema, list[str]]:
    """Give the schemas of the options of what is registered under a name, and which of them are required."""
    build = next(iter(known.entries(name).values())).build
    schema = options_model(build).model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
    for key, definition in schema.get("$defs", {}).items():
        definitions[f"{name}.{key}"] = definition
    return schema.get("properties", {}), schema.get("required", [])


def _closed(keys: Mapping[str, Any], required: Sequence[str] = ()) -> Schema:
    """Give the schema of a mapping with these keys and no others."""
    closed = {"type": "object", "properties": dict(keys), "additionalProperties": False}
    return {**closed, "required": list(required)} if required else closed


def _texts(description: str) -> Schema:
    """Give the schema of a text or a list of texts."""
    return {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}], "description": description}
