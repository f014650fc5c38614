"""The Yat counterparts of the convolutions: the same product at every patch."""

from __future__ import annotations

import torch

from bioconvert.functional.cosine import on_sphere
from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.geometry import Geometry, Padding, Size, windows_of
from bioconvert.functional.near import with_exact
from bioconvert.functional.precision import narrowed, output_dtype, score_dtype, without_autocast
from bioconvert.functional.product import product
from bioconvert.functional.squared_norm import squared_norm
from bioconvert.functional.units import BiasMode, Units, units
from bioconvert.functional.window_sum import window_sum
from bioconvert.functional.yat_formula import Coefficient, Terms


def _yat_conv(dims, x, weight, bias, stride, padding, dilation, groups, alpha, epsilon, offset, bias_mode, floor, spherical):
    of_units, dtype = units(bias, alpha, epsilon, offset, bias_mode), score_dtype(x)
    geometry = Geometry(windows_of(weight.shape[2:], stride, padding, dilation), groups)
    with without_autocast(x):
        batch = x.to(dtype) if x.dim() == dims + 2 else x.to(dtype).unsqueeze(0)
        y = _patches(batch, weight.to(dtype), geometry, of_units.map(lambda unit: unit.to(dtype)), floor, spherical)
    return narrowed(y if x.dim() == dims + 2 else y.squeeze(0), output_dtype(x))


def _patches(x, weight, geometry, of_units, floor, spherical):
    score = geometry.convolve(x, weight)
    channels = x.unflatten(1, (geometry.groups, -1))
    input_norm = window_sum(squared_norm(channels, 2), geometry.windows)
    weight_norm = squared_norm(weight.flatten(1), 1).view(-1)
    last = not wants_plain_operations() and not score.is_contiguous() and score.movedim(1, -1).is_contiguous()
    G = geometry.groups
    if last:
        score = score.movedim(1, -1).unflatten(-1, (G, -1)); input_norm = input_norm.movedim((1, 2), (-2, -1))
        shape = (G, -1)
    else:
        score = score.unflatten(1, (G, -1)); shape = (G, -1) + (1,) * (x.dim() - 2)
    view = lambda u: u.view(shape) if u.numel() > 1 else u.view((1,) * len(shape))
    weight_norm = view(weight_norm) 
    if spherical:
        score, input_norm, weight_norm = on_sphere(score, input_norm, weight_norm)
    terms = Terms(input_norm, weight_norm, *of_units.map(view))
    y, least = product(score, terms, floor)
    exact = lambda near: 0
    y = y.flatten(-2).movedim(-1, 1) if last else y.flatten(1, 2)
    return y
