"""The end of a task: what was learned is to be kept from then on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.plasticity.anchoring import settle
from bioconvert.plasticity.crystallize import Crystallize, require_finite
from bioconvert.plasticity.importance import LAWS
from bioconvert.plasticity.synapses import Synapses

Kept = list[tuple[Synapses, Crystallize]]


def consolidate(model: nn.Module, synapses: Sequence[Synapses], data: Iterable[Any] | None) -> None:
    """Consolidate all weights that crystallize by importance, or none of them.

    Args:
        model: the model, for laws that measure on data.
        synapses: its weights.
        data: batches to call the model with.

    Raises:
        OptionError: there is nothing to consolidate by, or something isn't finite.
    """
    kept: Kept = [
        (each, mechanism)
        for each in synapses
        for mechanism in each.mechanisms
        if isinstance(mechanism, Crystallize) and mechanism.anchors
    ]
    if not kept:
        raise OptionError(
            "no weight crystallizes by importance: attach crystallize with law `si`, `ewc` or `mas`"
        )
    _check_learned(kept)
    found = _measured(model, [each for each, mechanism in kept if mechanism.law == "mas"], data)
    with torch.no_grad():
        for each, mechanism in kept:
            settle(mechanism, each, found.get(each.path))


def _check_learned(kept: Kept) -> None:
    for each, _ in kept:
        require_finite(each.weight, repr(each.path))
    steps = [each.tensor(mechanism, "steps") for each, mechanism in kept if LAWS[mechanism.law].traces]
    if steps and not any(bool(each.any()) for each in steps):
        raise OptionError("nothing was learned since the last consolidation: no bound optimizer made a step")


def _measured(
    model: nn.Module, synapses: Sequence[Synapses], data: Iterable[Any] | None
) -> Mapping[str, torch.Tensor]:
    """Give the mean over batches of how much the outputs' squared norm depends on each weight, in size."""
    if not synapses:
        return {}
    if data is None:
        raise OptionError("law `mas` measures importance on data: consolidate(data)")
    trained = [each for each in synapses if each.held.requires_grad]
    found = {each.path: torch.zeros_like(each.held) for each in synapses}
    batches = 0
    with _evaluating(model), torch.enable_grad():
        for batch in data:
            norm = _output(_called(model, batch)).square().sum()
            gradients = torch.autograd.grad(norm, [each.held for each in trained], allow_unused=True)
            for each, gradient in zip(trained, gradients, strict=True):
                if gradient is not None:
                    found[each.path] += gradient.abs()
            batches += 1
    if not batches:
        raise OptionError("there are no batches in data")
    for path, slope in found.items():
        require_finite(slope, f"the importance of {path!r} on data")
    return {path: slope / batches for path, slope in found.items()}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluate a model, so that neither chance nor running statistics play a part, and put it back."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def _called(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)


def _output(given: Any) -> torch.Tensor:
    """Give the output proper, where others go with it."""
    found = given if isinstance(given, torch.Tensor) else getattr(given, "logits", None)
    if found is None and isinstance(given, (tuple, list)) and given:
        found = given[0]
    if not isinstance(found, torch.Tensor) or not found.requires_grad:
        raise OptionError("law `mas` needs outputs that depend on weights: a tensor, the first, or `logits`")
    return found
