"""Which units are replaced."""

from __future__ import annotations

import torch


def dormant(score: torch.Tensor, ripe: torch.Tensor, most: float) -> torch.Tensor:
    """Give the numbers of the units that may be replaced and have at most a certain score.

    Example:
        >>> dormant(torch.tensor([0.0, 2.0, 0.0]), torch.tensor([True, True, False]), 0.1)
        tensor([0])
    """
    return (ripe & (score <= most)).nonzero().view(-1)


def least_useful(
    score: torch.Tensor, ripe: torch.Tensor, share: float, uniform: torch.Tensor
) -> torch.Tensor:
    """Give the numbers of the units of least score, a share of those that may be replaced in each group.

    Where the share isn't a whole number of units, chance decides between the numbers next to it.

    Args:
        score: [groups, units of a group].
        ripe: which units may be replaced, likewise.
        share: of those.
        uniform: a random number for each group.

    Example:
        >>> score = torch.tensor([[3.0, 1.0, 2.0]])
        >>> least_useful(score, torch.ones(1, 3) > 0, 1 / 3, torch.tensor([0.5]))
        tensor([1])
    """
    number = (ripe.sum(1).double() * share).clamp(max=score.shape[1])
    number = torch.floor(number + uniform.to(number))
    rank = score.masked_fill(~ripe, float("inf")).argsort(1).argsort(1)
    return (ripe & (rank < number[:, None])).flatten().nonzero().view(-1)
