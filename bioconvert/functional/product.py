"""The Yat product of inputs and weights under a linear map: which way it is computed."""

from __future__ import annotations

import torch

from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.fused import FusedProduct
from bioconvert.functional.linear_map import LinearMap
from bioconvert.functional.plain import plain_product
from bioconvert.functional.units import Units


def product(
    geometry: LinearMap,
    floor: float,
    x: torch.Tensor,
    weight: torch.Tensor,
    units: Units,
    *,
    spherical: bool,
    score: torch.Tensor | None = None,
) -> torch.Tensor:
    """Put the Yat product upon a linear map; inputs too near a weight for fp32 are computed in fp64.

    These inputs are rare, so that their second computation costs next to nothing.

    Args:
        geometry: the linear map.
        floor: least squared distance, in units of the squared norms.
        x: inputs, in the form of a batch.
        weight: weights.
        units: what belongs to the output units.
        spherical: whether inputs and weights are brought to unit length.
        score: the products of inputs and weights, where they are known already.
    """
    operands = [operand for operand in (x, weight, *units) if isinstance(operand, torch.Tensor)]
    if score is not None or wants_plain_operations(operands) or x.numel() == 0:
        return plain_product(geometry, floor, x, weight, units, spherical=spherical, score=score).y
    graph = torch.is_grad_enabled() and any(operand.requires_grad for operand in operands)
    y: torch.Tensor
    near: torch.Tensor
    y, near = FusedProduct.apply(geometry, floor, spherical, graph, x, weight, *units)  # type: ignore[no-untyped-call]
    if near.numel() == 0:
        return y
    wide = units.map(torch.Tensor.double)
    exact = product(geometry, floor, x[near].double(), weight.double(), wide, spherical=spherical)
    return y.index_copy(0, near, exact.to(y.dtype))
