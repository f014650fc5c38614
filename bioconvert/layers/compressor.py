"""The compressor of signals as a module."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.nn import functional as F

from bioconvert.core.registry import layer
from bioconvert.functional.compressor import CompressorMode, check_compressor, compress_signal

# A leaf in a user's own symbolic_trace: what is inside looks at types, which a trace doesn't know.
fx.wrap("compress_signal")


@layer
class SignalStabilizationCompressor(nn.Module):
    r"""Gates a compressed signal by the signal itself and divides each row by the root of its mean size.

    .. math::
        z = (\sigma(x) + l) \, (\operatorname{siglog}(x) + k x), \qquad
        y = \frac{z}{\sqrt{\operatorname{mean}(|z|) + \varepsilon}}, \qquad
        l = \begin{cases} k x & \text{gating} \\ |k x| & \text{dampening} \end{cases}

    Args:
        bgn_input: whether the gradient is normalised where it leaves: see
            :func:`~bioconvert.functional.backward_gradient_normalization`.
        bgn_mid: whether that of :math:`z` is.
        bgn_output: whether it is where it comes in.
        mode: ``"gating"`` or ``"dampening"``.
        leak: :math:`k`.
        trainable_leak: whether :math:`k` is ``leak`` times the softplus of the parameter ``leak_scale``,
            which starts at 1.
        eps: :math:`\varepsilon`; ``None`` for 1e-12, in fp16 for 6e-8, in fp64 for 1e-24.
        device: where ``leak_scale`` lies.
        dtype: its type.

    Shape:
        - Input: :math:`(*, D)`.
        - Output: that of the input.

    Raises:
        ValueError: an unknown ``mode``, or an ``eps`` that isn't positive.

    Example:
        >>> SignalStabilizationCompressor()(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[0.3330, 0.7072, 1.0327]])
    """

    leak_scale: nn.Parameter | None

    def __init__(
        self,
        bgn_input: bool = False,
        bgn_mid: bool = False,
        bgn_output: bool = False,
        *,
        mode: CompressorMode = "gating",
        leak: float = 1e-3,
        trainable_leak: bool = False,
        eps: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        check_compressor(mode, eps)
        super().__init__()
        self.bgn_input, self.bgn_mid, self.bgn_output = bgn_input, bgn_mid, bgn_output
        self.mode, self.leak, self.eps = mode, leak, eps
        scale = nn.Parameter(torch.ones(1, device=device, dtype=dtype)) if trainable_leak else None
        self.register_parameter("leak_scale", scale)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Compress the signal ``input``."""
        return compress_signal(
            input,
            leak_of(self.leak, self.leak_scale),
            mode=self.mode,
            bgn_input=self.bgn_input,
            bgn_mid=self.bgn_mid,
            bgn_output=self.bgn_output,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        """Show the options."""
        trainable = ["trainable_leak"] if self.leak_scale is not None else []
        places = [name for name in ("bgn_input", "bgn_mid", "bgn_output") if getattr(self, name)]
        return ", ".join([self.mode, f"leak={self.leak}", *trainable, *places])


def leak_of(leak: float, scale: torch.Tensor | None) -> float | torch.Tensor:
    """Give the leak: ``leak`` alone, or times the softplus of ``scale``, in fp32 at the least."""
    if scale is None:
        return leak
    return F.softplus(scale.to(torch.promote_types(scale.dtype, torch.float32))) * leak
