"""The Yat counterparts of the convolutions: the same product at every patch."""

from __future__ import annotations

import torch

from bioconvert.functional.geometry import Padding, Size, convolution
from bioconvert.functional.linear_map import LinearMap
from bioconvert.functional.precision import narrowed, output_dtype, score_dtype, without_autocast
from bioconvert.functional.product import product
from bioconvert.functional.units import BiasMode, Units, make_units
from bioconvert.functional.yat_formula import Coefficient


def yat_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Coefficient | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    offset: torch.Tensor | None = None,
    bias_mode: BiasMode = "pre",
    floor: float = 0.0,
    spherical: bool = False,
    score: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Score the patches of a signal by alignment with, and nearness to, each kernel.

    .. math::
        y_k(p) = \alpha_k \, \frac{(w_k \cdot x_p + b_k)^2}{\lVert w_k - x_p \rVert^2 + \varepsilon_k} + o_k

    Args:
        x: input; :math:`x_p` is its patch at position :math:`p`, padded with zeros, of the kernel's group.
        weight: kernels :math:`w_k`.
        bias: :math:`b_k`.
        stride: as in :func:`torch.nn.functional.conv1d`.
        padding: likewise.
        dilation: likewise.
        groups: likewise.
        alpha: :math:`\alpha`; this and all that follows as in :func:`bioconvert.functional.yat_linear`.
        epsilon: :math:`\varepsilon`.
        offset: :math:`o`.
        bias_mode: ``"pre"`` or ``"post"``.
        floor: least squared distance, in units of :math:`\lVert x_p \rVert^2 + \lVert w_k \rVert^2`.
        spherical: whether to bring :math:`x_p` and :math:`w_k` to unit length first.
        score: :math:`w_k \cdot x_p`, of the output's shape, where it is known already.

    Shape:
        - ``x``: :math:`(N, C, L)` or :math:`(C, L)`.
        - ``weight``: :math:`(K, C / \text{groups}, S)`; ``bias`` and ``offset``: :math:`(K)`.
        - Output: :math:`(N, K, L')` or :math:`(K, L')`.

    Raises:
        ValueError: an unknown ``bias_mode``, or a ``padding`` that is an unknown string.
    """
    units = make_units(bias, alpha, epsilon, offset, bias_mode)
    geometry = convolution(weight.shape[2:], stride, padding, dilation, groups)
    return convolved(x, weight, geometry, units, floor, spherical, score)


def yat_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Coefficient | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    offset: torch.Tensor | None = None,
    bias_mode: BiasMode = "pre",
    floor: float = 0.0,
    spherical: bool = False,
    score: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Score the patches of a picture by alignment with, and nearness to, each kernel.

    .. math::
        y_k(p) = \alpha_k \, \frac{(w_k \cdot x_p + b_k)^2}{\lVert w_k - x_p \rVert^2 + \varepsilon_k} + o_k

    Args:
        x: input; :math:`x_p` is its patch at position :math:`p`, padded with zeros, of the kernel's group.
        weight: kernels :math:`w_k`.
        bias: :math:`b_k`.
        stride: as in :func:`torch.nn.functional.conv2d`.
        padding: likewise.
        dilation: likewise.
        groups: likewise.
        alpha: :math:`\alpha`; this and all that follows as in :func:`bioconvert.functional.yat_linear`.
        epsilon: :math:`\varepsilon`.
        offset: :math:`o`.
        bias_mode: ``"pre"`` or ``"post"``.
        floor: least squared distance, in units of :math:`\lVert x_p \rVert^2 + \lVert w_k \rVert^2`.
        spherical: whether to bring :math:`x_p` and :math:`w_k` to unit length first.
        score: :math:`w_k \cdot x_p`, of the output's shape, where it is known already.

    Shape:
        - ``x``: :math:`(N, C, H, W)` or :math:`(C, H, W)`.
        - ``weight``: :math:`(K, C / \text{groups}, S, T)`; ``bias`` and ``offset``: :math:`(K)`.
        - Output: :math:`(N, K, H', W')` or :math:`(K, H', W')`.

    Raises:
        ValueError: an unknown ``bias_mode``, or a ``padding`` that is an unknown string.
    """
    units = make_units(bias, alpha, epsilon, offset, bias_mode)
    geometry = convolution(weight.shape[2:], stride, padding, dilation, groups)
    return convolved(x, weight, geometry, units, floor, spherical, score)


def yat_conv3d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Coefficient | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    offset: torch.Tensor | None = None,
    bias_mode: BiasMode = "pre",
    floor: float = 0.0,
    spherical: bool = False,
    score: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Score the patches of a volume by alignment with, and nearness to, each kernel.

    .. math::
        y_k(p) = \alpha_k \, \frac{(w_k \cdot x_p + b_k)^2}{\lVert w_k - x_p \rVert^2 + \varepsilon_k} + o_k

    Args:
        x: input; :math:`x_p` is its patch at position :math:`p`, padded with zeros, of the kernel's group.
        weight: kernels :math:`w_k`.
        bias: :math:`b_k`.
        stride: as in :func:`torch.nn.functional.conv3d`.
        padding: likewise.
        dilation: likewise.
        groups: likewise.
        alpha: :math:`\alpha`; this and all that follows as in :func:`bioconvert.functional.yat_linear`.
        epsilon: :math:`\varepsilon`.
        offset: :math:`o`.
        bias_mode: ``"pre"`` or ``"post"``.
        floor: least squared distance, in units of :math:`\lVert x_p \rVert^2 + \lVert w_k \rVert^2`.
        spherical: whether to bring :math:`x_p` and :math:`w_k` to unit length first.
        score: :math:`w_k \cdot x_p`, of the output's shape, where it is known already.

    Shape:
        - ``x``: :math:`(N, C, D, H, W)` or :math:`(C, D, H, W)`.
        - ``weight``: :math:`(K, C / \text{groups}, R, S, T)`; ``bias`` and ``offset``: :math:`(K)`.
        - Output: :math:`(N, K, D', H', W')` or :math:`(K, D', H', W')`.

    Raises:
        ValueError: an unknown ``bias_mode``, or a ``padding`` that is an unknown string.
    """
    units = make_units(bias, alpha, epsilon, offset, bias_mode)
    geometry = convolution(weight.shape[2:], stride, padding, dilation, groups)
    return convolved(x, weight, geometry, units, floor, spherical, score)


def convolved(
    x: torch.Tensor,
    weight: torch.Tensor,
    geometry: LinearMap,
    units: Units,
    floor: float,
    spherical: bool,
    score: torch.Tensor | None,
) -> torch.Tensor:
    """Put the Yat product upon a convolution of a batch, or of one input without it; arguments as above."""
    dtype, batched = score_dtype(x), x.dim() == weight.dim()
    with without_autocast(x):
        units = units.map(lambda unit: unit.to(dtype))
        batch = x.to(dtype) if batched else x.to(dtype).unsqueeze(0)
        known = score if score is None or batched else score.unsqueeze(0)
        y = product(geometry, floor, batch, weight.to(dtype), units, spherical=spherical, score=known)
    return narrowed(y if batched else y.squeeze(0), output_dtype(x))
