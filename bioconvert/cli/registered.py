"""What rule files can name: layers, mechanisms and nodes, by their docstrings and signatures."""

from __future__ import annotations

import inspect
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bioconvert.core import registry
from bioconvert.core.errors import OptionError
from bioconvert.core.options import options_model
from bioconvert.core.suggest import hint, nearest

_REGISTRIES = (registry.replacements, registry.mechanisms, registry.nodes)
_USES = {
    "replacement": "replace: {{with: {name}}}",
    "mechanism": "attach: [{name}]",
    "node": "wrap: {{kind: {name}}}",
}
_LAYER = "layer"
_ROLE = re.compile(r":\w+:`~?([^`]*)`")
_GREEK = re.compile(r"\\(?:var)?([a-z]+)")
_ARGUMENT = re.compile(r"    (\w+): (.*)")
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Args:
        name: its name.
        type: what it may be, in words.
        default: its default as JSON writes it; ``None`` where it must be given.
        meaning: what it is for.
    """

    name: str
    type: str
    default: str | None
    meaning: str


@dataclass(frozen=True, slots=True)
class Registered:
    """What a name stands for.

    Args:
        name: the name.
        kind: ``"replacement"``, ``"mechanism"``, ``"node"`` or ``"layer"``.
        use: how a rule names it; empty for a layer that no rule makes.
        of: what it replaces.
        summary: what it does.
        options: its options.
    """

    name: str
    kind: str
    use: str
    of: tuple[str, ...]
    summary: str
    options: tuple[Option, ...]


def registered_names() -> set[str]:
    """Name everything that rule files can name."""
    return {name for kind in _REGISTRIES for name in kind.names()}


def is_registered(name: str) -> bool:
    """Say whether rule files can name it."""
    return name in registered_names()


def registered(name: str) -> tuple[Registered, ...]:
    """Give what a name stands for.

    Raises:
        OptionError: nothing has that name.
    """
    found = tuple(_from_registry(kind, name) for kind in _REGISTRIES if name in kind.names())
    if found:
        return found
    from bioconvert import layers

    if name in layers.__all__:
        return (_from_class(name, getattr(layers, name)),)
    # Many a class of layers is but a part of another: it is named where it is what may be meant.
    known = registered_names()
    meant = nearest(name, known | _classes(layers.__all__))
    known |= set() if meant is None else {meant}
    raise OptionError(
        f"there is no layer, mechanism or node named {name!r}. {hint(name, known)} A module of a model is "
        "explained by --rules with a checkpoint or --arch"
    )


def _classes(names: list[str]) -> set[str]:
    return {name for name in names if name[:1].isupper() and not name.isupper()}


def _from_registry(known: registry.Registry, name: str) -> Registered:
    entries = known.entries(name)
    build = next(iter(entries.values())).build
    of = tuple(base for base in entries if base)
    use = _USES[known.kind].format(name=name)
    return Registered(name, known.kind, use, of, _summary(build), _options_of(build))


def _options_of(build: Callable[..., Any]) -> tuple[Option, ...]:
    content = options_model(build).model_json_schema()
    definitions = content.get("$defs", {})
    meanings = _meanings(build)
    return tuple(
        Option(
            name,
            type_text(schema, definitions),
            json.dumps(schema["default"]) if "default" in schema else None,
            meanings.get(name, ""),
        )
        for name, schema in content.get("properties", {}).items()
    )


def _from_class(name: str, cls: Any) -> Registered:
    if not inspect.isclass(cls):
        return Registered(name, "function", "", (), _summary(cls), _parameters(cls, _meanings(cls)))
    return Registered(name, _LAYER, "", (), _summary(cls), _parameters(cls, _meanings(cls)))


def _parameters(call: Callable[..., Any], meanings: Mapping[str, str]) -> tuple[Option, ...]:
    empty = inspect.Parameter.empty
    return tuple(
        Option(
            name,
            "anything" if parameter.annotation is empty else _annotation(parameter.annotation),
            None if parameter.default is empty else _default(parameter.default),
            meanings.get(name, ""),
        )
        for name, parameter in inspect.signature(call).parameters.items()
    )


def _annotation(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _default(value: object) -> str:
    return json.dumps(value, default=str)


def type_text(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Say in a few words which values a JSON Schema allows.

    Args:
        schema: the schema of one value.
        definitions: the schemas that it may refer to.
    """
    if "$ref" in schema:
        return type_text(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(type_text(each, definitions) for each in schema["anyOf"])
    bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([_basic(schema, definitions), " and ".join(bounds)]).strip()


def _basic(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(type_text(each, definitions) for each in schema['prefixItems'])}]"
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {type_text(schema['items'], definitions)}"
    return str(schema.get("type", "anything"))


def _summary(documented: object) -> str:
    return _plain((inspect.getdoc(documented) or "").partition("\n\n")[0])


def _meanings(documented: object) -> dict[str, str]:
    """Read the ``Args`` section of a docstring, and of a class those of its ancestors too."""
    meant = inspect.unwrap(documented) if callable(documented) else documented
    found: dict[str, list[str]] = {}
    for each in reversed(inspect.getmro(meant)) if inspect.isclass(meant) else (meant,):
        found.update(_arguments(inspect.cleandoc(each.__doc__ or "")))
    return {name: _plain(" ".join(lines)) for name, lines in found.items()}


def _arguments(text: str) -> dict[str, list[str]]:
    section = text.partition("\nArgs:\n")[2].partition("\n\n")[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        begins = _ARGUMENT.fullmatch(line)
        if begins is not None:
            found[begins[1]] = [begins[2]]
        elif found:
            next(reversed(found.values())).append(line.strip())
    return found


def _plain(text: str) -> str:
    """Take the marks of reStructuredText out of a text."""
    return " ".join(_GREEK.sub(_letter, _ROLE.sub(r"\1", text)).replace("``", "").split())


def _letter(name: re.Match[str]) -> str:
    try:
        # Unicode spells one of them in its own way.
        return unicodedata.lookup(f"GREEK SMALL LETTER {'lamda' if name[1] == 'lambda' else name[1]}")
    except KeyError:
        return name[0]
