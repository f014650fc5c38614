"""The Yat counterparts of the transposed convolutions: the same product at every output."""

from __future__ import annotations

import torch

from bioconvert.functional.conv import convolved
from bioconvert.functional.geometry import Size
from bioconvert.functional.transposed import Taps, transposed_convolution
from bioconvert.functional.units import BiasMode, make_units
from bioconvert.functional.yat_formula import Coefficient


def yat_conv_transpose1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Coefficient | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    taps: Taps = "contributing",
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    offset: torch.Tensor | None = None,
    bias_mode: BiasMode = "pre",
    floor: float = 0.0,
    spherical: bool = False,
    score: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Score, at each point of a signal, what reaches it by alignment with, and nearness to, its weights.

    .. math::
        y_k(p) = \alpha_k \, \frac{(w_{kp} \cdot x_p + b_k)^2}
            {\lVert w_{kp} - x_p \rVert^2 + \varepsilon_k} + o_k

    Args:
        x: input; :math:`x_p` is all of it, in the kernel's group, that reaches the output at :math:`p`.
        weight: kernels; :math:`w_{kp}` has the taps by which :math:`x_p` reaches channel :math:`k` at
            :math:`p`.
        bias: :math:`b_k`.
        stride: as in :func:`torch.nn.functional.conv_transpose1d`.
        padding: likewise.
        output_padding: likewise.
        groups: likewise.
        dilation: likewise.
        taps: ``"contributing"`` for the distance as above; ``"kernel"`` takes :math:`\lVert w_k \rVert^2` of
            the whole kernel in :math:`\lVert w_{kp} \rVert^2 + \lVert x_p \rVert^2 - 2 w_{kp} \cdot x_p`.
        alpha: :math:`\alpha`; this and all that follows as in :func:`bioconvert.functional.yat_linear`.
        epsilon: :math:`\varepsilon`.
        offset: :math:`o`.
        bias_mode: ``"pre"`` or ``"post"``.
        floor: least squared distance, in units of :math:`\lVert x_p \rVert^2 + \lVert w_{kp} \rVert^2`.
        spherical: whether to bring :math:`x_p` and :math:`w_{kp}` to unit length first.
        score: :math:`w_{kp} \cdot x_p`, of the output's shape, where it is known already.

    Shape:
        - ``x``: :math:`(N, C, L)` or :math:`(C, L)`.
        - ``weight``: :math:`(C, K / \text{groups}, S)`; ``bias`` and ``offset``: :math:`(K)`.
        - Output: :math:`(N, K, L')` or :math:`(K, L')`.

    Raises:
        ValueError: an unknown ``bias_mode`` or ``taps``.

    Example:
        >>> yat_conv_transpose1d(torch.ones(1, 2, 4), torch.ones(2, 3, 2), stride=2).shape
        torch.Size([1, 3, 8])
    """
    units = make_units(bias, alpha, epsilon, offset, bias_mode)
    geometry = transposed_convolution(
        weight.shape[2:], stride, padding, output_padding, dilation, groups, taps
    )
    return convolved(x, weight, geometry, units, floor, spherical, score)


def yat_conv_transpose2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Coefficient | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    taps: Taps = "contributing",
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    offset: torch.Tensor | None = None,
    bias_mode: BiasMode = "pre",
    floor: float = 0.0,
    spherical: bool = False,
    score: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Score, at each point of a picture, what reaches it by alignment with, and nearness to, its weights.

    .. math::
        y_k(p) = \alpha_k \, \frac{(w_{kp} \cdot x_p + b_k)^2}
            {\lVert w_{kp} - x_p \rVert^2 + \varepsilon_k} + o_k

    Args:
        x: input; :math:`x_p` is all of it, in the kernel's group, that reaches the output at :math:`p`.
        weight: kernels; :math:`w_{kp}` has the taps by which :math:`x_p` reaches channel :math:`k` at
            :math:`p`.
        bias: :math:`b_k`.
        stride: as in :func:`torch.nn.functional.conv_transpose2d`.
        padding: likewise.
        output_padding: likewise.
        groups: likewise.
        dilation: likewise.
        taps: ``"contributing"`` for the distance as above; ``"kernel"`` takes :math:`\lVert w_k \rVert^2` of
            the whole kernel in :math:`\lVert w_{kp} \rVert^2 + \lVert x_p \rVert^2 - 2 w_{kp} \cdot x_p`.
        alpha: :math:`\alpha`; this and all that follows as in :func:`bioconvert.functional.yat_linear`.
        epsilon: :math:`\varepsilon`.
        offset: :math:`o`.
        bias_mode: ``"pre"`` or ``"post"``.
        floor: least squared distance, in units of :math:`\lVert x_p \rVert^2 + \lVert w_{kp} \rVert^2`.
        spherical: whether to bring :math:`x_p` and :math:`w_{kp}` to unit length first.
        score: :math:`w_{kp} \cdot x_p`, of the output's shape, where it is known already.

    Shape:
        - ``x``: :math:`(N, C, H, W)` or :math:`(C, H, W)`.
        - ``weight``: :math:`(C, K / \text{groups}, S, T)`; ``bias`` and ``offset``: :math:`(K)`.
        - Output: :math:`(N, K, H', W')` or :math:`(K, H', W')`.

    Raises:
        ValueError: an unknown ``bias_mode`` or ``taps``.

    Example:
        >>> yat_conv_transpose2d(torch.ones(1, 2, 4, 4), torch.ones(2, 3, 2, 2), stride=2).shape
        torch.Size([1, 3, 8, 8])
    """
    units = make_units(bias, alpha, epsilon, offset, bias_mode)
    geometry = transposed_convolution(
        weight.shape[2:], stride, padding, output_padding, dilation, groups, taps
    )
    return convolved(x, weight, geometry, units, floor, spherical, score)


