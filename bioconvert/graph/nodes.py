"""What a node of a container's graph is, in the words of a rule."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from torch import fx, nn

from bioconvert.core.change import Activation
from bioconvert.core.classes import qualified_name
from bioconvert.core.families import FAMILIES, family_root
from bioconvert.core.registry import is_layer
from bioconvert.graph.activations import (
    ACTIVATIONS,
    FUNCTIONS,
    METHODS,
    NORMS,
    function_activation,
    method_activation,
    module_activation,
)
from bioconvert.graph.classes import original_class
from bioconvert.ruleset import Link

Element = int | str

_OF_FUNCTION = {f: name for name, functions in FUNCTIONS.items() if name in ACTIVATIONS for f in functions}
_OF_METHOD = {method: name for name, methods in METHODS.items() for method in methods}
_SHOWN = 3
"""Alternatives of a link that a reason names."""
_METADATA = frozenset({"shape", "dtype", "device", "ndim", "layout", "is_cuda", "requires_grad", "itemsize"})
_METADATA_METHODS = frozenset({"size", "dim", "ndimension", "numel", "nelement", "is_contiguous", "stride"})
"""What may be asked of a tensor without using its numbers."""


def called_module(node: fx.Node, container: nn.Module) -> nn.Module | None:
    """Give the module that a node calls, if it calls one."""
    if node.op != "call_module":
        return None
    module: nn.Module | None = container
    for name in str(node.target).split("."):
        if module is None:
            return None
        # Past the module's own look-up, which others may be listening to.
        module = object.__getattribute__(module, "__dict__")["_modules"].get(name)
    return module


def calls(graph: fx.Graph, container: nn.Module, module: nn.Module) -> list[fx.Node]:
    """Give the nodes that call a module."""
    return [node for node in graph.nodes if called_module(node, container) is module]


def consumers(node: fx.Node) -> list[fx.Node]:
    """Give the nodes that use the numbers of a node's output, and not only its shape or type."""
    return [user for user in node.users if not _asks_metadata(user)]


def _asks_metadata(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _METADATA_METHODS
    return node.target is getattr and node.args[1] in _METADATA


def element_users(node: fx.Node, element: Element | None) -> list[fx.Node]:
    """Give the nodes that stand for an element of a node's output; the node itself for the whole of it."""
    if element is None:
        return [node]
    return [user for user in node.users if user.target is operator.getitem and user.args[1] == element]


def element_of(output: fx.Node, value: fx.Node) -> Element | None:
    """Say as which element of a graph's result a value is given back; ``None`` if it is the result.

    Raises:
        KeyError: it is deeper inside, or there several times.
    """
    result = output.args[0]
    if result is value:
        return None
    pairs: list[tuple[Element, object]] = []
    if isinstance(result, (list, tuple)):
        pairs = list(enumerate(result))
    elif isinstance(result, dict):
        pairs = list(result.items())
    found = [key for key, item in pairs if item is value]
    if len(found) != 1 or str(result).count(value.name) != 1:
        raise KeyError(value.name)
    return found[0]


def matches(node: fx.Node, link: Link, container: nn.Module) -> bool:
    """Say whether a node does what one alternative of a link names."""
    return any(_is(node, name, container) for name in link.alternatives)


def wanted(link: Link) -> str:
    """Name what a link asks for."""
    shown = link.alternatives[:_SHOWN]
    return "|".join(shown) + ("|…" if len(link.alternatives) > _SHOWN else "")


def _is(node: fx.Node, name: str, container: nn.Module) -> bool:
    module = called_module(node, container)
    if module is not None:
        if name in FAMILIES:
            return family_root(type(module), name) is not None and not _has_activation(module)
        cls = original_class(module)
        return name in (cls.__name__, qualified_name(cls))
    if node.op == "call_function":
        return any(node.target in FUNCTIONS.get(each, ()) for each in _functions(name))
    return node.op == "call_method" and node.target in METHODS.get(name, ())


def _functions(name: str) -> Sequence[str]:
    return tuple(NORMS) if name == "norm" else (name,)


def _has_activation(norm: nn.Module) -> bool:
    """Say whether a normalisation is one of those that also apply an activation."""
    return any(isinstance(child, nn.Module) for child in norm._modules.values())


def may_enter(module: nn.Module) -> bool:
    """Say whether the inside of a module is a container's forward, and not torch's or ours."""
    cls = original_class(module)
    if is_layer(cls):
        return False
    return issubclass(cls, nn.Sequential) or not cls.__module__.startswith("torch.")


def describe(node: fx.Node, container: nn.Module) -> str:
    """Name what a node does."""
    module = called_module(node, container)
    if module is not None:
        return original_class(module).__name__
    return getattr(node.target, "__name__", str(node.target))


def activation_of(node: fx.Node, container: nn.Module) -> tuple[str, Activation | None] | None:
    """Give the name of the activation that a node applies, and what it does if that is known.

    Returns:
        ``None`` if the node is no activation.
    """
    module = called_module(node, container)
    if module is not None:
        name = original_class(module).__name__
        return (name, module_activation(module, name)) if name in ACTIVATIONS else None
    if node.op == "call_method":
        name = _OF_METHOD.get(str(node.target), "")
        return (name, method_activation(name)) if name else None
    name = _OF_FUNCTION.get(node.target, "") if callable(node.target) else ""
    return (name, function_activation(node.target, name, node.args, node.kwargs)) if name else None  # type: ignore[arg-type]


def is_norm(node: fx.Node, container: nn.Module) -> bool:
    """Say whether a node normalises."""
    module = called_module(node, container)
    if module is not None:
        return family_root(type(module), "norm") is not None
    return any(node.target in FUNCTIONS[name] for name in NORMS)


def norm_module(node: fx.Node, container: nn.Module) -> nn.Module | None:
    """Give the module that holds what a normalisation knows; ``None`` for a function's call elsewhere."""
    module = called_module(node, container)
    if module is not None:
        return module
    return container if family_root(type(container), "norm") is not None else None
