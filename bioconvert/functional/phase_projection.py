"""The projection of complex numbers on the phases of others, and its stabilisation, in plain operations."""

from __future__ import annotations

import torch

from bioconvert.functional.compressor import compress_signal
from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.phase_projection_fused import LEAST_SQUARE, FusedProjection, Leaks
from bioconvert.functional.signals import backward_gradient_normalization

LEAKS = Leaks(leak=1e-3, eps=1e-12)


def stable_projection(mixing: torch.Tensor, banks: torch.Tensor) -> torch.Tensor:
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
        banks: :math:`A_k`, whose :math:`K` rows are the parts of the complex numbers that are mixed.

    Shape:
        - ``mixing``: :math:`(R, 2, B, 2, K)`, ``banks``: :math:`(R, 2, K, N)`.
        - Output: :math:`(B, R, N)`.
    """
    if wants_plain_operations((mixing, banks)):
        return plain_projection(mixing, banks)
    outputs = FusedProjection.apply(mixing, banks, LEAKS, plain_projection)  # type: ignore[no-untyped-call]
    projected: torch.Tensor = outputs[0]
    return projected


def plain_projection(mixing: torch.Tensor, banks: torch.Tensor) -> torch.Tensor:
    """Give what :func:`stable_projection` does, in operations that can be differentiated and transformed."""
    planes = torch.unflatten(mixing.flatten(2, 3) @ banks, 2, (-1, 2))
    first, second = planes.permute(1, 2, 0, 3, 4).unbind(0)
    size = second.square().sum(2, keepdim=True).clamp_min(LEAST_SQUARE).sqrt()
    projected = (first * backward_gradient_normalization(second / size)).sum(2)
    return compress_signal(
        projected, LEAKS.leak, eps=LEAKS.eps, bgn_input=True, bgn_mid=True, bgn_output=True
    )
