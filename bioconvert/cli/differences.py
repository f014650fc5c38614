"""How two checkpoints differ: in names, shapes and types, in values, and in what became of their modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bioconvert.checkpoint.folders.manifest import Manifest
from bioconvert.checkpoint.formats.stored import Contents, Stored

if TYPE_CHECKING:
    from bioconvert.checkpoint.formats.comparing import Distance


@dataclass(frozen=True, slots=True)
class Form:
    """What a header says of a tensor.

    Args:
        dtype: its number format.
        shape: its sizes.
    """

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A tensor that both checkpoints have, and that isn't the same in both.

    Args:
        name: its name.
        a: its form in the first.
        b: its form in the second.
        values: how far apart the values are; ``None`` where they are the same or were not compared.
    """

    name: str
    a: Form
    b: Form
    values: Distance | None


@dataclass(frozen=True, slots=True)
class Became:
    """What conversions made of a module.

    Args:
        steps: what was done to it, in order; its original class alone where nothing was.
        rules: names of the rules.
        options: the options that it got.
    """

    steps: tuple[str, ...]
    rules: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModuleChange:
    """A module of which conversions made different things.

    Args:
        path: its dotted name.
        a: what it is in the first checkpoint.
        b: what it is in the second.
    """

    path: str
    a: Became
    b: Became

    @property
    def options(self) -> dict[str, tuple[object, object]]:
        """The options that differ, where the same steps were taken in both."""
        if self.a.steps != self.b.steps:
            return {}
        one, other = self.a.options, self.b.options
        return {
            name: (one.get(name), other.get(name))
            for name in sorted({*one, *other})
            if one.get(name) != other.get(name)
        }


@dataclass(frozen=True, slots=True)
class Differences:
    """How two checkpoints differ.

    Args:
        only_a: tensors that only the first has.
        only_b: tensors that only the second has.
        changed: tensors that both have and that aren't the same.
        same: number of tensors that are the same.
        modules: modules of which conversions made different things.
    """

    only_a: Mapping[str, Form]
    only_b: Mapping[str, Form]
    changed: tuple[Changed, ...]
    same: int
    modules: tuple[ModuleChange, ...]

    @property
    def any(self) -> bool:
        """Whether they differ."""
        return bool(self.only_a or self.only_b or self.changed or self.modules)

    def to_dict(self) -> dict[str, object]:
        """Give the differences as values that JSON can hold."""
        return {
            "only_a": _listed(self.only_a),
            "only_b": _listed(self.only_b),
            "changed": [asdict(found) for found in self.changed],
            "same": self.same,
            "modules": [
                {
                    "path": found.path,
                    "a": {"steps": found.a.steps, "rules": found.a.rules},
                    "b": {"steps": found.b.steps, "rules": found.b.rules},
                    "options": found.options,
                }
                for found in self.modules
            ],
        }


def find_differences(a: Contents, b: Contents, *, values: bool) -> Differences:
    """Compare two checkpoints.

    Args:
        a: the first.
        b: the second.
        values: whether to read and compare values; otherwise only names, types and shapes.

    Raises:
        CorruptFileError: a file ends too early.
    """
    common = [name for name in a.tensors if name in b.tensors]
    found = (_changed(name, a.tensors[name], b.tensors[name], values=values) for name in common)
    changed = tuple(each for each in found if each is not None)
    return Differences(
        {name: _form(tensor) for name, tensor in a.tensors.items() if name not in b.tensors},
        {name: _form(tensor) for name, tensor in b.tensors.items() if name not in a.tensors},
        changed,
        len(common) - len(changed),
        tuple(_module_changes(a.manifest, b.manifest)),
    )


def _changed(name: str, one: Stored, other: Stored, *, values: bool) -> Changed | None:
    apart = _distance(one, other) if values and one.shape == other.shape else None
    if _form(one) == _form(other) and apart is None:
        return None
    return Changed(name, _form(one), _form(other), apart)


def _distance(one: Stored, other: Stored) -> Distance | None:
    # Names and shapes are compared without numpy, whose import takes as long as all the rest.
    from bioconvert.checkpoint.formats.comparing import distance

    return distance(one, other)


def _form(tensor: Stored) -> Form:
    return Form(tensor.dtype, tensor.shape)


def _listed(forms: Mapping[str, Form]) -> list[dict[str, object]]:
    return [{"name": name, "dtype": form.dtype, "shape": form.shape} for name, form in forms.items()]


def _module_changes(a: Manifest | None, b: Manifest | None) -> Iterable[ModuleChange]:
    one, other = _converted(a), _converted(b)
    for path in dict.fromkeys((*one, *other)):
        steps_a, steps_b = one.get(path, []), other.get(path, [])
        original = _short((steps_a or steps_b)[0]["original_class"])
        change = ModuleChange(path, _became(original, steps_a), _became(original, steps_b))
        if change.a.steps != change.b.steps or change.options:
            yield change


def _converted(manifest: Manifest | None) -> dict[str, list[dict[str, Any]]]:
    if manifest is None or manifest.conversion is None:
        return {}
    return {module["path"]: module["steps"] for module in manifest.conversion["modules"]}


def _became(original: str, steps: list[dict[str, Any]]) -> Became:
    options: dict[str, object] = {}
    for step in steps:
        options.update(step["attributes"])
    rules = tuple(dict.fromkeys(str(step["rule"]) for step in steps))
    return Became(tuple(map(_done, steps)) or (original,), rules, options)


def _done(step: Mapping[str, Any]) -> str:
    if step["into"] and step["action"] not in ("serve", "wrap"):
        return _short(step["into"])
    return "forward rewritten" if step["edits"] else f"{step['action']} {step['name']}"


def _short(name: str) -> str:
    return str(name).rpartition(".")[2]
