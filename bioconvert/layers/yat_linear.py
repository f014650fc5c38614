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
        per_unit: whether each unit has an :math:`\alpha_i` of its own.
        offset: whether there is :math:`o_i`, which starts from 0.
        epsilon: :math:`\varepsilon`, in units of :math:`\lVert x \rVert^2`; keeps the quotient finite where
            :math:`x = w_i`.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, as the softplus of ``raw_epsilon``.
        spherical: whether :math:`x` and :math:`w_i` are brought to unit length first.
        weight_normalized: whether :math:`w_i` is.
        drop_connect: probability that an element of the weight is left out while training.
        device: where the parameters lie.
        dtype: their type; half precision is computed in fp32.

    Shape:
        - Input: :math:`(*, F)`.
        - Output: :math:`(*, K)`, non-negative for :math:`\alpha > 0` without bias behind and offset.

    Raises:
        ValueError: an option is out of its bounds.

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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if in_features < 1 or out_features < 1:
            raise ValueError(f"sizes must be positive, got {in_features} → {out_features}")
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
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Score ``input`` against each weight row."""
        arguments = self._unit_arguments(self.out_features)
        return yat_linear(input, self._effective_weight(), self.bias, **arguments)

    def forward_beside(
        self, output: torch.Tensor, bias: torch.Tensor | None, input: torch.Tensor
    ) -> torch.Tensor:
        """Give the output for ``input`` from what the linear map on the same weight gave for it.

        Args:
            output: the linear map's output.
            bias: the bias that is in it.
            input: the input.

        Returns:
            ``NotImplemented`` where the products that are in ``output`` are of no use.
        """
        score = self._score_in(output, bias, output.dim() - 1)
        if score is None:
            return NotImplemented  # type: ignore[no-any-return]
        arguments = self._unit_arguments(self.out_features)
        return yat_linear(input, self.weight, self.bias, **arguments, score=score)


YatNMN = YatLinear
"""The name that the layer goes by elsewhere."""
