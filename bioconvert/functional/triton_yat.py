"""The functions of :mod:`bioconvert.functional.yat_kernel`, each on one Triton kernel.

Not tested on a GPU, and never chosen unasked: see :func:`bioconvert.functional.use_triton`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]

from bioconvert.functional.blocks import WHOLE
from bioconvert.functional.near import no_inputs
from bioconvert.functional.totals import Total
from bioconvert.functional.triton_kernels import backward_kernel, forward_kernel
from bioconvert.functional.yat_formula import Coefficient, Terms
from bioconvert.functional.yat_kernel import Forward, Kept

_BLOCK = 1024
"""Elements for one program: a usual choice for elementwise kernels, not a measured one."""


def forward(score: torch.Tensor, terms: Terms, floor: float, *, out: torch.Tensor, keep: bool) -> Forward:
    """Write the Yat product, and add the bias to the score if its memory isn't the product's.

    As :func:`bioconvert.functional.yat_kernel.forward`, but without a look for inputs near a weight.
    """
    quotient = torch.add(terms.input_norm, terms.weight_norm, out=torch.empty_like(score))
    far = torch.empty_like(score, dtype=torch.uint8)
    bias, alpha, epsilon, offset = (
        _as_tensor(unit, default, score)
        for unit, default in zip(terms[2:], (0.0, 1.0, 0.0, 0.0), strict=True)
    )
    sizes = (score.numel(), *_channels(score, (bias, alpha, epsilon, offset)))
    with torch.cuda.device_of(score):  # type: ignore[no-untyped-call]
        forward_kernel[(triton.cdiv(score.numel(), _BLOCK),)](
            score,
            quotient,
            out,
            far,
            bias,
            alpha,
            epsilon,
            offset,
            score.new_full((1,), floor),
            *sizes,
            *(int(unit.numel() > 1) for unit in (bias, alpha, epsilon, offset)),
            score_is_kept=out.data_ptr() != score.data_ptr(),
            block=_BLOCK,
        )
    return Forward(quotient if keep else None, far.view(torch.bool) if keep else None, no_inputs(score))


def backward(
    grad: torch.Tensor, kept: Kept, alpha: Coefficient | None, floor: float, sums: dict[str, Total]
) -> torch.Tensor:
    """Give the gradient of the score, and add up those of the terms.

    As :func:`bioconvert.functional.yat_kernel.backward`; the sums are torch's.
    """
    quotient, far = kept.quotient, kept.far
    assert far is not None
    grad, factor = grad.contiguous(), _as_tensor(alpha, 1.0, quotient)
    by_score, by_bias, by_norms = (torch.empty_like(quotient) for _ in range(3))
    with torch.cuda.device_of(quotient):  # type: ignore[no-untyped-call]
        backward_kernel[(triton.cdiv(quotient.numel(), _BLOCK),)](
            grad,
            quotient,
            far.view(torch.uint8),
            factor,
            quotient.new_full((1,), floor),
            by_score,
            by_bias,
            by_norms,
            quotient.numel(),
            *_channels(quotient, (factor,)),
            int(factor.numel() > 1),
            block=_BLOCK,
        )
    blocks = {"bias": by_bias, "input_norm": by_norms, "weight_norm": by_norms, "offset": grad}
    for name in sums.keys() & blocks.keys():
        sums[name].add(blocks[name], WHOLE)
    if "epsilon" in sums:
        sums["epsilon"].add(by_bias * quotient, WHOLE)
    if kept.biased is not None and "alpha" in sums:
        sums["alpha"].add_product(grad * quotient, kept.biased, WHOLE)
    return by_score


def _as_tensor(unit: Coefficient | None, default: float, like: torch.Tensor) -> torch.Tensor:
    """Give a term as a contiguous tensor, of one number or one for each channel."""
    if isinstance(unit, torch.Tensor):
        return unit.contiguous()
    return like.new_full((1,), default if unit is None else unit)


def _channels(score: torch.Tensor, units: Sequence[torch.Tensor]) -> tuple[int, int]:
    """Give how far apart in memory two channels are, and how many there are, as far as it matters."""
    for unit in units:
        if unit.numel() > 1:
            last = max(dim for dim, size in enumerate(unit.shape) if size > 1)
            return prod(score.shape[last + 1 :]), unit.numel()
    return 1, 1
