"""The Yat product of a linear map in plain operations: for graphs, compilers and transforms."""

from __future__ import annotations

from typing import NamedTuple

import torch

from bioconvert.functional.cosine import on_sphere
from bioconvert.functional.layout import Layout
from bioconvert.functional.linear_map import LinearMap
from bioconvert.functional.units import Units
from bioconvert.functional.yat_formula import Terms, value


class Product(NamedTuple):
    """A Yat product ``y`` with the arranged scores and terms that it was computed from."""

    y: torch.Tensor
    score: torch.Tensor
    terms: Terms


def plain_product(
    geometry: LinearMap,
    floor: float,
    x: torch.Tensor,
    weight: torch.Tensor,
    units: Units,
    *,
    spherical: bool = False,
    score: torch.Tensor | None = None,
) -> Product:
    """Put the Yat product upon a linear map.

    Args:
        geometry: the linear map.
        floor: least squared distance, in units of the squared norms.
        x: inputs, in the form of a batch.
        weight: weights.
        units: what belongs to the output units.
        spherical: whether inputs and weights are brought to unit length.
        score: the products of inputs and weights, where they are known already.
    """
    layout = Layout(geometry.groups, x.dim() - 2, last=False)
    score = layout.arrange(geometry.score(x, weight) if score is None else score)
    squares = layout.restore(_squared_sum(layout.arrange(x), layout.channels))
    input_norm = layout.arrange(geometry.input_norm(squares))
    weight_norm = layout.arrange(geometry.weight_norm(weight, x.shape[2:], _squared_sum))
    if spherical:
        score, input_norm, weight_norm = on_sphere(score, input_norm, weight_norm)
    terms = Terms(input_norm, weight_norm, *units.map(layout.spread))
    return Product(layout.restore(value(score, terms, floor)), score, terms)


def _squared_sum(x: torch.Tensor, dim: int) -> torch.Tensor:
    return x.square().sum(dim, keepdim=True)
