"""Linear maps that may be another for each sample: how a weight acts on a batch, and its gradients."""

from __future__ import annotations

from typing import Literal, Protocol

import torch


class SampleMap(Protocol):
    """What a weight does to a batch of inputs, [N, …]."""

    @property
    def channels(self) -> Literal["first", "last"]:
        """Where inputs have their channels: in dimension 1 or in the last."""
        ...

    def for_input(self, x: torch.Tensor, weight: torch.Tensor) -> tuple[SampleMap, bool]:
        """Give the map for a batch, and say whether ``x`` is a single input that a batch is to be made of."""
        ...

    def plain(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Use one weight for all samples, bit for bit as torch's own layer does."""
        ...

    def varied(self, x: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Use ``weights``, [W, …], each for N / W consecutive samples; bias [O] or [W, O]."""
        ...

    def by_input(self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Give the gradient of the input of :meth:`plain`."""
        ...

    def by_weights(self, grad: torch.Tensor, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Give the gradient of the weights of :meth:`varied`, of the shape of ``like``."""
        ...

    def by_bias(self, grad: torch.Tensor) -> torch.Tensor:
        """Give the gradient of the bias of :meth:`plain`."""
        ...

    def spread_gate(self, gate: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Bring one number for each output channel into a shape that broadcasts with the weight."""
        ...

    def per_channel(self, product: torch.Tensor) -> torch.Tensor:
        """Sum weights, [W, …], to one number for each output channel."""
        ...


def kernels_for(x: torch.Tensor, weights: torch.Tensor) -> int:
    """Give the number of weights to tell apart in a batch: 1 for a batch that is empty.

    Raises:
        ValueError: the batch can't be shared out evenly among the weights.
    """
    batch, count = x.shape[0], weights.shape[0]
    if count == 1 or batch == 0:
        return 1
    if count == 0 or batch % count:
        raise ValueError(f"the batch must be a multiple of the number of weights, got {batch} and {count}")
    return count


def fold(x: torch.Tensor, count: int) -> torch.Tensor:
    """Bring [N, C, …] into [N / count, count · C, …], so that samples of one weight share their channels."""
    if x.shape[0] == count:
        return x.reshape(1, -1, *x.shape[2:])
    return by_weight(x, count).transpose(0, 1).flatten(1, 2)


def unfold(y: torch.Tensor, count: int) -> torch.Tensor:
    """Undo :func:`fold`."""
    if y.shape[0] == 1:
        return y.view(count, -1, *y.shape[2:])
    grouped: torch.Tensor = y.unflatten(1, (count, -1))  # type: ignore[no-untyped-call]
    return grouped.transpose(0, 1).flatten(0, 1)


def by_weight(x: torch.Tensor, count: int) -> torch.Tensor:
    """Bring [N, …] into [count, N / count, …]."""
    grouped: torch.Tensor = x.unflatten(0, (count, -1))  # type: ignore[no-untyped-call]
    return grouped


def only_bias(bias: torch.Tensor | None) -> torch.Tensor | None:
    """Give the bias, [O] or [1, O], that goes with a single weight; zeros for no rows of an empty batch."""
    return bias if bias is None or bias.dim() == 1 else only(bias)


def only(weights: torch.Tensor) -> torch.Tensor:
    """Give the single weight of [1, …]; zeros for the none of an empty batch, as part of the graph."""
    return weights[0] if weights.shape[0] == 1 else weights.sum(0)
