"""What was done to a model as values that JSON can hold, and doing it again on a freshly built one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from bioconvert.core.classes import import_class, qualified_name
from bioconvert.core.errors import ConversionError
from bioconvert.graph.borrowing import new_layer
from bioconvert.graph.classes import original_class
from bioconvert.graph.grown import ORGANISM, blueprint_of, grown_names, is_put_together
from bioconvert.graph.resizing import described, misfits, note_of, repeat
from bioconvert.graph.trace import Untraceable
from bioconvert.graph.tree import ModuleTree, Place
from bioconvert.surgery.apply import RECORD
from bioconvert.surgery.hooking import hook_up, made_hooks
from bioconvert.surgery.look import unwrapped
from bioconvert.surgery.morphing import AFTER, Morph
from bioconvert.surgery.notation import (
    borrow_of_json,
    edit_of_json,
    edit_to_json,
    follower_of_json,
    follower_to_json,
    hook_of_json,
    hook_to_json,
)
from bioconvert.surgery.regrowing import regrown
from bioconvert.surgery.step import Dropping, Step, own_values, put_on, steps_of
from bioconvert.surgery.steps import remember, rewrite

Json = dict[str, Any]


def describe(model: nn.Module) -> Json:
    """Say what was done to a model.

    Returns:
        ``{"modules": [{"path", "steps"}], "rules": […], "seed": …}``; the steps of a module in their order,
        each with all that :func:`replay` needs but the values of tensors, and the ``"blueprint"`` of one that
        was put together. Of a model that can grow, also what
        is known of all its nodes together, under ``"organism"``, and the modules whose tensors have got other
        sizes, under ``"resized"``.
    """
    root = unwrapped(model)
    records = vars(root).get(RECORD, [])
    names = {id(place.module): place.name for place in ModuleTree(root).modules()}
    told: Json = {
        "modules": [
            entry for place in ModuleTree(root).modules() if (entry := _entry(place, names)) is not None
        ],
        "rules": [record["rules"] for record in records],
        "seed": records[-1]["seed"] if records else 0,
    }
    if ORGANISM in vars(root):
        told["organism"] = copy.deepcopy(vars(root)[ORGANISM])
    resized = [place for place in ModuleTree(root).modules() if note_of(place.module) is not None]
    if resized:
        told["resized"] = [{"path": place.name, **described(place.module)} for place in resized]
    return told


def replay(model: nn.Module, description: Json) -> None:
    """Do to a freshly built model what was done to another one; the new tensors' values come by loading.

    Raises:
        ConversionError: the model isn't what was converted then; every misfit is named, nothing is changed.
    """
    root = unwrapped(model)
    added: list[tuple[nn.Module, str]] = []
    try:
        for container, name in regrown(root, description):
            added.append((container, name))
        places = {place.name: place for place in ModuleTree(root).places}
        for container, name, layer in list(_borrowers(description, places)):
            container._modules[name] = layer
            added.append((container, name))
        places = {place.name: place for place in ModuleTree(root).places}
        problems = [*_all_misfits(description, places)]
        if problems:
            raise ConversionError("the conversion doesn't fit this model:\n" + "\n".join(problems))
    except BaseException:
        for container, name in added:
            container._modules.pop(name, None)
        raise
    _repeat_all(description, places)
    if "organism" in description:
        vars(root)[ORGANISM] = copy.deepcopy(description["organism"])
    if description["rules"]:
        vars(root)[RECORD] = [{"rules": rules, "seed": description["seed"]} for rules in description["rules"]]


def _repeat_all(description: Json, places: Mapping[str, Place]) -> None:
    # A container is traced through its children's calls alone, so they may be of any class by then; but an
    # activation that is no longer one wouldn't be found.
    rewrites = [(entry, step) for entry, step in _all_steps(description) if step["edits"]]
    others = [(entry, step) for entry, step in _all_steps(description) if not step["edits"]]
    for entry, step in rewrites:
        _rewrite_again(places[entry["path"]], step)
    for entry, step in others:
        _repeat(places[entry["path"]].module, step, places)
    for entry in description.get("resized", ()):
        repeat(places[entry["path"]].module, entry)


def _borrowers(description: Json, places: Mapping[str, Place]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Make the layers that work with a container's own parameters: container, name and layer."""
    for entry, step in _all_steps(description):
        for record in step["borrows"]:
            if entry["path"] in places:
                borrow = borrow_of_json(record)
                yield places[entry["path"]].module, borrow.child, new_layer(borrow)


