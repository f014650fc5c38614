r"""Folding a normalisation into the layer before it.

With :math:`s = \gamma / \sqrt{v + \varepsilon}` and :math:`t = \beta - m s` of a batch normalisation in
evaluation, :math:`s (W x + b) + t = (s W) x + (s b + t)`.
"""

from __future__ import annotations

import torch
from torch import nn

from bioconvert.core.change import Change, Old, TensorRecipe
from bioconvert.core.errors import Refused
from bioconvert.core.random import Stream
from bioconvert.replacements.normalisation import affine_of, is_transposed


def folded(layer: nn.Module, norm: nn.Module) -> Change:
    """Say what becomes of a layer that takes over the work of the normalisation behind it.

    Args:
        layer: a linear or convolutional layer.
        norm: a normalisation with running statistics.

    Raises:
        Refused: it can't be folded.
    """
    weight = layer._parameters.get("weight")
    if weight is None or (not isinstance(layer, (nn.Linear, *_CONVOLUTIONS)) and not is_transposed(layer)):
        raise Refused(f"a normalisation can't be folded into a {type(layer).__name__}")
    axis = 1 if is_transposed(layer) else 0
    slope, shift = affine_of(norm, weight.new_zeros(weight.shape[axis], dtype=torch.float64))
    if slope.numel() != weight.shape[axis]:
        raise Refused(f"{type(norm).__name__} normalises {slope.numel()} features, not its outputs")
    shape = [-1 if i == axis else 1 for i in range(weight.dim())]

    def scaled(old: Old, stream: Stream) -> torch.Tensor:  # noqa: ARG001 - one signature for all recipes
        return old["weight"].double() * slope.view(shape)

    def shifted(old: Old, stream: Stream) -> torch.Tensor:  # noqa: ARG001
        return old["bias"].double() * slope + shift

    def shift_alone(old: Old, stream: Stream) -> torch.Tensor:  # noqa: ARG001
        return shift.to(old["weight"].device)

    summary = f"{type(norm).__name__} folded"
    by_weight = {"weight": TensorRecipe(scaled)}
    if layer._parameters.get("bias") is None:
        return Change(adds={"bias": TensorRecipe(shift_alone)}, overwrites=by_weight, summary=summary)
    by_bias = {"bias": TensorRecipe(shifted, reads=("bias",), like="bias")}
    return Change(overwrites={**by_weight, **by_bias}, summary=summary)


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
