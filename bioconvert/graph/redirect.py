"""Calling the layers whose weights a container hands to functions.

``F.linear(x, self.qkv.weight, self.qkv.bias)`` uses a layer's numbers and never its forward. While the
container's own forward runs, such a call is answered by the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bioconvert.graph.classes import Recipe, disguised_class, standing_for
from bioconvert.graph.uses import PRODUCTS, argument, geometry
from bioconvert.layers.acting import acts_as_original, with_idle_parameters
from bioconvert.layers.tracing import traced_call, tracer_of

Path = tuple[str, ...]
Pairs = Iterable[tuple[torch.Tensor, nn.Module]]

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSITIONS = (
    torch.Tensor.t,
    torch.t,
    vars(torch._C.TensorBase)["T"].__get__,
    vars(torch._C.TensorBase)["mT"].__get__,
)


@dataclass(frozen=True, slots=True)
class Borrow:
    """A layer that works with a parameter which its container holds and gives to a function.

    Args:
        parameter: the container's name of the weight.
        child: the container's name of the layer.
        bias: the container's name of the bias; empty where there is none.
        function: the function, ``"torch.matmul"`` with a weight of [features, units].
        made_with: the arguments that the original layer is made with, by name.
    """

    parameter: str
    child: str
    bias: str
    function: str
    made_with: tuple[tuple[str, Any], ...]

    @property
    def transposed(self) -> bool:
        """Whether the parameter is the transpose of the layer's weight."""
        return self.function == "torch.matmul"

    def weight_in(self, container: nn.Module) -> torch.Tensor:
        """Give the parameter."""
        weight = container._parameters[self.parameter]
        assert weight is not None
        return weight


class Redirection(TorchFunctionMode):
    """Lets layers answer the calls of functions that are given their weights.

    Args:
        weights: the weights, each with its layer, as ``linear`` and ``conv*d`` take them.
        transposed: likewise, as the right-hand side of a product takes them.
        answered: takes note of the layers that answered.
    """

    def __init__(self, weights: Pairs, transposed: Pairs, answered: list[nn.Module]):
        super().__init__()
        self._weights = list(weights)
        self._transposed = list(transposed)
        self._answered = answered

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Answer a call with the layer's output, or let it be."""
        del types
        kwargs = kwargs or {}
        if func is F.linear or func in _CONVOLUTIONS:
            layer = _holder(self._weights, argument(args, kwargs, 1, "weight"))
            if layer is not None and _same_geometry(layer, func, args, kwargs):
                self._answered.append(layer)
                x, weight = argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "weight")
                return _answer(layer, x, argument(args, kwargs, 2, "bias"), weight)
        elif func in _TRANSPOSITIONS:
            layer = _holder(self._weights, args[0])
            if layer is not None:
                turned = func(*args, **kwargs)
                self._transposed.append((turned, layer))
                return turned
        elif func in PRODUCTS and self._transposed and len(args) > 1:
            layer = _holder(self._transposed, args[1])
            if layer is not None:
                self._answered.append(layer)
                return _answer(layer, args[0], None, args[1].t())
        return func(*args, **kwargs)


def _is_among(layer: nn.Module, layers: Iterable[nn.Module]) -> bool:
    return any(each is layer for each in layers)


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer._parameters["weight"]
    assert weight is not None
    return weight


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
    given = geometry(args, kwargs)
    return all(_each(value, dims) == _each(getattr(layer, name), dims) for name, value in given)


def _each(size: Any, dims: int) -> Any:
    return (size,) * dims if isinstance(size, int) else size if isinstance(size, str) else tuple(size)


def _answer(layer: nn.Module, x: torch.Tensor, bias: torch.Tensor | None, weight: torch.Tensor) -> Any:
    if "weight" in layer._parameters and bias is layer._parameters.get("bias"):
        return layer(x)
    # The container has the weight, or computes the bias itself.
    return layer(x, given={"weight": weight, **layer._parameters, "bias": bias})


def _with_parameters(layer: nn.Module, cls: type[nn.Module], parameters: dict[str, Any]) -> nn.Module:
    """Give a layer as it would be with other parameters, for one call."""
    stand_in = object.__new__(cls)
    vars(stand_in).update(vars(layer))
    vars(stand_in)["_parameters"] = parameters
    return stand_in


def redirecting_class(
    base: type[nn.Module],
    paths: tuple[Path, ...],
    borrows: tuple[Borrow, ...] = (),
    called: tuple[Path, ...] = (),
) -> type[nn.Module]:
    """Make a class for one container: ``base``, with layers answering for their weights.

    Args:
        base: the container's own class.
        paths: for each layer, the names of the children that lead to it.
        borrows: the layers that work with the container's own parameters.
        called: the paths of layers that the container may call, too, so that they needn't answer.
    """

    cls_name, every = base.__name__, len(paths) + len(borrows)
    positions = [i for i in range(every) if i >= len(paths) or paths[i] not in called]

    def needed(layers: Sequence[nn.Module]) -> list[nn.Module]:
        return [layers[i] for i in positions]

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        layers = [descendant(self, path) for path in (*paths, *((borrow.child,) for borrow in borrows))]
        if all(acts_as_original(layer) for layer in layers):
            output = base.forward(self, *args, **kwargs)
            return with_idle_parameters(output, layers) if isinstance(output, torch.Tensor) else output
        if tracer_of((*args, *kwargs.values())) is not None:
            recorded = traced_call(self, *args, **kwargs)
            if recorded is None:
                raise RuntimeError(f"{cls_name} can't be traced: layers answer for weights that it hands on")
            return recorded
        lent = [(borrow, borrow.weight_in(self), self._modules[borrow.child]) for borrow in borrows]
        weights = [(_weight(layer), layer) for layer in layers[: len(paths)]]
        weights += [(weight, layer) for borrow, weight, layer in lent if layer and not borrow.transposed]
        transposed = [(weight, layer) for borrow, weight, layer in lent if layer and borrow.transposed]
        answered: list[nn.Module] = []
        with Redirection(weights, transposed, answered):
            output = base.forward(self, *args, **kwargs)
        if torch.compiler.is_compiling() and not all(_is_among(layer, answered) for layer in needed(layers)):
            # Not every spelling of a product is shown to a mode by the compiler.
            raise RuntimeError(
                f"{cls_name} uses a weight in a way that can't be compiled: write F.linear, or export with "
                "strict=False"
            )
        return output

    recipe = Recipe(redirecting_class, (base, paths, borrows, called))
    return disguised_class(base, standing_for(forward, base.forward), recipe)


def answering_class(base: type[nn.Module]) -> type[nn.Module]:
    """Make the class of a layer that answers for its weight: what it computes with it is its own affair."""
    if base not in _answering:

        def forward(self: nn.Module, *args: Any, given: dict[str, Any] | None = None, **kwargs: Any) -> Any:
            layer = self if given is None else _with_parameters(self, base, given)
            with torch._C.DisableTorchFunction():
                return base.forward(layer, *args, **kwargs)

        recipe = Recipe(answering_class, (base,))
        _answering[base] = disguised_class(base, standing_for(forward, base.forward), recipe)
    return _answering[base]


_answering: dict[type[nn.Module], type[nn.Module]] = {}


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
