"""Parts of a step as values that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from bioconvert.core.change import Hook, ModuleHook
from bioconvert.core.classes import import_class, qualified_name
from bioconvert.graph.activations import FunctionCall
from bioconvert.graph.edits import Drop, Edit, Fade
from bioconvert.graph.redirect import Borrow
from bioconvert.graph.tree import Place
from bioconvert.graph.walk import Entry, Links
from bioconvert.ruleset import Link
from bioconvert.surgery.morphing import Follower

Json = dict[str, Any]


def edit_to_json(edit: Edit) -> Json:
    """Write an edit of a container's graph."""
    if isinstance(edit, Fade):
        return {"fade": {**_where(edit.entry, edit.links), "steps": edit.steps}}
    assert isinstance(edit, Drop)
    return {"drop": {**_where(edit.entry, edit.links), "parts": list(edit.parts)}}


def edit_of_json(record: Json) -> Edit:
    """Read what :func:`edit_to_json` wrote."""
    ((kind, told),) = record.items()
    entry = Entry(tuple(told["layer"]), told["argument"], told["element"])
    links = tuple(
        Link(alternatives=tuple(link["alternatives"]), optional=link["optional"])
        for link in told["followed_by"]
    )
    if kind == "fade":
        return Fade(entry, links, told["steps"])
    return Drop(entry, links, tuple(told["parts"]))


def _where(entry: Entry, links: Links) -> Json:
    return {
        "layer": list(entry.child),
        "argument": entry.argument,
        "element": entry.element,
        "followed_by": [
            {"alternatives": list(link.alternatives), "optional": link.optional} for link in links
        ],
    }


def borrow_of_json(record: Json) -> Borrow:
    """Read a layer that works with its container's parameter, written as its fields."""
    pairs = record["made_with"]
    made_with = tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in pairs)
    return Borrow(**{**record, "made_with": made_with})


def hook_to_json(hook: Hook) -> Json:
    """Write what a module calls before or after its forward."""
    return {"make": qualified_name(hook.make), "options": dict(hook.options), "when": hook.when}


def hook_of_json(record: Json) -> Hook:
    """Read what :func:`hook_to_json` wrote.

    Raises:
        ImportError: it isn't there, or no hook.
    """
    made = import_class(record["make"])
    if not issubclass(made, ModuleHook):
        raise ImportError(f"{record['make']} is no hook of a module")
    return Hook(made, record["options"], record["when"])


def follower_to_json(follower: Follower, names: Mapping[int, str]) -> Json:
    """Write what a morphing layer's original goes through: a module by its name, or a function's call."""
    if isinstance(follower, nn.Module):
        return {"module": names[id(follower)]}
    assert isinstance(follower, FunctionCall)
    return {"function": follower.name, "arguments": dict(follower.arguments)}


def follower_of_json(record: Json, places: Mapping[str, Place]) -> Follower:
    """Read what :func:`follower_to_json` wrote."""
    if "module" in record:
        return places[record["module"]].module
    return FunctionCall(record["function"], tuple(record["arguments"].items()))
