"""How much nodes and branches are worth, as running means that stay on the device until asked for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import torch

from bioconvert.core.context import holding

RATE = 0.1
"""The weight of the newest value in a running mean."""
MEASURES = ("information", "taylor", "activation")
_PICTURE = 4
"""From this many dimensions on, features lie in the second one, as convolutions have them."""
_measured: ContextVar[bool] = ContextVar("measured", default=True)


class Utility:
    """Running means of what a node is worth, on the device where they arise.

    A copy of it, and what is saved, holds plain numbers: ``{measure: [mean, count]}``.

    Args:
        values: such numbers, to go on from.
    """

    def __init__(self, values: Mapping[str, Any] | None = None):
        self._means: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        for name, (mean, count) in (values or {}).items():
            self._means[name] = torch.tensor(mean, dtype=torch.float32, device="cpu")
            self._counts[name] = count

    def add(self, measure: str, value: torch.Tensor) -> None:
        """Take one more value into a mean; it is left out where it isn't finite."""
        count = self._counts.get(measure, 0)
        old = self._means[measure].to(value.device) if count else value.new_zeros(())
        new = old + (RATE if count else 1.0) * (value - old)
        self._means[measure] = torch.where(new.isfinite(), new, old)
        self._counts[measure] = count + 1

    def values(self) -> dict[str, list[float]]:
        """Fetch the means, with how many values went into each."""
        return {name: [float(mean), self._counts[name]] for name, mean in self._means.items()}

    def __eq__(self, other: object) -> bool:
        return self.values() == (other.values() if isinstance(other, Utility) else other)

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: Any) -> dict[str, list[float]]:
        return self.values()

    def __reduce__(self) -> Any:
        return dict, (self.values(),)


def utility_in(record: dict[str, Any]) -> Utility:
    """Give the means in a node's record, from where they were left or from the beginning."""
    found = record.get("utility")
    if not isinstance(found, Utility):
        found = record["utility"] = Utility(found)
    return found


def unmeasured() -> AbstractContextManager[None]:
    """Let nothing that runs count, for a while."""
    return holding(_measured, False)


def is_measured() -> bool:
    """Say whether what runs counts; what is being compiled never does."""
    return not torch.compiler.is_compiling() and _measured.get()


@torch.no_grad()
def information_gain(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    r"""Measure how far a distribution over features moved.

    .. math::
        \frac{1}{N} \sum_{n=1}^N \sum_k p_{nk} \log \frac{p_{nk}}{q_{nk}}, \qquad
        p_n = \operatorname{softmax}(x_n), \; q_n = \operatorname{softmax}(y_n)

    Args:
        before: :math:`x`.
        after: :math:`y`.

    Shape:
        - Both: :math:`(*, K)`, or :math:`(N, K, *, *)` from four dimensions on.
        - Output: a scalar, on the device of the inputs; fp32.

    Example:
        >>> information_gain(torch.zeros(2, 3), torch.zeros(2, 3)).item()
        0.0
    """
    dim = 1 if before.ndim >= _PICTURE else -1
    p, q = before.float().log_softmax(dim), after.float().log_softmax(dim)
    return (p.exp() * (p - q)).sum(dim).mean()


@torch.no_grad()
def taylor(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    r"""Estimate by how much the loss would change without an activation: to the first order, by sample.

    .. math::
        \sum_n \Big\lvert \sum_i a_{ni} \, \frac{\partial L}{\partial a_{ni}} \Big\rvert

    The loss being a mean over samples, so is this.

    Args:
        activation: :math:`a`.
        gradient: that of the loss.

    Shape:
        - Both: :math:`(N, *)`.
        - Output: a scalar, on the device of the inputs; fp32.

    Reference:
        Molchanov et al., *Importance Estimation for Neural Network Pruning*, https://arxiv.org/abs/1906.10771
    """
    product = activation.float() * gradient.float()
    return product.flatten(1).sum(1).abs().sum() if product.ndim > 1 else product.abs().sum()
