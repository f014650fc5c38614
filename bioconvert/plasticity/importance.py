"""Measures of how much each weight mattered for what was learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from bioconvert.core.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

MEMORY = 0.99
"""What a step leaves of the running mean of squared gradients: it looks back about 100 steps."""
DAMPING = 10.0
"""What is added to the squared distances that path integrals are divided by, in units of their mean.

Zenke et al. add 0.1 to weights' squares, tens of their mean in a small network. With a share of the mean,
weights that hardly moved come out as important, and less of the earlier tasks is kept.
"""


class ImportanceLaw(ABC):
    """How the importance of weights is measured; it keeps nothing itself."""

    traces: ClassVar[bool] = True
    """Whether something is gathered at each step."""
    compares: ClassVar[bool] = False
    """Whether it looks at the weights before the step."""

    @abstractmethod
    def gather(
        self, trace: torch.Tensor, gradient: torch.Tensor, before: torch.Tensor, after: torch.Tensor
    ) -> None:
        """Take note of one step, for a piece of the weights.

        Args:
            trace: what was gathered so far; changed in place.
            gradient: the gradient as the loss gave it.
            before: the weights before the step; the same as afterwards, unless the law compares.
            after: the weights after the step.
        """

    @abstractmethod
    def measured(
        self, trace: torch.Tensor | None, distance: torch.Tensor, sensitivity: torch.Tensor | None
    ) -> torch.Tensor:
        """Give the importance of each weight in what was learned since the last consolidation.

        Args:
            trace: what was gathered, by a law that does.
            distance: how far the weights are from what they were at the last consolidation.
            sensitivity: how the outputs' size depends on the weights, where data were given.
        """


class PathIntegral(ImportanceLaw):
    """Synaptic intelligence: how much of the fall of the loss goes back to each weight's motion."""

    compares = True

    def gather(
        self, trace: torch.Tensor, gradient: torch.Tensor, before: torch.Tensor, after: torch.Tensor
    ) -> None:
        """Add what the motion took off the loss, to first order."""
        trace.addcmul_(gradient, (before - after).to(trace.dtype))

    def measured(
        self, trace: torch.Tensor | None, distance: torch.Tensor, sensitivity: torch.Tensor | None
    ) -> torch.Tensor:
        """Divide by the squared distance: the curvature of the parabola that would have given that fall."""
        del sensitivity
        assert trace is not None
        squared = distance.square()
        damping = DAMPING * squared.mean() + torch.finfo(squared.dtype).tiny
        return trace.clamp(min=0).div_(squared.add_(damping))


class Fisher(ImportanceLaw):
    """Elastic weight consolidation: a running mean of squared gradients."""

    def gather(
        self, trace: torch.Tensor, gradient: torch.Tensor, before: torch.Tensor, after: torch.Tensor
    ) -> None:
        """Let the squared gradient into the running mean."""
        del before, after
        trace.mul_(MEMORY).addcmul_(gradient, gradient, value=1 - MEMORY)

    def measured(
        self, trace: torch.Tensor | None, distance: torch.Tensor, sensitivity: torch.Tensor | None
    ) -> torch.Tensor:
        """Give the running mean."""
        del distance, sensitivity
        assert trace is not None
        return trace.clone()


class Sensitivity(ImportanceLaw):
    """Memory-aware synapses: how the squared norm of the outputs depends on each weight, on data."""

    traces = False

    def gather(
        self, trace: torch.Tensor, gradient: torch.Tensor, before: torch.Tensor, after: torch.Tensor
    ) -> None:
        """Take no note: training gives nothing to measure it by."""

    def measured(
        self, trace: torch.Tensor | None, distance: torch.Tensor, sensitivity: torch.Tensor | None
    ) -> torch.Tensor:
        """Give what was found on the data."""
        del trace, distance
        assert sensitivity is not None
        return sensitivity.clone()


LAWS: Mapping[str, ImportanceLaw] = {"si": PathIntegral(), "ewc": Fisher(), "mas": Sensitivity()}
