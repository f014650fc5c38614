"""The projection of complex numbers on the phases of others, and its stabilisation, in plain operations."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bioconvert.functional.compressor import compress_signal
from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.phase_projection_fused import LEAST_SQUARE, FusedProjection, Leaks
from bioconvert.functional.signals import backward_gradient_normalization

LEAKS = Leaks(leak=1e-3, eps=1e-12)


def stable_projection(mixing: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    r"""Mix banks of complex numbers, project one mixture on the phases of another, and stabilise the outcome.

    .. math::
        u_k = M_k A_k, \qquad
        p = \operatorname{Re}(u_1 \, \overline{u_2}) / |u_2|, \qquad
        y = (\sigma(p) + \ell p) \, (\operatorname{siglog}(p) + \ell p), \qquad
        z = y \, / \sqrt{\operatorname{mean}_n |y| + \varepsilon}

    with :math:`\ell = 10^{-3}`, :math:`\varepsilon = 10^{-12}`. The gradients of the phase
    :math:`u_2 / |u_2|`, of :math:`p`, :math:`y` and :math:`z` are brought to unit mean square by sample (see
    :func:`backward_gradient_normalization`).

    Args:
        mixing: :math:`M_k`, for each rank, component and sample one row for real and one for imaginary parts.
        weights: :math:`A_k`, for each rank, two banks for each of two components, of complex pairs.

    Shape:
        - ``mixing``: :math:`(R, 2, B, 2, 5)`, for the parts of both banks and for a bias; ``weights``:
          :math:`(1, R, 2, 2, H, W, 2)`, of bank, component and pair.
        - Output: :math:`(B, R, H W)`.
    """
    if wants_plain_operations((mixing, weights)):
        return plain_projection(mixing, weights)
    outputs = FusedProjection.apply(mixing, weights, LEAKS, plain_projection)  # type: ignore[no-untyped-call]
    projected: torch.Tensor = outputs[0]
    return projected


def plain_projection(mixing: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Give what :func:`stable_projection` does, in operations that can be differentiated and transformed."""
    banks = weights[0].flatten(3, 4).permute(0, 2, 1, 4, 3).flatten(2, 3)
    banks = F.pad(banks, (0, 0, 0, 1), value=1.0)
    planes = torch.unflatten(mixing.flatten(2, 3) @ banks, 2, (-1, 2))
    first, second = planes.permute(1, 2, 0, 3, 4).unbind(0)
    size = second.square().sum(2, keepdim=True).clamp_min(LEAST_SQUARE).sqrt()
    projected = (first * backward_gradient_normalization(second / size)).sum(2)
    return compress_signal(
        projected, LEAKS.leak, eps=LEAKS.eps, bgn_input=True, bgn_mid=True, bgn_output=True
    )
