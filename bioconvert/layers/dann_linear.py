"""A linear layer of excitatory units with inhibitory ones beside them, which obeys Dale's principle."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.core.registry import layer

_SHARE = 8
"""Outputs for each inhibitory unit, about as many as excitatory cells for each inhibitory one in cortex."""
_LEAST = 1e-6
"""Size below which what is left of the excitation counts as nothing, as where there is one unit of each."""


@layer
class DannLinear(nn.Linear):
    r"""Excites its outputs directly and inhibits them by way of interneurons.

    .. math::
        y = \left( W^{ex} - W^{ei} W^{ix} \right) x + b

    All three matrices are non-negative, and so must be the input: then every input unit only excites, outputs
    and interneurons alike, and every interneuron only inhibits. An interneuron's rate :math:`W^{ix} x` is
    never negative, so that a ReLU on it would change nothing.

    The matrices start non-negative; ``attach: [{dale: {exempt: none}}]`` keeps them so while training, by
    the optimizer's own steps.

    The start: all are drawn from the exponential distribution; the rows of :math:`W^{ei}` are scaled to sum
    to 1, and the columns of :math:`W^{ix}` so that their mean is that of :math:`W^{ex}`'s column, by which
    excitation and inhibition are balanced for each input; then :math:`W^{ex}` and :math:`W^{ix}` are scaled
    together so that the entries of :math:`W^{ex} - W^{ei} W^{ix}` have the variance
    :math:`2 / F`, as behind a ReLU they should.

    Args:
        in_features: size :math:`F` of the input's last dimension.
        out_features: number :math:`K` of outputs.
        bias: whether there is :math:`b`.
        interneurons: number :math:`I` of inhibitory units; ``None`` for an eighth of the outputs, at least 1.
        device: where the parameters lie.
        dtype: their type.

    Attributes:
        weight: :math:`W^{ex}`, of shape :math:`(K, F)`.
        inhibitory_in: :math:`W^{ix}`, of shape :math:`(I, F)`.
        inhibitory_out: :math:`W^{ei}`, of shape :math:`(K, I)`.

    Shape:
        - Input: :math:`(*, F)`, non-negative.
        - Output: :math:`(*, K)`.

    Raises:
        ValueError: a size isn't positive.

    Reference:
        Cornford et al., *Learning to live with Dale's principle: ANNs with separate excitatory and inhibitory
        units*, ICLR 2021

    Example:
        >>> layer = DannLinear(8, 16)
        >>> layer(torch.rand(2, 8)).shape
        torch.Size([2, 16])
        >>> all(bool((p >= 0).all()) for p in (layer.weight, layer.inhibitory_in, layer.inhibitory_out))
        True
    """

    inhibitory_in: nn.Parameter
    inhibitory_out: nn.Parameter

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        interneurons: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        count = max(1, out_features // _SHARE) if interneurons is None else interneurons
        if min(in_features, out_features, count) < 1:
            raise ValueError(
                f"sizes must be positive, got {in_features} → {out_features} with {count} interneurons"
            )
        nn.Module.__init__(self)
        self.in_features, self.out_features = in_features, out_features

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.weight = empty(out_features, in_features)
        self.inhibitory_in = empty(count, in_features)
        self.inhibitory_out = empty(out_features, count)
        self.register_parameter("bias", empty(out_features) if bias else None)
        self.reset_parameters()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Excite and inhibit."""
        excited = F.linear(input, self.weight, self.bias)
        return excited - F.linear(F.linear(input, self.inhibitory_in), self.inhibitory_out)

    @property
    def net_weight(self) -> torch.Tensor:
        r"""What both ways amount to, :math:`W^{ex} - W^{ei} W^{ix}`."""
        return self.weight - self.inhibitory_out @ self.inhibitory_in

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw excitation and inhibition anew, in balance, and set the bias to zero."""
        for parameter in (self.weight, self.inhibitory_in, self.inhibitory_out):
            parameter.exponential_()
        self.inhibitory_out.div_(self.inhibitory_out.sum(1, keepdim=True))
        self.inhibitory_in.mul_(self.weight.mean(0) / self.inhibitory_in.mean(0))
        size = self.net_weight.square().mean().sqrt().clamp_min(_LEAST)
        for parameter in (self.weight, self.inhibitory_in):
            parameter.mul_(math.sqrt(2 / self.in_features) / size)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{super().extra_repr()}, interneurons={len(self.inhibitory_in)}"
