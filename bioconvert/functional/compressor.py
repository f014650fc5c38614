"""A gate and a logarithm that bring signals of any size into a common range."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args

import torch

from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.precision import score_dtype
from bioconvert.functional.signals import (
    backward_gradient_normalization,
    normalized_by_sample,
    siglog,
    siglog_slope,
)

CompressorMode = Literal["gating", "dampening"]

# Of fp16 the least number, of fp64 as many digits as it has more than fp32.
_EPSILONS = {torch.float16: 2.0**-24, torch.float64: 1e-24}
_EPSILON = 1e-12
_BGN_EPSILON = 1e-6
_PART = 65_536
"""Elements that are worked on at once: few enough for the processor's cache."""

Leak = float | torch.Tensor


def compress_signal(
    x: torch.Tensor,
    leak: Leak = 1e-3,
    *,
    mode: CompressorMode = "gating",
    bgn_input: bool = False,
    bgn_mid: bool = False,
    bgn_output: bool = False,
    eps: float | None = None,
) -> torch.Tensor:
    r"""Gate a compressed signal by the signal itself and divide each row by the root of its mean size.

    .. math::
        z = (\sigma(x) + l) \, (\operatorname{siglog}(x) + k x), \qquad
        y = \frac{z}{\sqrt{\operatorname{mean}(|z|) + \varepsilon}}, \qquad
        l = \begin{cases} k x & \text{gating} \\ |k x| & \text{dampening} \end{cases}

    Half precision is computed in fp32; only the input is kept for the backward pass.

    Args:
        x: the signal :math:`x`, in rows along the last dimension.
        leak: :math:`k`, a number or a tensor that broadcasts with ``x``.
        mode: ``"gating"`` or ``"dampening"``.
        bgn_input: whether the gradient is normalised where it leaves: see
            :func:`backward_gradient_normalization`.
        bgn_mid: whether that of :math:`z` is.
        bgn_output: whether it is where it comes in.
        eps: :math:`\varepsilon`; ``None`` for 1e-12, in fp16 for 6e-8, in fp64 for 1e-24.

    Shape:
        - x: :math:`(*, D)`.
        - Output: that of ``x``.

    Raises:
        ValueError: an unknown ``mode``, or an ``eps`` that isn't positive.

    Example:
        >>> compress_signal(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[0.3330, 0.7072, 1.0327]])
    """
    check_compressor(mode, eps)
    form = _Form(mode == "dampening", bgn_mid, _EPSILONS.get(x.dtype, _EPSILON) if eps is None else eps)
    x = _normalized(x, bgn_input)
    tensors = [each for each in (x, leak) if isinstance(each, torch.Tensor)]
    compressed = _plain if wants_plain_operations(tensors) else _Compressed.apply
    return _normalized(compressed(x, leak, form), bgn_output)


def check_compressor(mode: str, eps: float | None) -> None:
    """Refuse options out of their bounds.

    Raises:
        ValueError: an unknown ``mode``, or an ``eps`` that isn't positive.
    """
    if mode not in get_args(CompressorMode):
        raise ValueError(f"mode must be one of {', '.join(get_args(CompressorMode))}, got {mode!r}")
    if eps is not None and not eps > 0:
        raise ValueError(f"eps must be positive, got {eps!r}")


def _normalized(x: torch.Tensor, wanted: bool) -> torch.Tensor:
    return backward_gradient_normalization(x) if wanted else x


class _Form(NamedTuple):
    dampening: bool
    bgn_mid: bool
    eps: float


def _plain(x: torch.Tensor, leak: Leak, form: _Form) -> torch.Tensor:
    """Compress by operations that can be compiled, transformed and differentiated again."""
    wide = x.to(score_dtype(x))
    leaked = wide * leak
    gate = wide.sigmoid() + (leaked.abs() if form.dampening else leaked)
    z = _normalized(gate * (siglog(wide) + leaked), form.bgn_mid)
    return (z * _inverse_root(z, form.eps)).to(x.dtype)


