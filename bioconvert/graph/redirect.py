"""Calling the layers whose weights a container hands to functions.

``F.linear(x, self.qkv.weight, self.qkv.bias)`` uses a layer's numbers and never its forward. While the
container's own forward runs, such a call is answered by the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bioconvert.graph.classes import Recipe, made_class
from bioconvert.layers.acting import acts_as_original, with_idle_parameters

Path = tuple[str, ...]

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_GEOMETRY = ("stride", "padding", "dilation", "groups")
_TRANSPOSITIONS = (
    torch.Tensor.t,
    torch.t,
    vars(torch._C.TensorBase)["T"].__get__,
    vars(torch._C.TensorBase)["mT"].__get__,
)
_PRODUCTS = (torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.mm)


class Redirection(TorchFunctionMode):
    """Lets layers answer the calls of functions that are given their weights.

    Args:
        layers: the layers.
    """

    def __init__(self, layers: Iterable[nn.Module]):
        super().__init__()
        self._weights: list[tuple[torch.Tensor, nn.Module]] = [(_weight(layer), layer) for layer in layers]
        self._transposed: list[tuple[torch.Tensor, nn.Module]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Answer a call with the layer's output, or let it be."""
        del types
        kwargs = kwargs or {}
        if func is F.linear or func in _CONVOLUTIONS:
            layer = _holder(self._weights, _argument(args, kwargs, 1, "weight"))
            if layer is not None and _same_geometry(layer, func, args, kwargs):
                return _answer(layer, _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 2, "bias"))
        elif func in _TRANSPOSITIONS:
            layer = _holder(self._weights, args[0])
            if layer is not None:
                turned = func(*args, **kwargs)
                self._transposed.append((turned, layer))
                return turned
        elif func in _PRODUCTS and self._transposed and len(args) > 1:
            layer = _holder(self._transposed, args[1])
            if layer is not None:
                return _answer(layer, args[0], None)
        return func(*args, **kwargs)


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer._parameters["weight"]
    assert weight is not None
    return weight


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)


def _holder(pairs: Iterable[tuple[torch.Tensor, nn.Module]], weight: object) -> nn.Module | None:
    return next((layer for held, layer in pairs if held is weight), None)


def _same_geometry(
    layer: nn.Module, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Say whether a convolution is called with the layer's own stride, padding and so on."""
    if func is F.linear:
        return isinstance(layer, nn.Linear)
    if not isinstance(layer, nn.modules.conv._ConvNd) or layer.padding_mode != "zeros":
        return False
    dims = len(layer.kernel_size)
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    for position, name in enumerate(_GEOMETRY, start=3):
        given = _argument(args, kwargs, position, name)
        given = defaults[name] if given is None else given
        if _each(given, dims) != _each(getattr(layer, name), dims):
            return False
    return True


def _each(size: Any, dims: int) -> Any:
    return (size,) * dims if isinstance(size, int) else size if isinstance(size, str) else tuple(size)


def _answer(layer: nn.Module, x: torch.Tensor, bias: torch.Tensor | None) -> Any:
    if bias is layer._parameters.get("bias"):
        return layer(x)
    # The container computes the bias itself: the same layer, on the same tensors, but for this one.
    stand_in = object.__new__(type(layer))
    vars(stand_in).update(vars(layer))
    vars(stand_in)["_parameters"] = {**layer._parameters, "bias": bias}
    return stand_in(x)


def redirecting_class(base: type[nn.Module], paths: tuple[Path, ...]) -> type[nn.Module]:
    """Make a class for one container: ``base``, with layers answering for their weights.

    Args:
        base: the container's own class.
        paths: for each layer, the names of the children that lead to it.
    """

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        layers = [descendant(self, path) for path in paths]
        if all(acts_as_original(layer) for layer in layers):
            output = base.forward(self, *args, **kwargs)
            return with_idle_parameters(output, layers) if isinstance(output, torch.Tensor) else output
        with Redirection(layers):
            return base.forward(self, *args, **kwargs)

    forward.__doc__ = base.forward.__doc__
    forward.__wrapped__ = base.forward  # type: ignore[attr-defined]
    namespace = {
        "forward": forward,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    return made_class(base.__name__, (base,), namespace, Recipe(redirecting_class, (base, paths)))


def descendant(container: nn.Module, path: Path) -> nn.Module:
    """Give the module that names of children lead to.

    Raises:
        KeyError: there is none.
    """
    for name in path:
        child = container._modules[name]
        if child is None:
            raise KeyError(".".join(path))
        container = child
    return container
