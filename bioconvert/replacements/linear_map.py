"""The linear map of a layer that is to be fitted, in the terms of the Yat product: rows, norms, units.

Fits see outputs as a matrix, [samples, units]: each position of a convolution is a sample of its own.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bioconvert.replacements.normalisation import is_transposed


def weight_of(layer: nn.Module) -> torch.Tensor:
    """Give a layer's weight, detached."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()


def bias_of(layer: nn.Module, like: torch.Tensor) -> torch.Tensor:
    """Give a layer's bias in the type of ``like``, or zeros of its shape."""
    bias = layer._parameters.get("bias")
    return torch.zeros_like(like) if bias is None else bias.detach().to(like.dtype)


def rows_of(layer: nn.Module, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Give the weight, or another of its shape, as [units, features], in fp64."""
    weight = (weight_of(layer) if weight is None else weight).double()
    if isinstance(layer, _ConvTransposeNd):
        grouped = weight.view(layer.groups, -1, *weight.shape[1:]).transpose(1, 2)
        rows: torch.Tensor = grouped.flatten(0, 1).flatten(1)
        return rows
    return weight.t() if is_transposed(layer) else weight.flatten(1)


def by_unit(layer: nn.Module, outputs: torch.Tensor) -> torch.Tensor:
    """Give outputs as [samples, units], in fp32."""
    if isinstance(layer, _ConvNd):
        outputs = outputs.movedim(outputs.dim() - layer.weight.dim() + 1, -1)
    return outputs.detach().float().reshape(-1, outputs.shape[-1])


def products(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Give what the layer's own linear map, bias included, gives for inputs: [samples, units]."""
    return by_unit(layer, type(layer).forward(layer, inputs))


def squared_norms(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Give ‖x‖² of each input row of a linear layer, or of each patch of a convolution.

    Returns:
        [samples, 1]; with several groups of channels, [samples, units].
    """
    squares = inputs.detach().float().square()
    if not isinstance(layer, _ConvNd):
        return squares.sum(-1).reshape(-1, 1)
    if isinstance(layer, _ConvTransposeNd):
        window = torch.ones(layer.in_channels, 1, *layer.kernel_size).to(squares)
    else:
        window = torch.ones(layer.groups, *layer.weight.shape[1:]).to(squares)
    sums = by_unit(layer, mapped(layer, squares, window))
    return sums if layer.groups == 1 else sums.repeat_interleave(layer.out_channels // layer.groups, 1)


def weight_norms(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Give ‖w‖² of each unit, as far as the weight meets an input.

    Returns:
        [1, units]; for a transposed convolution, whose taps don't all reach every output, [samples, units].
    """
    if not isinstance(layer, _ConvTransposeNd):
        return rows_of(layer).square().sum(1)[None].float()
    squares = weight_of(layer).float().square()
    return by_unit(layer, mapped(layer, torch.ones_like(inputs, dtype=torch.float32), squares))


def mapped(layer: nn.Module, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Apply a layer's linear map with another weight and no bias."""
    if isinstance(layer, _ConvTransposeNd):
        geometry = layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
        transposed = getattr(F, f"conv_transpose{len(layer.kernel_size)}d")
        outputs: torch.Tensor = transposed(inputs, weight, None, *geometry)
        return outputs
    if isinstance(layer, _ConvNd):
        convolved: torch.Tensor = layer._conv_forward(inputs, weight, None)
        return convolved
    return inputs @ weight if is_transposed(layer) else F.linear(inputs, weight)