def _inverse_root(z: torch.Tensor, eps: float) -> torch.Tensor:
    return (z.abs().mean(-1, keepdim=True) + eps).rsqrt()


class _Compressed(torch.autograd.Function):
    """The compressor with a backward pass that begins from the input again, in parts that fit the cache."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, leak: Leak, form: _Form) -> torch.Tensor:
        ctx.form, ctx.leak = form, leak
        ctx.save_for_backward(x, *([leak] if isinstance(leak, torch.Tensor) else []))
        return torch.cat([_plain(part, leak, form) for (part,) in _parts(leak, x)])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, *rest = ctx.saved_tensors
        leak = rest[0] if rest else ctx.leak
        if torch.is_grad_enabled():
            by_x, by_leak = _gradients_with_graph(ctx, x, leak, grad)
            return by_x, by_leak, None
        found = [_gradients(part, by_y, leak, ctx.form) for part, by_y in _parts(leak, x, grad)]
        by_x = torch.cat([each for each, _ in found])
        if not ctx.needs_input_grad[1]:
            return by_x, None, None
        return by_x, torch.stack([each for _, each in found]).sum(0).to(leak.dtype), None


def _parts(leak: Leak, x: torch.Tensor, *others: torch.Tensor) -> Iterable[tuple[torch.Tensor, ...]]:
    """Cut tensors into parts along the first dimension: fresh memory for all takes longer than the work."""
    is_number = not isinstance(leak, torch.Tensor) or leak.numel() == 1
    if x.dim() < 2 or x.numel() <= _PART or not is_number or x.device.type != "cpu":
        return [(x, *others)]
    samples = max(1, _PART * len(x) // x.numel())
    return zip(*(torch.split(each, samples) for each in (x, *others)), strict=True)


def _gradients(
    given: torch.Tensor, grad: torch.Tensor, leak: Leak, form: _Form
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the gradients of the input and of the leak, in the leak's shape."""
    x = given.to(score_dtype(given))
    leaked, sigmoid = x * leak, x.sigmoid()
    gate = sigmoid + (leaked.abs() if form.dampening else leaked)
    body = siglog(x).add_(leaked)
    by_z = _gradient_of_product(gate * body, form, grad)
    by_body, by_gate = by_z * gate, by_z.mul_(body)
    by_x = by_gate * torch.rsub(sigmoid, 1).mul_(sigmoid)
    by_leaked = by_gate.mul_(leaked.sign_()).add_(by_body) if form.dampening else by_gate.add_(by_body)
    by_x.add_(by_body.mul_(siglog_slope(x))).add_(by_leaked * leak)
    by_leak = by_leaked.mul_(x).sum_to_size(leak.shape if isinstance(leak, torch.Tensor) else ())
    return by_x.to(given.dtype), by_leak


def _gradient_of_product(z: torch.Tensor, form: _Form, grad: torch.Tensor) -> torch.Tensor:
    """Give the gradient of what is divided by the root of its mean size."""
    root = _inverse_root(z, form.eps)
    shared = (grad * z).sum(-1, keepdim=True) * (root**3 * (-0.5 / z.shape[-1]))
    by_z = (grad * root).add_(shared * z.sign_())
    return normalized_by_sample(by_z, _BGN_EPSILON) if form.bgn_mid else by_z


def _gradients_with_graph(
    ctx: Any, x: torch.Tensor, leak: Leak, grad: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Give the gradients of both inputs, to be differentiated again."""
    needed = ctx.needs_input_grad[:2]
    wanted: list[Any] = [each for each, need in zip((x, leak), needed, strict=True) if need]
    found = iter(torch.autograd.grad(_plain(x, leak, ctx.form), wanted, grad, create_graph=True))
    by_x, by_leak = (next(found) if need else None for need in needed)
    return by_x, by_leak
