"""The Yat counterpart of ``nn.Linear``."""

from __future__ import annotations

import torch
from torch import fx, nn

from bioconvert.core.registry import layer
from bioconvert.functional import yat_linear
from bioconvert.functional.units import BiasMode
from bioconvert.layers.yat_core import YatLayer
from bioconvert.layers.yat_options import Alpha, set_up

# A leaf in a user's own symbolic_trace: what is inside looks at sizes, which a trace doesn't know.
fx.wrap("yat_linear")


@layer
class YatLinear(YatLayer, nn.Linear):
    r"""Scores an input by how well it aligns with, and how near it lies to, each weight row.

    .. math::
        y_i = \alpha \, \frac{(w_i \cdot x + b_i)^2}{\lVert w_i - x \rVert^2 + \varepsilon} + o_i

    The layer is non-linear by itself: no activation follows it.

    Args:
        in_features: size :math:`F` of the input's last dimension.
        out_features: number :math:`K` of weight rows :math:`w_i`.
        bias: whether there is :math:`b_i`.
        bias_mode: whether :math:`b_i` goes inside the square (``"pre"``) or is added to the quotient
            (``"post"``).
        alpha: :math:`\alpha`: ``"learnable"``, a constant, ``"none"`` for 1, or ``"exponent"`` for
            :math:`(\sqrt K / \ln(1 + K))^a` with a learnable :math:`a`.
        per_unit: whether each unit has an :math:`\alpha_i`, and a learnable :math:`\varepsilon_i`, of
            its own.
        offset: whether there is :math:`o_i`, which starts from 0.
        epsilon: :math:`\varepsilon`, in units of :math:`\lVert x \rVert^2`; keeps the quotient finite where
            :math:`x = w_i`.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, as the softplus of ``raw_epsilon``.
        spherical: whether :math:`x` and :math:`w_i` are brought to unit length first.
        weight_normalized: whether :math:`w_i` is.
        drop_connect: probability that an element of the weight is left out while training.
        softplus_bias: whether the softplus of ``bias`` is used, so that :math:`b_i > 0`.
        scalar_bias: whether one :math:`b`, a ``bias`` of shape [1], serves all units.
        constant_bias: a fixed number for :math:`b_i`, in place of the parameter.
        freeze_kernel: whether the weight is left out of training.
        mask: of the weight's shape, which it multiplies; before normalisation and DropConnect.
        kernel_bank: a parameter of shape [≥ K, F] that becomes the layer's weight itself, so that several
            layers can share it: the layer uses the first :math:`K` rows.
        device: where the parameters lie.
        dtype: their type; half precision is computed in fp32.

    Shape:
        - Input: :math:`(*, F)`.
        - Output: :math:`(*, K)`, non-negative for :math:`\alpha > 0` without bias behind and offset.

    Raises:
        ValueError: an option is out of its bounds, or a tensor of another shape than it must have.

    Reference:
        Bouhsine, *Deep Learning 2.0: Artificial Neurons that Matter*, https://arxiv.org/abs/2411.08085

    Example:
        >>> YatLinear(8, 3)(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        bias_mode: BiasMode = "pre",
        alpha: Alpha = "learnable",
        per_unit: bool = False,
        offset: bool = False,
        epsilon: float = 1e-5,
        learnable_epsilon: bool = False,
        spherical: bool = False,
        weight_normalized: bool = False,
        drop_connect: float = 0.0,
        softplus_bias: bool = False,
        scalar_bias: bool = False,
        constant_bias: float | None = None,
        freeze_kernel: bool = False,
        mask: torch.Tensor | None = None,
        kernel_bank: nn.Parameter | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if in_features < 1 or out_features < 1:
            raise ValueError(f"sizes must be positive, got {in_features} → {out_features}")
        bias = bias and constant_bias is None
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        set_up(
            self,
            out_features,
            bias_mode=bias_mode,
            alpha=alpha,
            per_unit=per_unit,
            offset=offset,
            epsilon=epsilon,
            learnable_epsilon=learnable_epsilon,
            spherical=spherical,
            weight_normalized=weight_normalized,
            drop_connect=drop_connect,
            softplus_bias=softplus_bias,
            scalar_bias=scalar_bias,
            constant_bias=constant_bias,
            freeze_kernel=freeze_kernel,
            mask=mask,
            kernel_bank=kernel_bank,
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Score ``input`` against each weight row."""
        return self._product(input)

    def _product(self, input: torch.Tensor, *, score: torch.Tensor | None = None) -> torch.Tensor:
        return yat_linear(input, self._effective_weight(), score=score, **self._unit_arguments())

    @property
    def _units(self) -> int:
        return self.out_features

    @property
    def _unit_axis(self) -> int:
        return -1


YatNMN = YatLinear
"""The name that the layer goes by elsewhere."""
