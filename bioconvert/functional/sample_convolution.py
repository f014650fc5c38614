"""Convolutions, plain and transposed, with a kernel for each sample."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch.nn import functional as F

from bioconvert.functional.geometry import Padding, Size, for_each
from bioconvert.functional.sample_maps import by_weight, fold, kernels_for, only, only_bias, unfold

_CONVOLVE: tuple[Any, ...] = (F.conv1d, F.conv2d, F.conv3d)
_SPREAD: tuple[Any, ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class Convolution(NamedTuple):
    """A convolution, or a transposed one.

    Args:
        stride: as for torch's function.
        padding: likewise.
        dilation: likewise.
        groups: likewise.
        transposed: whether it is a transposed convolution.
        output_padding: of a transposed convolution.
    """

    stride: Size = 1
    padding: Padding = 0
    dilation: Size = 1
    groups: int = 1
    transposed: bool = False
    output_padding: Size = 0

    @property
    def channels(self) -> Literal["first", "last"]:
        """In dimension 1."""
        return "first"

    def for_input(self, x: torch.Tensor, weight: torch.Tensor) -> tuple[Convolution, bool]:
        """Tell a batch by its number of dimensions."""
        return self, x.dim() == weight.dim() - 1

    def plain(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Convolve all samples with one kernel."""
        return self._grouped(x, weight, bias, self.groups)

    def varied(self, x: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Convolve with kernels that belong to samples: one convolution, more groups."""
        count = kernels_for(x, weights)
        if count == 1:
            return self.plain(x, only(weights), only_bias(bias))
        if self._is_pointwise(weights):
            return self._pointwise(x, weights, bias)
        if bias is not None:
            bias = bias.expand(count, -1).reshape(-1)
        y = self._grouped(fold(x, count), weights.flatten(0, 1), bias, count * self.groups)
        return unfold(y, count)

    def by_input(self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Convolve the gradient back."""
        pads = self._uneven(weight)
        found = self._backward(grad, F.pad(x, pads), weight, self.groups, pads, [True, False, False])[0]
        return F.pad(found, [-pad for pad in pads])

    def by_weights(self, grad: torch.Tensor, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Correlate gradients and inputs, each with its own."""
        count = like.shape[0]
        if self._is_pointwise(like):
            return _outer(grad, x, like)
        pads = self._uneven(like[0])
        groups, mask = count * self.groups, [False, True, False]
        kernels = like.flatten(0, 1)
        found = self._backward(fold(grad, count), F.pad(fold(x, count), pads), kernels, groups, pads, mask)[1]
        return found.view_as(like)

    def by_bias(self, grad: torch.Tensor) -> torch.Tensor:
        """Sum over samples and positions."""
        return grad.sum((0, *range(2, grad.dim())))

    def spread_gate(self, gate: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Put the channels where the kernel has them; a transposed one has a group's in dimension 1."""
        space = [1] * (weight.dim() - 2)
        if not self.transposed:
            return gate.view(-1, 1, *space)
        per_group = gate.view(self.groups, 1, -1).expand(-1, weight.shape[0] // self.groups, -1)
        return per_group.reshape(weight.shape[0], -1, *space)

    def per_channel(self, product: torch.Tensor) -> torch.Tensor:
        """Sum over samples, inputs and positions in the kernel."""
        if not self.transposed:
            return product.flatten(2).sum(2).sum(0)  # along memory first
        grouped = product.unflatten(1, (self.groups, -1))  # type: ignore[no-untyped-call]
        total: torch.Tensor = grouped.sum((0, 2, *range(4, grouped.dim())))
        return total.flatten()

    def _grouped(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, groups: int
    ) -> torch.Tensor:
        kind = weight.dim() - 3
        if self.transposed:
            sizes = self.stride, self.padding, self.output_padding, groups, self.dilation
            y: torch.Tensor = _SPREAD[kind](x, weight, bias, *sizes)
        else:
            y = _CONVOLVE[kind](x, weight, bias, self.stride, self.padding, self.dilation, groups)
        return y

    def _is_pointwise(self, weights: torch.Tensor) -> bool:
        """Say whether the kernels are matrices that act on each position by itself."""
        space = weights.dim() - 3
        padding = 0 if isinstance(self.padding, str) else self.padding
        still = for_each(self.stride, space) == (1,) * space and for_each(padding, space) == (0,) * space
        return still and not self.transposed and self.groups == 1 and weights.shape[3:].numel() == 1

    def _pointwise(self, x: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        count, outputs = weights.shape[:2]
        matrices = weights.flatten(2)
        if x.shape[0] == count:
            y = torch.bmm(matrices, x.flatten(2))
        else:
            y = torch.matmul(matrices.unsqueeze(1), by_weight(x.flatten(2), count)).flatten(0, 1)
        if bias is not None:
            rows = bias.expand(count, -1).repeat_interleave(x.shape[0] // count, 0)
            y = y + rows.unsqueeze(-1).to(y.dtype)
        return y.view(x.shape[0], outputs, *x.shape[2:])

    def _backward(
        self,
        grad: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        groups: int,
        pads: list[int],
        mask: list[bool],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        space = weight.dim() - 2
        padding = [0] * space if pads else self._even_padding(weight)
        return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
            grad,
            x,
            weight,
            None,
            list(for_each(self.stride, space)),
            padding,
            list(for_each(self.dilation, space)),
            self.transposed,
            list(for_each(self.output_padding, space)),
            groups,
            mask,
        )

    def _even_padding(self, weight: torch.Tensor) -> list[int]:
        if self.padding == "same":
            return [total // 2 for total in self._totals(weight)]
        if isinstance(self.padding, str):
            return [0] * (weight.dim() - 2)
        return list(for_each(self.padding, weight.dim() - 2))

    def _uneven(self, weight: torch.Tensor) -> list[int]:
        """Give the padding of each end, the last dimension first, if there is one with more at its end."""
        if self.padding != "same":
            return []
        totals = self._totals(weight)
        if not any(total % 2 for total in totals):
            return []
        return [pad for total in reversed(totals) for pad in (total // 2, total - total // 2)]

    def _totals(self, weight: torch.Tensor) -> list[int]:
        sizes = weight.shape[2:]
        gaps = for_each(self.dilation, len(sizes))
        return [gap * (size - 1) for gap, size in zip(gaps, sizes, strict=True)]


def _outer(grad: torch.Tensor, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    count = like.shape[0]
    if x.shape[0] == count:
        return torch.bmm(grad.flatten(2), x.flatten(2).transpose(1, 2)).view_as(like)
    products = grad.flatten(2) @ x.flatten(2).transpose(1, 2)
    return by_weight(products, count).sum(1).view_as(like)
