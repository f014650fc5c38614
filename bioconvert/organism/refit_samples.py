"""What layers take and give while a model runs on sample batches, which leave no trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.graph.trace import set_training
from bioconvert.organism.merging import first_floating
from bioconvert.organism.utilities import unmeasured

Batch = torch.Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]
Batches = Iterable[Batch]


@dataclass(slots=True)
class Seen:
    """What a layer took and gave, one tensor for each call.

    Args:
        inputs: copies of its first argument.
        outputs: copies of its output, or of the first tensor of floating numbers in it.
    """

    inputs: list[torch.Tensor] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)


def as_batches(batches: Batches) -> list[Batch]:
    """Take batches, which are run through again and again, out of whatever holds them.

    Raises:
        OptionError: there is none.
    """
    alone = isinstance(batches, (torch.Tensor, Mapping))
    kept: list[Batch] = [batches] if alone else list(batches)  # type: ignore[list-item]
    if not kept:
        raise OptionError("refit holds no batch: give an iterable of tensors, tuples or dicts")
    return kept


def outputs_on(model: nn.Module, batches: Sequence[Batch]) -> Iterator[Any]:
    """Give what a model makes of each batch, in evaluation mode, which it is in only for that long."""
    for batch in batches:
        with in_evaluation(model), unmeasured():
            output = _called(model, batch)
        yield output


@torch.no_grad()
def seen_by(model: nn.Module, layers: Iterable[nn.Module], batches: Sequence[Batch]) -> dict[nn.Module, Seen]:
    """Note what layers take and give, as far as these are tensors, while a model runs on batches.

    Args:
        model: the model.
        layers: layers of it.
        batches: what it runs on.
    """
    found = {layer: Seen() for layer in layers}

    def took(layer: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], torch.Tensor):
            found[layer].inputs.append(args[0].detach().clone())

    def gave(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
        y = first_floating(output)
        if y is not None:
            found[layer].outputs.append(y.detach().clone())

    with _hooked(found, took, gave):
        for _ in outputs_on(model, batches):
            pass
    return found


@contextmanager
def _hooked(
    layers: Iterable[nn.Module], before: Callable[..., Any], after: Callable[..., Any]
) -> Iterator[None]:
    handles = [
        handle
        for layer in layers
        for handle in (layer.register_forward_pre_hook(before), layer.register_forward_hook(after))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Let a model be in evaluation mode for a while, each module of it."""
    flags = [(module, module.training) for module in model.modules()]
    for module, _ in flags:
        set_training(module, False)
    try:
        yield
    finally:
        for module, training in flags:
            set_training(module, training)


def _called(model: nn.Module, batch: Batch) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)