def added_tensors(model: nn.Module) -> set[str]:
    """Give the ``state_dict`` names of the tensors that conversion added."""
    converted = list(_converted(unwrapped(model)))
    added = {_join(p.name, name) for p in converted for step in steps_of(p.module) for name in step.added}
    grown = {
        _join(place.name, f"{child}.{name}")
        for place in converted
        for child in grown_names(place.module)
        for name in place.module._modules[child].state_dict()  # type: ignore[union-attr]
    }
    return added | grown


def kept_originals(model: nn.Module) -> dict[str, torch.Tensor]:
    """Give the original values of tensors that conversion overwrote, by ``state_dict`` name."""
    return {
        _join(place.name, name): value
        for place in _converted(unwrapped(model))
        for step in reversed(steps_of(place.module))
        for name, value in step.kept.items()
    }


def restore_originals(model: nn.Module, originals: Mapping[str, torch.Tensor]) -> None:
    """Put the original values of overwritten tensors back on record after a :func:`replay`."""
    for place in _converted(unwrapped(model)):
        for step in steps_of(place.module):
            for name in step.kept:
                step.kept[name] = originals[_join(place.name, name)]


def _converted(model: nn.Module) -> Iterator[Place]:
    return (place for place in ModuleTree(model).modules() if steps_of(place.module))


def _all_steps(description: Json) -> Iterator[tuple[Json, Json]]:
    return ((entry, step) for entry in description["modules"] for step in entry["steps"])


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _entry(place: Place, names: Mapping[int, str]) -> Json | None:
    steps = [_described(place.module, step, names) for step in steps_of(place.module)]
    blueprint = blueprint_of(place.module)
    if blueprint is not None:
        return {"path": place.name, "steps": steps, "blueprint": copy.deepcopy(blueprint)}
    return {"path": place.name, "steps": steps} if steps else None


def _described(module: nn.Module, step: Step, names: Mapping[int, str]) -> Json:
    return {
        "rule": step.rule,
        "action": step.action,
        "name": step.name,
        "into": qualified_name(step.into) if step.into is not None else None,
        "original_class": qualified_name(original_class(module)),
        "attributes": _present(module, step),
        "added": list(step.added),
        "filled": list(step.filled),
        "overwritten": list(step.kept),
        "tensors": {name: _spec(module, name) for name in step.added},
        "edits": [edit_to_json(edit) for edit in step.edits],
        "redirects": [list(path) for path in step.redirects],
        "answers": step.answers,
        "called": [list(path) for path in step.called],
        "borrows": [asdict(borrow) for borrow in step.borrows],
        "dropping": asdict(step.dropping) if step.dropping is not None else None,
        "morph": asdict(step.morph) if step.morph is not None else None,
        "after": [follower_to_json(follower, names) for follower in step.after],
        "parameter": step.parameter,
        "frozen": list(step.frozen),
        "hooks": [hook_to_json(hook) for hook in step.hooks],
    }


def _present(module: nn.Module, step: Step) -> Json:
    """Give the attributes that a step set as they are now: what is known of a module grows as it trains."""
    own = vars(module)
    return {name: copy.deepcopy(own.get(name, value)) for name, value in step.attributes.items()}


def _spec(module: nn.Module, name: str) -> Json:
    tensor: torch.Tensor = getattr(module, name)
    return {
        "kind": "parameter" if name in module._parameters else "buffer",
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "requires_grad": tensor.requires_grad,
    }


