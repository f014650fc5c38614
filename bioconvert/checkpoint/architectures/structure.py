"""Whether two models are built the same, one of them seen as it was before any conversion.

Equal are: the modules by path, with their classes, printed options and sharing; the names, shapes and kinds
of their own tensors; and the plain values and functions among their attributes, which a forward may read.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from bioconvert.core.classes import qualified_name
from bioconvert.graph.classes import original_class
from bioconvert.graph.grown import grown_names
from bioconvert.graph.resizing import as_built, note_of
from bioconvert.surgery.step import steps_of

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, type, enum.Enum)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, partial)
_OWN_FIELDS = frozenset(vars(nn.Module())) | {"forward"}
_BOOKKEEPING = {"_model_args", "pretrained_cfg", "default_cfg"}
"""What timm notes about how a model was made; a head that was exchanged since is not noted there."""
_Tensors = dict[str, tuple[str, torch.Size | None, bool | None]]


def difference(model: nn.Module, base: nn.Module) -> str | None:
    """Say in what a model, before its conversion, differs from a base model; ``None`` where it doesn't.

    Args:
        model: the model, converted or not.
        base: a freshly built model, on any device.
    """
    ours, theirs = _modules(model), _modules(base)
    if list(ours) != list(theirs):
        odd = sorted(set(ours) ^ set(theirs))
        return f"the modules differ, at {odd[0]!r}" if odd else "the modules are in another order"
    if _sharing(ours) != _sharing(theirs):
        return "other modules are shared"
    for path, module in ours.items():
        reason = _module_difference(module, theirs[path])
        if reason is not None:
            return f"{path or 'the model'}: {reason}"
    return None


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    """Give every name of every module but for what grew."""
    found: dict[str, nn.Module] = {}

    def walk(module: nn.Module, path: str) -> None:
        found[path] = module
        grown = grown_names(module)
        for key, child in module._modules.items():
            if child is not None and key not in grown:
                walk(child, f"{path}.{key}" if path else key)

    walk(model, "")
    return found


def _sharing(modules: Mapping[str, nn.Module]) -> list[str]:
    first: dict[int, str] = {}
    return [first.setdefault(id(module), path) for path, module in modules.items()]


def _module_difference(module: nn.Module, base: nn.Module) -> str | None:
    if original_class(module) is not type(base):
        return f"is a {qualified_name(original_class(module))}, not a {qualified_name(type(base))}"
    if ("forward" in vars(module)) != ("forward" in vars(base)):
        return "its forward is set on the instance"
    before = _before(module)
    if before.extra_repr() != base.extra_repr():
        return f"prints as {before.extra_repr()!r}, not {base.extra_repr()!r}"
    if _own_tensors(before) != _own_tensors(base):
        return "has other parameters or buffers"
    # A configuration says all of these about a model of transformers; some depend on how it was loaded.
    return None if hasattr(base, "config_class") else _attribute_difference(before, base)


def _before(module: nn.Module) -> nn.Module:
    """Give a second view of a module, on the same tensors, as it was before any conversion."""
    steps = steps_of(module)
    if not steps and note_of(module) is None:
        return module
    added = {name for step in steps for name in step.added}
    filled = {name for step in steps for name in step.filled}
    taken_on = {name for step in steps for name in step.attributes}
    grown = grown_names(module)
    view = object.__new__(original_class(module))
    fields = {name: value for name, value in vars(module).items() if name not in taken_on}
    for table in ("_parameters", "_buffers"):
        tensors = {name: None if name in filled else value for name, value in fields[table].items()}
        fields[table] = {name: tensors[name] for name in tensors if name in filled or name not in added}
    fields["_modules"] = {name: child for name, child in module._modules.items() if name not in grown}
    vars(view).update(as_built(fields))
    return view


def _own_tensors(module: nn.Module) -> _Tensors:
    """Describe a module's own tensors; floating formats count as one."""
    found: _Tensors = {}
    for kind, table in (("parameter", module._parameters), ("buffer", module._buffers)):
        for name, tensor in table.items():
            hidden = "non-persistent " if name in module._non_persistent_buffers_set else ""
            shape, floating = (None, None) if tensor is None else (_shape(tensor), tensor.is_floating_point())
            found[name] = (hidden + kind, shape, floating)
    return found


def _shape(tensor: torch.Tensor) -> torch.Size | None:
    return None if isinstance(tensor, UninitializedTensorMixin) else tensor.shape


def _attribute_difference(module: nn.Module, base: nn.Module) -> str | None:
    ours, theirs = _attributes(module), _attributes(base)
    for name in sorted(set(ours) | set(theirs)):
        if name in theirs and name in ours:
            differs = not _same(ours[name], theirs[name])
        else:
            # What only one of them has matters where it hides an attribute of the class.
            differs = name in theirs or hasattr(type(base), name)
        if differs:
            return f"its attribute {name!r} differs"
    return None


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Give a module's attributes that are plain values, functions, or containers of these."""
    return {
        name: value
        for name, value in vars(module).items()
        if name not in _OWN_FIELDS | _BOOKKEEPING and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return isinstance(value, (*_PLAIN, *_FUNCTIONS))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if type(one) is not type(other):
        return False
    if isinstance(one, types.FunctionType):
        return one.__code__ is other.__code__ and _same_values(_bound(one), _bound(other))
    if isinstance(one, partial):
        return _same(one.func, other.func) and _same_values(
            [*one.args, one.keywords], [*other.args, other.keywords]
        )
    return bool(one == other)


def _bound(function: types.FunctionType) -> list[Any]:
    """Give the values that a function takes along: its defaults, and what it closes over."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_bound(cell, function)]
    return [function.__defaults__, function.__kwdefaults__, *cells]


def _is_bound(cell: types.CellType, function: types.FunctionType) -> bool:
    """Say whether a cell holds something, and not the function itself, as it does where that calls itself."""
    return cell != types.CellType() and cell.cell_contents is not function


def _same_values(ours: list[Any], theirs: list[Any]) -> bool:
    """Compare what functions hold; of a module, which is compared in its place, only the class."""
    if len(ours) != len(theirs):
        return False
    return all(
        _same(one, other) if _is_plain(one) else type(one) is type(other)
        for one, other in zip(ours, theirs, strict=True)
    )