def yat_conv_transpose3d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Coefficient | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    taps: Taps = "contributing",
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    offset: torch.Tensor | None = None,
    bias_mode: BiasMode = "pre",
    floor: float = 0.0,
    spherical: bool = False,
    score: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Score, at each point of a volume, what reaches it by alignment with, and nearness to, its weights.

    .. math::
        y_k(p) = \alpha_k \, \frac{(w_{kp} \cdot x_p + b_k)^2}
            {\lVert w_{kp} - x_p \rVert^2 + \varepsilon_k} + o_k

    Args:
        x: input; :math:`x_p` is all of it, in the kernel's group, that reaches the output at :math:`p`.
        weight: kernels; :math:`w_{kp}` has the taps by which :math:`x_p` reaches channel :math:`k` at
            :math:`p`.
        bias: :math:`b_k`.
        stride: as in :func:`torch.nn.functional.conv_transpose3d`.
        padding: likewise.
        output_padding: likewise.
        groups: likewise.
        dilation: likewise.
        taps: ``"contributing"`` for the distance as above; ``"kernel"`` takes :math:`\lVert w_k \rVert^2` of
            the whole kernel in :math:`\lVert w_{kp} \rVert^2 + \lVert x_p \rVert^2 - 2 w_{kp} \cdot x_p`.
        alpha: :math:`\alpha`; this and all that follows as in :func:`bioconvert.functional.yat_linear`.
        epsilon: :math:`\varepsilon`.
        offset: :math:`o`.
        bias_mode: ``"pre"`` or ``"post"``.
        floor: least squared distance, in units of :math:`\lVert x_p \rVert^2 + \lVert w_{kp} \rVert^2`.
        spherical: whether to bring :math:`x_p` and :math:`w_{kp}` to unit length first.
        score: :math:`w_{kp} \cdot x_p`, of the output's shape, where it is known already.

    Shape:
        - ``x``: :math:`(N, C, D, H, W)` or :math:`(C, D, H, W)`.
        - ``weight``: :math:`(C, K / \text{groups}, R, S, T)`; ``bias`` and ``offset``: :math:`(K)`.
        - Output: :math:`(N, K, D', H', W')` or :math:`(K, D', H', W')`.

    Raises:
        ValueError: an unknown ``bias_mode`` or ``taps``.

    Example:
        >>> yat_conv_transpose3d(torch.ones(1, 2, 2, 2, 2), torch.ones(2, 3, 2, 2, 2), stride=2).shape
        torch.Size([1, 3, 4, 4, 4])
    """
    units = make_units(bias, alpha, epsilon, offset, bias_mode)
    geometry = transposed_convolution(
        weight.shape[2:], stride, padding, output_padding, dilation, groups, taps
    )
    return convolved(x, weight, geometry, units, floor, spherical, score)