def _all_misfits(description: Json, places: Mapping[str, Place]) -> Iterator[str]:
    added: dict[str, set[str]] = {}
    for entry in description["modules"]:
        yield from _misfits(entry, places)
        added[entry["path"]] = {name for step in entry["steps"] for name in step["added"]}
    for entry in description.get("resized", ()):
        path = entry["path"]
        if path not in places:
            yield f"{path!r}: there is no such module"
        else:
            yield from (f"{path!r}: {p}" for p in misfits(places[path].module, entry, added.get(path, ())))


def _misfits(entry: Json, places: Mapping[str, Place]) -> Iterable[str]:
    path = entry["path"]
    if path not in places:
        yield f"{path!r}: there is no such module"
        return
    module = places[path].module
    if "blueprint" in entry and not is_put_together(module):
        yield f"{path!r} is a {qualified_name(type(module))}, which isn't put together from others"
    for step in entry["steps"]:
        if qualified_name(type(module)) != step["original_class"]:
            yield f"{path!r} is a {qualified_name(type(module))} and was a {step['original_class']}"
            return
        yield from (f"{path!r}: {problem}" for problem in _missing(step))


def _missing(step: Json) -> Iterator[str]:
    """Name the classes of a step that aren't there."""
    if step["into"] is not None:
        try:
            into = import_class(step["into"])
        except ImportError as error:
            yield str(error)
        else:
            if not issubclass(into, nn.Module):
                yield f"{step['into']} is no module class"
    for hook in step.get("hooks", ()):
        try:
            hook_of_json(hook)
        except ImportError as error:
            yield str(error)


def _rewrite_again(place: Place, step: Json) -> None:
    edits = [edit_of_json(edit) for edit in step["edits"]]
    try:
        done = rewrite(place.module, edits, rule=step["rule"])
    except Untraceable as reason:
        raise ConversionError(f"the forward of {place.name!r} can't be rewritten again: {reason}") from reason
    done.frozen = tuple(step["frozen"])
    _freeze_again(place.module, done)


def _freeze_again(module: nn.Module, step: Step) -> None:
    for name in step.frozen:
        module._parameters[name].requires_grad_(False)  # type: ignore[union-attr]


def _repeat(module: nn.Module, record: Json, places: Mapping[str, Place]) -> None:
    morph = record["morph"]
    step = Step(
        rule=record["rule"],
        action=record["action"],
        name=record["name"],
        into=import_class(record["into"]) if record["into"] is not None else None,
        attributes=copy.deepcopy(record["attributes"]),
        added=tuple(record["added"]),
        filled=tuple(record["filled"]),
        kept={name: getattr(module, name).detach() for name in record["overwritten"]},
        redirects=tuple(tuple(path) for path in record["redirects"]),
        answers=record["answers"],
        called=tuple(tuple(path) for path in record["called"]),
        borrows=tuple(borrow_of_json(borrow) for borrow in record["borrows"]),
        dropping=Dropping(**record["dropping"]) if record["dropping"] is not None else None,
        morph=Morph(morph["steps"], tuple(morph["own"])) if morph is not None else None,
        after=tuple(follower_of_json(each, places) for each in record["after"]),
        parameter=record["parameter"],
        frozen=tuple(record["frozen"]),
        hooks=tuple(hook_of_json(each) for each in record.get("hooks", ())),
    )
    put_on(module, step)
    vars(module).update(own_values(step.attributes))
    if step.morph is not None:
        vars(module)[AFTER] = step.after
    for name, spec in record["tensors"].items():
        _add_empty(module, name, spec)
    _freeze_again(module, step)
    step.hooked = made_hooks(step.hooks)
    hook_up(module, step.hooks, step.hooked)
    remember(module, step)


def _add_empty(module: nn.Module, name: str, spec: Json) -> None:
    like = next(iter(module.parameters(recurse=False)), None)
    device = like.device if like is not None else None
    empty = torch.empty(spec["shape"], dtype=getattr(torch, spec["dtype"]), device=device)
    if spec["kind"] == "parameter":
        module._parameters[name] = nn.Parameter(empty, requires_grad=spec["requires_grad"])
    else:
        module._buffers[name] = empty
