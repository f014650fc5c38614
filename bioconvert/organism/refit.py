r"""Fitting a linear layer by ridge regression to what it gave before something in front of it was removed.

With inputs :math:`x` as they are now and outputs :math:`z` as they were, the layer's weights and bias
:math:`W, b` move as little as explains the difference:

.. math::
    \Delta, \delta = \arg\min \sum \lVert (W + \Delta) x + b + \delta - z \rVert^2 + \lambda \lVert \Delta
    \rVert^2

Of a unit that is gone, :math:`\delta` holds the mean, and :math:`\Delta` what the others know about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.core.errors import Refused
from bioconvert.core.families import family_root
from bioconvert.graph.receivers import has_units
from bioconvert.organism.refit_moments import Regression

_MOST = 2**24
"""Numbers that inputs of convolutions are spread out to at a time."""
_TOLERANCE = 1e-2
"""How far a layer's output may be from that of a linear one, which half precision is, too."""


@dataclass(frozen=True, slots=True)
class Refitted:
    """How well a layer gives what it gave before, as shares of the variance of its outputs.

    Args:
        before: the error where only what is gone was left out.
        after: that of the refitted layer.
        strength: :math:`\\lambda`, in units of the mean variance of an input.
    """

    before: float
    after: float
    strength: float


@torch.no_grad()
def refit(
    layer: nn.Module,
    inputs: Sequence[torch.Tensor],
    targets: Sequence[torch.Tensor],
    strength: float | None = None,
) -> Refitted:
    """Fit a linear layer's weights, and its bias if it has one, to what it should give.

    Args:
        layer: a Linear or a convolution, changed in place.
        inputs: what it takes, one tensor for each call.
        targets: what it should give.
        strength: that of the ridge, in units of the mean variance of an input; by default chosen from the
            data, by generalised cross-validation.
    """
    weight = _weight(layer)
    bias = layer._parameters.get("bias")
    device = torch.device("cpu") if weight.device.type == "mps" else weight.device  # which has no fp64
    matrix = matrix_of(layer).to(device, torch.float64)
    offset = None if bias is None else bias.detach().to(device, torch.float64)
    few = sum(z.numel() for z in targets) < matrix.numel()
    regression = Regression(matrix.shape[1], matrix.shape[0], device, with_bias=bias is not None, few=few)
    for x, z in zip(inputs, targets, strict=True):
        for given, wanted in _rows(layer, x, z):
            given, wanted = given.to(device, torch.float64), wanted.to(device, torch.float64)
            regression.add(given, F.linear(given, matrix, offset), wanted)
    regression.gather()
    fitted = regression.solve(strength)
    fresh = matrix + fitted.weight.T
    weight.copy_(fresh.view(weight.shape) if has_units(layer) else fresh.T)
    if bias is not None and offset is not None:
        bias.copy_(offset + fitted.bias)
    return Refitted(fitted.before, fitted.after, fitted.strength)


def check_linear(layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Check that a layer is one that can be refitted.

    Args:
        layer: the layer.
        x: what it took.
        y: what it gave.

    Raises:
        Refused: its output isn't linear in its input, or it is no Linear and no convolution.
    """
    name = type(layer).__name__
    if not is_dense(layer):
        raise Refused(f"a {name} is no Linear and no convolution without groups")
    matrix, bias = matrix_of(layer).float(), layer._parameters.get("bias")
    offset = None if bias is None else bias.detach().float()
    for given, found in _rows(layer, x, y):
        wanted = F.linear(given.float(), matrix, offset)
        if (wanted - found.float()).norm() > _TOLERANCE * wanted.norm():
            raise Refused(f"the output of a {name} isn't linear in its input, so it can't be refitted")
        return


def is_dense(layer: nn.Module) -> bool:
    """Say whether each unit of a layer takes every input: linear, or a convolution without groups."""
    if layer._parameters.get("weight") is None:
        return False
    if family_root(type(layer), "conv") is not None:
        return not layer.transposed and int(layer.groups) == 1  # type: ignore[arg-type]
    return family_root(type(layer), "linear") is not None


def matrix_of(layer: nn.Module) -> torch.Tensor:
    """Give a layer's weight as a matrix with a row for each unit; that of transformers' Conv1D is turned."""
    weight = _weight(layer).detach()
    return weight.flatten(1) if has_units(layer) else weight.T


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer._parameters["weight"]
    assert weight is not None
    return weight


def _rows(layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Give inputs and outputs as rows of what a row of the weight is multiplied by, and what comes of it."""
    if family_root(type(layer), "conv") is None:
        yield x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        return
    dims = len(layer.kernel_size)  # type: ignore[arg-type]
    if x.dim() == dims + 1:
        x, y = x.unsqueeze(0), y.unsqueeze(0)
    size = _weight(layer)[0].numel() * y[0, 0].numel()
    count = max(1, _MOST // size)
    for one, other in zip(torch.split(x, count), torch.split(y, count), strict=True):
        yield _spread(layer, one, dims), other.movedim(1, -1).reshape(-1, other.shape[1])


def _spread(layer: nn.Module, x: torch.Tensor, dims: int) -> torch.Tensor:
    """Give what a convolution's kernel lies on at each place, as rows."""
    mode: str = layer.padding_mode  # type: ignore[assignment]
    x = F.pad(x, layer._reversed_padding_repeated_twice, "constant" if mode == "zeros" else mode)  # type: ignore[arg-type]
    sizes = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)  # type: ignore[arg-type]
    for dim, (size, stride, dilation) in enumerate(sizes, 2):
        x = x.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    places = range(2, 2 + dims)
    return x.permute(0, *places, 1, *range(2 + dims, 2 + 2 * dims)).flatten(dims + 1).flatten(0, dims)
