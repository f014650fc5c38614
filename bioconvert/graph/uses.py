"""Calls of functions on a container's own parameters: ``F.linear(x, self.w, self.b)``."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bioconvert.graph.trace import Trace

_DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
"""The arguments of a convolution behind its bias, with their defaults."""
PRODUCTS = (
    operator.matmul,
    torch.matmul,
    torch.mm,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
    torch.Tensor.mm,
)
"""The functions that multiply by a matrix on the right."""
_NAMES: dict[Callable[..., Any], str] = {
    F.linear: "F.linear",
    F.conv1d: "F.conv1d",
    F.conv2d: "F.conv2d",
    F.conv3d: "F.conv3d",
    **dict.fromkeys(PRODUCTS, "torch.matmul"),
}
_METHODS = ("matmul", "mm", "__matmul__")


@dataclass(frozen=True, slots=True)
class Use:
    """What a container does with one of its parameters.

    Args:
        function: the function that it gives it to, as a weight: ``"F.linear"``, ``"F.conv2d"``,
            ``"torch.matmul"``, …
        bias: name of the parameter that it gives as bias; empty where that is none or computed.
        geometry: a convolution's stride, padding, dilation and groups.
    """

    function: str
    bias: str = ""
    geometry: tuple[tuple[str, Any], ...] = ()


def traced_uses(variants: tuple[Trace, ...], container: nn.Module) -> dict[str, Use]:
    """Give the uses of a container's parameters that its graphs show."""
    found: dict[str, Use] = {}
    for variant in variants:
        for node in variant.graph.nodes:
            function = _function(node)
            weight = argument(node.args, node.kwargs, 1, "weight") if function else None
            name = _own(weight, container)
            if function and name:
                bias = _own(argument(node.args, node.kwargs, 2, "bias"), container)
                found.setdefault(name, Use(function, bias, _geometry(function, node.args, node.kwargs)))
    return found


def _function(node: fx.Node) -> str:
    if node.op == "call_method":
        return "torch.matmul" if node.target in _METHODS else ""
    return _NAMES.get(node.target, "") if node.op == "call_function" and callable(node.target) else ""


def _own(value: object, container: nn.Module) -> str:
    if isinstance(value, fx.Node) and value.op == "get_attr" and value.target in container._parameters:
        return str(value.target)
    return ""


def argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str) -> Any:
    """Give an argument of a call, which may go by position or by name; ``None`` where it isn't given."""
    return args[position] if len(args) > position else kwargs.get(name)


def _geometry(function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return geometry(args, kwargs) if "conv" in function else ()


def geometry(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Give stride, padding, dilation and groups of a convolution's call."""
    given = ((n, argument(args, kwargs, 3 + i, n)) for i, n in enumerate(_DEFAULTS))
    return tuple((name, _DEFAULTS[name] if value is None else _plain(value)) for name, value in given)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


class _Observer(TorchFunctionMode):
    def __init__(self, names: Mapping[int, tuple[nn.Module, str]]):
        super().__init__()
        self.names = names
        self.found: dict[nn.Module, dict[str, Use]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        function = _NAMES.get(func, "")
        if function:
            held = self.names.get(id(argument(args, kwargs, 1, "weight")))
            if held is not None:
                container, name = held
                bias = self.names.get(id(argument(args, kwargs, 2, "bias")))
                own_bias = bias[1] if bias is not None and bias[0] is container else ""
                use = Use(function, own_bias, _geometry(function, args, kwargs))
                self.found.setdefault(container, {}).setdefault(name, use)
        return func(*args, **kwargs)


@contextmanager
def observed_uses(model: nn.Module) -> Iterator[dict[nn.Module, dict[str, Use]]]:
    """Collect the uses that are made of parameters, by the module that holds them, while the model runs."""
    names = {
        id(parameter): (module, name)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    }
    with _Observer(names) as observer:
        yield observer.found
