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

    _unit_dim = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score ``x`` against each column of the weight."""
        return self._product(x)

    def _product(self, x: torch.Tensor, *, score: torch.Tensor | None = None) -> torch.Tensor:
        return yat_linear(x, self._effective_weight().t(), score=score, **self._unit_arguments())

    @property
    def _units(self) -> int:
        return self.nf

    @property
    def _unit_axis(self) -> int:
        return -1
