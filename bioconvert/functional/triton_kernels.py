"""The Yat product and its gradients, element by element, in Triton's language.

Not tested on a GPU: see :func:`bioconvert.functional.use_triton`.
"""

from __future__ import annotations

from typing import Any

import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]
import triton.language as tl  # type: ignore[import-not-found, import-untyped, unused-ignore]


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def forward_kernel(
    score: Any,
    total: Any,
    out: Any,
    far: Any,
    bias: Any,
    alpha: Any,
    epsilon: Any,
    offset: Any,
    floor: Any,
    count: Any,
    inner: Any,
    channels: Any,
    bias_step: Any,
    alpha_step: Any,
    epsilon_step: Any,
    offset_step: Any,
    score_is_kept: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Turn the score into product and biased score, and the sum of the squared norms into the quotient."""
    i = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = i < count
    channel = (i // inner) % channels
    t = tl.load(score + i, mask=inside)
    norms = tl.load(total + i, mask=inside, other=1.0)
    margin = norms - 2 * t
    least = tl.load(floor) * norms
    denominator = tl.maximum(margin, least) + tl.load(
        epsilon + channel * epsilon_step, mask=inside, other=1.0
    )
    biased = t + tl.load(bias + channel * bias_step, mask=inside)
    quotient = biased / denominator
    factor = tl.load(alpha + channel * alpha_step, mask=inside)
    y = factor * (biased * quotient) + tl.load(offset + channel * offset_step, mask=inside)
    tl.store(total + i, quotient, mask=inside)
    tl.store(far + i, (margin > least).to(tl.uint8), mask=inside)
    if score_is_kept:
        tl.store(score + i, biased, mask=inside)
    tl.store(out + i, y, mask=inside)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def backward_kernel(
    grad: Any,
    quotient: Any,
    far: Any,
    alpha: Any,
    floor: Any,
    by_score: Any,
    by_bias: Any,
    by_norms: Any,
    count: Any,
    inner: Any,
    channels: Any,
    alpha_step: Any,
    block: tl.constexpr,
) -> None:
    """Write the gradients by score and bias, and -2 times that by the squared norms."""
    i = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = i < count
    channel = (i // inner) % channels
    q = tl.load(quotient + i, mask=inside)
    factor = tl.load(alpha + channel * alpha_step, mask=inside)
    rise = 2 * factor * tl.load(grad + i, mask=inside) * q
    fall = rise * q
    is_far = tl.load(far + i, mask=inside) != 0
    tl.store(by_bias + i, rise, mask=inside)
    tl.store(by_norms + i, tl.where(is_far, fall, fall * tl.load(floor)), mask=inside)
    tl.store(by_score + i, rise + tl.where(is_far, fall, 0.0), mask=inside)
