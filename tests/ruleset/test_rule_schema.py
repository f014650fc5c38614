"""The JSON Schema of rule files."""

import json

from pydantic import BaseModel

from bioconvert.ruleset import Match, Rule, json_schema
from bioconvert.ruleset.sheet import Sheet, keys_of


def references(schema):
    """Give every reference in a schema."""
    if isinstance(schema, dict):
        yield from [schema["$ref"]] if "$ref" in schema else []
        schema = list(schema.values())
    for part in schema if isinstance(schema, list) else []:
        yield from references(part)


def test_keys_are_those_of_the_models():
    """The schema knows the keys that reading knows, no more and no fewer."""
    schema = json_schema()
    assert tuple(schema["properties"]) == keys_of(Sheet)
    assert tuple(schema["$defs"]["rule"]["properties"]) == keys_of(Rule)
    assert tuple(schema["$defs"]["match"]["properties"]) == keys_of(Match)


def test_it_is_json_and_complete():
    """The schema is JSON, says its dialect, and defines what it refers to."""
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(references(schema)) == {"#/$defs/rule", "#/$defs/match"}


def test_options_of_what_is_registered():
    """Each replacement, mechanism and node has its own options, with types, bounds and defaults."""
    rule = json_schema()["$defs"]["rule"]["properties"]
    forms = {form["properties"]["with"]["const"]: form for form in rule["replace"]["anyOf"]}
    convolutions = [f"YatConv{kind}{dims}d" for kind in ("", "Transpose") for dims in "123"]
    assert list(forms) == [*convolutions, "YatLinear"]
    linear = forms["YatLinear"]
    assert (linear["required"], linear["additionalProperties"]) == (["with"], False)
    assert linear["properties"]["drop_connect"]["exclusiveMaximum"] == 1
    assert linear["properties"]["init"]["default"] == "auto"
    assert linear["properties"]["activation"]["enum"] == ["keep", "drop"]
    name, _, rejuvenate = rule["attach"]["items"]["anyOf"]
    assert name == {"enum": ["fuzzy_lr", "rejuvenate"]}
    assert rejuvenate["properties"]["rejuvenate"]["required"] == ["every"]
    assert rule["wrap"]["anyOf"][0]["properties"]["kind"] == {"const": "block", "default": "block"}


class Sizes(BaseModel):
    """An option with a definition of its own."""

    width: int


def sized(module, site, *, sizes: Sizes | None = None):
    """Stand for a mechanism with such an option."""


def test_definitions_of_options_are_hoisted(registered):
    """What the schema of an option refers to is defined at the top, under a name of its own."""
    registered["mechanisms"].register("sized", sized, [""])
    schema = json_schema()
    assert "#/$defs/sized.Sizes" in set(references(schema))
    assert list(schema["$defs"]["sized.Sizes"]["properties"]) == ["width"]


def test_without_anything_registered(registered):
    """Where nothing is installed, nothing can be named."""
    for registry in registered.values():
        registry._entries.clear()
    rule = json_schema()["$defs"]["rule"]["properties"]
    assert rule["replace"] == {"not": {}, "description": "No replacement is installed."}
    assert rule["attach"]["items"] == {"anyOf": [{"enum": []}]}
