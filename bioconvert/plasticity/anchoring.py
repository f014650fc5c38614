"""The pull of weights back to what they were when a task was over, by how much they mattered for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from bioconvert.core.change import Old, TensorRecipe
from bioconvert.core.lazy import LazyModule
from bioconvert.plasticity.importance import LAWS

if TYPE_CHECKING:
    import torch

    from bioconvert.core import random
    from bioconvert.core.random import Stream
    from bioconvert.plasticity import layout
    from bioconvert.plasticity.crystallize import Crystallize
    from bioconvert.plasticity.moment import Moment
    from bioconvert.plasticity.synapses import Synapses
else:
    torch = LazyModule("torch")
    random = LazyModule("bioconvert.core.random")
    layout = LazyModule("bioconvert.plasticity.layout")

RIGID = 1e30
"""The greatest pull: past it no weight moves anyway, and the largest fp32 number isn't far."""


def anchoring_tensors(law: str, parameter: str) -> Mapping[str, TensorRecipe]:
    """Say what is kept of a parameter: importance, the weights to be pulled to, what the law gathers."""

    def nothing(weight: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(layout.in_full(weight))

    def no_steps(weight: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, dtype=torch.int64, device=weight.device)

    kept = {"importance": kept_as_made(parameter, nothing), "anchor": kept_as_made(parameter, torch.clone)}
    if LAWS[law].traces:
        kept |= {"trace": kept_as_made(parameter, nothing), "steps": kept_as_made(parameter, no_steps)}
    return kept


def kept_as_made(parameter: str, make: Callable[[torch.Tensor], torch.Tensor]) -> TensorRecipe:
    """Give the recipe of a buffer that is made from a parameter, in a type of its own."""

    def made(old: Old, stream: Stream) -> torch.Tensor:
        del stream
        return make(old[parameter])

    return TensorRecipe(made, reads=(parameter,), like=None, kind="buffer")


def hold_back(mechanism: Crystallize, synapses: Synapses, moment: Moment, gradient: torch.Tensor) -> None:
    """Pull the weights back after a step, let importance fade, and gather what it is measured from.

    Args:
        mechanism: whose law and strength count.
        synapses: the parameter.
        moment: the step.
        gradient: the gradient as the loss gave it.
    """
    assert moment.before is not None
    law, weight = LAWS[mechanism.law], synapses.weight
    if law.traces:
        _begin(mechanism, synapses, moment.before)
    force = 2 * float(moment.group["lr"]) * mechanism.strength * mechanism.strength_at(moment.step)
    keys = ("anchor", "importance", "trace") if law.traces else ("anchor", "importance")
    kept = [synapses.tensor(mechanism, key) for key in keys]
    for after, before, slope, anchor, importance, *trace in _chunks(weight, moment.before, gradient, *kept):
        pull(after, anchor, importance, force)
        if mechanism.recovery:
            importance.mul_(1 - mechanism.recovery)
        for each in trace:
            law.gather(each, slope.to(each.dtype), before, after)


def pull(weight: torch.Tensor, anchor: torch.Tensor, importance: torch.Tensor, force: float) -> None:
    r"""Move weights to :math:`(\theta + a\,\theta^*) / (1 + a)`, with :math:`a` force times importance."""
    a = importance.mul(min(force, RIGID)).clamp_(max=RIGID)
    share = a.div_(a + 1)
    weight.copy_(torch.lerp(weight.to(share.dtype), anchor.to(share.dtype), share))


def settle(mechanism: Crystallize, synapses: Synapses, sensitivity: torch.Tensor | None = None) -> None:
    """Add what was measured since to the importance of weights, and pull to where they are from now on.

    Args:
        mechanism: whose law measures.
        synapses: the parameter.
        sensitivity: how the outputs' size depends on each weight, for ``mas``.
    """
    law, weight = LAWS[mechanism.law], layout.in_full(synapses.weight)
    importance, anchor = (synapses.tensor(mechanism, key) for key in ("importance", "anchor"))
    trace = synapses.tensor(mechanism, "trace") if law.traces else None
    found = law.measured(trace, weight - anchor, sensitivity)
    mean = synapses.total(found.sum()) / max(synapses.extent.total, 1)
    importance.add_(found.div_(mean.clamp(min=torch.finfo(found.dtype).tiny)))
    anchor.copy_(weight)
    if trace is not None:
        trace.zero_()
        synapses.tensor(mechanism, "steps").zero_()


def _begin(mechanism: Crystallize, synapses: Synapses, before: torch.Tensor) -> None:
    """Measure distances from the weights before the first step, which may have been loaded since."""
    steps = synapses.tensor(mechanism, "steps")
    if not steps.any() and not synapses.tensor(mechanism, "importance").any():
        synapses.tensor(mechanism, "anchor").copy_(before)
    steps.add_(1)


def _chunks(weight: torch.Tensor, *others: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Cut tensors of a weight's shape into flat pieces that fit the processor's cache."""
    rows = [layout.flat(layout.laid_like(each, weight)) for each in (weight, *others)]
    for start in range(0, weight.numel(), random.CHUNK):
        yield tuple(row[start : start + random.CHUNK] for row in rows)
