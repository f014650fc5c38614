"""The Yat counterpart of transformers' ``Conv1D``, a linear layer whose weight is transposed."""

from __future__ import annotations

import torch
from torch import fx
from transformers.pytorch_utils import Conv1D

from bioconvert.core.registry import layer
from bioconvert.functional import yat_linear
from bioconvert.layers.yat_core import YatLayer

fx.wrap("yat_linear")


@layer
class YatConv1D(YatLayer, Conv1D):
    r"""Does what :class:`YatLinear` does, with the weight as :math:`[F, K]`.

    A model's ``Conv1D`` becomes one by a change of its class; to build a new layer, take :class:`YatLinear`.

    Shape:
        - Input: :math:`(*, F)`.
        - Output: :math:`(*, K)`.
    """

    nf: int

    def _weight_rows(self) -> torch.Tensor:
        return super()._weight_rows().t()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score ``x`` against each column of the weight."""
        return yat_linear(x, self._effective_weight(), self.bias, **self._unit_arguments(self.nf))

    def forward_beside(
        self, output: torch.Tensor, bias: torch.Tensor | None, x: torch.Tensor
    ) -> torch.Tensor:
        """Give the output for ``x`` from what the linear map on the same weight gave for it.

        Args:
            output: the linear map's output.
            bias: the bias that is in it.
            x: the input.

        Returns:
            ``NotImplemented`` where the products that are in ``output`` are of no use.
        """
        score = self._score_in(output, bias, output.dim() - 1)
        if score is None:
            return NotImplemented  # type: ignore[no-any-return]
        return yat_linear(x, self._weight_rows(), self.bias, **self._unit_arguments(self.nf), score=score)
