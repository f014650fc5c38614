"""A linear layer whose weight is made out of a context."""

from __future__ import annotations

import torch
from torch import nn
from typing_extensions import Unpack

from bioconvert.core.registry import layer
from bioconvert.functional.sample_matrix import Matrix
from bioconvert.layers.dynamic_core import DynamicLayer
from bioconvert.layers.dynamic_options import DynamicOptions, set_up


@layer
class DynamicLinear(DynamicLayer, nn.Linear):
    r"""Multiplies each sample of a batch by a matrix that is made out of its context.

    .. math::
        y_n = (W + g \odot \Delta(c_n)) \, x_n + b, \quad c_n = \tanh(V s_n + v)

    While the gate :math:`g` is zero the layer does what the linear layer with :math:`W` does, to the last bit
    in eager mode; the gate has a gradient from the first step, and the rest from the second.

    Args:
        in_features: size :math:`F` of the input's last dimension.
        out_features: number :math:`K` of rows of :math:`W`.
        bias: whether there is :math:`b`.
        device: where the parameters lie.
        dtype: their type.
        **options: ``composer`` makes :math:`\Delta` out of the context: ``"mixture"`` (the default),
            ``"delta"`` or ``"mobius"``, each with options of its own, such as ``kernels`` and ``temperature``
            of :class:`MixtureComposer`; the noise of :class:`DeltaComposer` is 0 here. ``context`` says what
            :math:`s` is, for a forward without a context: ``"self"`` (the default) for the mean of the input
            over positions, or what the model carries to this layer: ``"model_input"``, ``"node:<name>"``, the
            output of another module, or ``"argument"``, in whose absence :math:`c = 0`. ``context_length`` is
            :math:`L` (16). ``context_features`` is the width of :math:`V` where the context isn't ``"self"``;
            without it there is no encoder, and the model must carry :math:`c` itself. ``channels`` says where
            a carried source has its channels: ``"first"``, ``"last"`` or ``"auto"``. ``gate`` is what
            :math:`g` starts from (0).

    Shape:
        - Input: :math:`(N, *, F)` or :math:`(F)`.
        - Context :math:`c`: :math:`(M, L)` with :math:`M` a divisor of :math:`N`, each row for :math:`N / M`
          samples that follow one another; :math:`(L)` for all.
        - Output: :math:`(N, *, K)` or :math:`(K)`.

    Raises:
        ValueError: an option is unknown or out of its bounds, or the context has another shape.

    Reference:
        Yang et al., *CondConv: Conditionally Parameterized Convolutions for Efficient Inference*,
        https://arxiv.org/abs/1904.04971

    Example:
        >>> layer = DynamicLinear(8, 3, context_length=4)
        >>> layer(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
        >>> layer(torch.zeros(2, 5, 8), torch.zeros(2, 4)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[DynamicOptions],
    ):
        if in_features < 1 or out_features < 1:
            raise ValueError(f"sizes must be positive, got {in_features} → {out_features}")
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        set_up(self, out_features, in_features, **options)

    def forward(self, input: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Multiply ``input`` by the matrices of ``context``, or of the layer's own."""
        return self._product(Matrix(), input, context)

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.out_features, self.in_features
