"""Which branches count for which sample: a softmax over them, from the pooled input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.core.random import Stream
from bioconvert.organism.merging import first_floating
from bioconvert.organism.pooling import pooled
from bioconvert.organism.record import Record

ROUTER = "router"
"""What tells of a router in a node's record, and the child of each branch that scores samples for it."""
_NOISE = 0.01
"""Deviation of a new score's weights, over the root of their number: enough that no two branches tie."""

_OPEN = 0.1
"""The size of a gate from which its branch counts in full among others."""

_HIGHEST = 80.0
"""A score whose exponential is still finite in fp32."""


class Score(nn.Linear):
    """Scores samples for one branch.

    Args:
        features: size F of the pooled input.

    Shape:
        - Input: (N, F).
        - Output: (N, 1).
    """

    def __init__(self, features: int):
        super().__init__(features, 1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.last = LastLoss()


class LastLoss:
    """The balance of the last forward pass; a copy of it, and what is saved, is empty."""

    value: torch.Tensor | None = None

    def __deepcopy__(self, memo: Any) -> LastLoss:
        return LastLoss()

    def __reduce__(self) -> Any:
        return LastLoss, ()


def routed(
    record: Record, branches: Sequence[Any], additions: Sequence[torch.Tensor], inputs: Any
) -> list[torch.Tensor]:
    r"""Weigh what branches add, for each sample.

    .. math::
        w_k = \frac{e^{s_k(\bar x)}}{1 + e^{s_k(\bar x)} + \sum_{j \ne k} m_j e^{s_j(\bar x)}},
        \qquad m_j = \min(1, |\gamma_j| / 0.1)

    a softmax over the block, whose score is zero, and the branches, in which a branch takes from others as
    far as its gate :math:`\gamma_j` has opened: the birth of one changes nothing. Of the branches with
    :math:`m_j = 1` all but the largest ``top_k`` weights become zero. What is zero was computed nevertheless.

    Args:
        record: that of the router: ``top_k``, ``load_balance`` and ``features``.
        branches: those that take part.
        additions: what they give, :math:`(N, *)`.
        inputs: what the node is given; its first tensor of floating numbers is pooled to :math:`(N, F)`.
    """
    x = first_floating(inputs)
    if x is None or x.ndim < 2:
        raise OptionError("a router needs an input of floating numbers, [batch, …]")
    rows = pooled(x, record["features"])
    # The block may work in place on x, which is wanted for the gradient of the scores.
    rows = rows.clone() if rows is x else rows
    if rows.shape[-1] != record["features"]:
        raise OptionError(
            f"a router made for {record['features']} features got {rows.shape[-1]}: give features="
        )
    weight = branches[0].router.weight
    scores = torch.cat([branch.router(rows.to(weight.dtype)) for branch in branches], 1)
    if record["load_balance"] and branches[0].router.training:
        branches[0].router.last.value = record["load_balance"] * imbalance(scores.softmax(1))
    presence = torch.cat([(branch.gate.detach().abs() / _OPEN).clamp(max=1.0) for branch in branches])
    weights = _only_largest(_shares(scores, presence), presence, record["top_k"])
    return [_per_sample(weights[:, place], addition) * addition for place, addition in enumerate(additions)]


def imbalance(shares: torch.Tensor) -> torch.Tensor:
    r"""Measure how unevenly samples go to branches: 1 where evenly, their number where all go to one.

    .. math::
        K \sum_k f_k \bar p_k

    Args:
        shares: a softmax over the branches, (N, K); :math:`\bar p_k` is the mean of the k-th,
            :math:`f_k` the part of the samples for which it is the largest.

    Reference:
        Fedus et al., *Switch Transformers*, https://arxiv.org/abs/2101.03961
    """
    count = shares.shape[1]
    first = nn.functional.one_hot(shares.argmax(1), count).to(shares.dtype).mean(0)
    return count * (first * shares.mean(0)).sum()


def begin_router(branch: Any, record: Record, seed: int, identity: str) -> None:
    """Give a branch its score, which is nearly the same for every sample at first."""
    give_score(branch, record)
    noise = Stream(seed, identity).normal(ROUTER, (1, record["features"]))
    with torch.no_grad():
        branch.router.weight.copy_(noise * (_NOISE / record["features"] ** 0.5))


def give_score(branch: Any, record: Record) -> None:
    """Give a branch a score of zero."""
    like: torch.Tensor = branch.gate
    branch.router = Score(record["features"]).to(like.device, like.dtype).train(branch.training)


def router_record(module: nn.Module, top_k: int, load_balance: float, features: int | None) -> Record:
    """Begin the record of a router on a node.

    Raises:
        OptionError: a value is out of range, or the size of the input can't be told.
    """
    if top_k < 1:
        raise OptionError(f"top_k must be at least 1, not {top_k}")
    if load_balance < 0:
        raise OptionError(f"load_balance must not be negative, not {load_balance}")
    found = _features(module) if features is None else features
    if found is None:
        raise OptionError("the size of the node's input can't be told from its layers: give features=")
    return {"top_k": top_k, "load_balance": load_balance, "features": found}


def _features(module: nn.Module) -> int | None:
    """Give the size of what the first layer takes."""
    for layer in module.modules():
        for name in ("in_features", "in_channels", "num_features", "embed_dim", "input_size"):
            size = getattr(layer, name, None)
            if isinstance(size, int):
                return size
        shape = getattr(layer, "normalized_shape", None)
        if isinstance(shape, tuple) and len(shape) == 1:
            return int(shape[0])
    return None


def _shares(scores: torch.Tensor, presence: torch.Tensor) -> torch.Tensor:
    """Give the weights; one after the other is added, so that a zero at the end changes no bit."""
    closed = presence == 0
    highest = scores.detach().masked_fill(closed, -torch.inf).amax(1, keepdim=True).clamp_min(0.0)
    masses = (scores - highest).clamp(max=_HIGHEST).exp()
    shares = []
    for own in range(scores.shape[1]):
        total = (-highest[:, 0]).exp()
        for place in range(scores.shape[1]):
            mass = masses[:, place]
            total = total + (mass if place == own else presence[place] * mass)
        shares.append(masses[:, own] / total)
    return torch.stack(shares, 1)


def _only_largest(shares: torch.Tensor, presence: torch.Tensor, count: int) -> torch.Tensor:
    if count >= shares.shape[1]:
        return shares
    young = (presence < 1).expand_as(shares)
    places = shares.masked_fill(young, -torch.inf).topk(count, 1).indices
    chosen = torch.zeros_like(shares, dtype=torch.bool).scatter(1, places, True)
    return shares * (chosen | young)


def _per_sample(weights: torch.Tensor, addition: torch.Tensor) -> torch.Tensor:
    if len(weights) != len(addition):
        raise OptionError(
            f"a router weighs samples, but got {len(weights)} of them and outputs of {len(addition)}: "
            "the batch must come first"
        )
    return weights.to(addition.dtype).view(-1, *[1] * (addition.ndim - 1))
