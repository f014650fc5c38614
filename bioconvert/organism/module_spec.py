"""How a module is made, as JSON has it: enough to make it again without its constructor.

A specification names the class and gives its plain attributes, the kinds of its tensors, and its children.
Whoever reads one gets modules and plain values, and calls nothing but what makes an empty module.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Set
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from bioconvert.core.classes import import_class, qualified_name
from bioconvert.core.errors import Refused
from bioconvert.graph.classes import STEPS, original_class
from bioconvert.graph.grown import ORGANISM, grown_names
from bioconvert.graph.resizing import RESIZED, as_built

Spec = dict[str, Any]
Pairs = list[list[Any]]
"""Names with what they stand for; a mapping would come back from a file in the order of the alphabet."""
_OF_EVERY_MODULE = frozenset({*vars(nn.Module()), STEPS, ORGANISM, RESIZED, "_bioconvert_record"})
_OF_RECURRENT = frozenset({"_flat_weights", "_flat_weight_refs"})
_ELEMENTWISE = ("relu", "sigmoid", "tanh", "sin", "cos", "exp", "erf", "square", "softmax")
"""Functions of torch itself, beside those in ``torch.nn.functional``, that modules keep as activations."""
RECORD = "node_record"
_SHOWN = 120


class SpecWriter:
    """Writes specifications of modules, of which some may be shared.

    Args:
        problems: gets why a module could not be described, by its place.
        resized: whether tensors are told as they are now, and not as they were built.
    """

    def __init__(self, problems: list[str], *, resized: bool = False):
        self.problems = problems
        self.resized = resized
        self._seen: dict[int, tuple[int, nn.Module]] = {}

    def write(self, module: nn.Module, path: str) -> Spec:
        """Give the specification of a module as it was before any conversion."""
        if id(module) in self._seen:
            return {"same_as": self._seen[id(module)][0]}
        self._seen[id(module)] = (len(self._seen), module)
        cls = original_class(module)
        if not _importable(cls):
            self.problems.append(f"{path}: {qualified_name(cls)} can't be imported")
        if getattr(cls, "made_empty", False):
            return {"class": qualified_name(cls)}
        converted = _by_conversion(module)
        fields = vars(module) if self.resized else as_built(vars(module))
        skipped = _OF_EVERY_MODULE | converted.attributes
        if isinstance(module, nn.RNNBase):
            skipped |= _OF_RECURRENT
        return {
            "class": qualified_name(cls),
            "attributes": self._attributes(fields, path, skipped),
            "parameters": self._tensors(module, fields["_parameters"], path, converted),
            "buffers": self._tensors(module, fields["_buffers"], path, converted),
            "children": self._children(module, path),
        }

    def _children(self, module: nn.Module, path: str) -> Pairs:
        grown = grown_names(module)
        return [
            [name, None if child is None else self.write(child, f"{path}.{name}")]
            for name, child in module._modules.items()
            if name not in grown
        ]

    def _attributes(self, fields: Mapping[str, Any], path: str, skipped: Set[str]) -> Spec:
        found: Spec = {}
        for name, value in fields.items():
            if name not in skipped:
                try:
                    # A node's record may hold numbers that are still on a device: a copy has them all.
                    found[name] = encoded(copy.deepcopy(value) if name == RECORD else value)
                except Refused as refused:
                    self.problems.append(f"{path}: its attribute {name!r} {refused.reason}")
        return found

    def _tensors(
        self, module: nn.Module, table: Mapping[str, torch.Tensor | None], path: str, converted: Converted
    ) -> Pairs:
        found: Pairs = []
        for name, tensor in table.items():
            if name in converted.added and name not in converted.filled:
                continue
            if name in module._non_persistent_buffers_set:
                self.problems.append(f"{path}: its buffer {name!r} is in no checkpoint")
            elif isinstance(tensor, UninitializedTensorMixin):
                self.problems.append(f"{path}: its parameter {name!r} has no shape yet")
            else:
                unset = tensor is None or name in converted.filled
                found.append([name, None if unset or tensor is None else _kind(tensor)])
        return found


class SpecReader:
    """Makes modules by their specifications; values of tensors are zeros.

    Args:
        problems: gets why a module could not be made, by its place.
    """

    def __init__(self, problems: list[str]):
        self.problems = problems
        self._made: list[nn.Module] = []

    def read(self, spec: Spec, path: str) -> nn.Module:
        """Make a module."""
        if "same_as" in spec:
            return self._made[spec["same_as"]]
        cls = self._class(spec["class"], path)
        if getattr(cls, "made_empty", False):
            return self._noted(cls())
        module = self._noted(cls.__new__(cls))
        nn.Module.__init__(module)
        for name, value in spec["attributes"].items():
            vars(module)[name] = decoded(value)
        for name, kind in spec["parameters"]:
            module._parameters[name] = None if kind is None else _parameter(kind)
        for name, kind in spec["buffers"]:
            module._buffers[name] = None if kind is None else _tensor(kind)
        for name, child in spec["children"]:
            module._modules[name] = None if child is None else self.read(child, f"{path}.{name}")
        if isinstance(module, nn.RNNBase):
            module._init_flat_weights()
        return module

    def _noted(self, module: nn.Module) -> nn.Module:
        self._made.append(module)
        return module

    def _class(self, dotted: str, path: str) -> type[nn.Module]:
        try:
            found = import_class(dotted)
        except ImportError as error:
            self.problems.append(f"{path}: {error}")
            return nn.Identity
        if not issubclass(found, nn.Module):
            self.problems.append(f"{path}: {dotted} is no module class")
            return nn.Identity
        return found


def encoded(value: Any) -> Any:
    """Give a plain value as JSON can hold it.

    Raises:
        Refused: it is none, and no function of torch either.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is list:
        return [encoded(each) for each in value]
    if type(value) in (tuple, torch.Size):
        return {"tuple": [encoded(each) for each in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": [[key, encoded(each)] for key, each in value.items()]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, (FunctionType, BuiltinFunctionType)):
        return _named_function(value)
    raise Refused(f"is no plain value but a {type(value).__name__}")


def decoded(value: Any) -> Any:
    """Give what :func:`encoded` was given."""
    if isinstance(value, list):
        return [decoded(each) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    return _DECODERS[kind](held)


def _named_function(function: Any) -> Spec:
    name = function.__name__
    for place in ("functional", "torch"):
        if _functions(place).get(name) is function:
            return {"function": f"{place}.{name}"}
    raise Refused(f"is a function ({name[:_SHOWN]}) that isn't one of torch.nn.functional")


def _functions(place: str) -> dict[str, Any]:
    if place == "torch":
        return {name: getattr(torch, name) for name in _ELEMENTWISE}
    kinds = (FunctionType, BuiltinFunctionType)
    return {name: each for name, each in vars(functional).items() if isinstance(each, kinds)}


def _function(named: str) -> Any:
    place, _, name = named.partition(".")
    return _functions(place)[name]


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"there is no number format {name!r}")
    return found


_DECODERS: dict[str, Any] = {
    "float": float,
    "tuple": lambda items: tuple(decoded(each) for each in items),
    "dict": lambda items: {key: decoded(each) for key, each in items},
    "dtype": _dtype,
    "function": _function,
}


def _kind(tensor: torch.Tensor) -> Spec:
    return {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "requires_grad": tensor.requires_grad,
    }


def _tensor(kind: Spec) -> torch.Tensor:
    return torch.zeros(kind["shape"], dtype=_dtype(kind["dtype"]))


def _parameter(kind: Spec) -> nn.Parameter:
    return nn.Parameter(_tensor(kind), requires_grad=kind["requires_grad"])


def _importable(cls: type) -> bool:
    try:
        return import_class(qualified_name(cls)) is cls
    except ImportError:
        return False


class Converted(NamedTuple):
    """What conversion did to a module: the tensors it added, which of them were ``None``, and attributes."""

    added: set[str]
    filled: set[str]
    attributes: set[str]


def _by_conversion(module: nn.Module) -> Converted:
    steps = vars(module).get(STEPS, [])
    return Converted(
        {name for step in steps for name in step.added},
        {name for step in steps for name in step.filled},
        {name for step in steps for name in step.attributes},
    )
