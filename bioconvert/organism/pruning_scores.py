"""What hidden units are worth: the numbers that decide which of them go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.core.random import Stream
from bioconvert.organism.collective import mean_rows
from bioconvert.organism.merging import first_floating
from bioconvert.organism.pruning_hidden import Hidden
from bioconvert.organism.refit_samples import Batch, outputs_on

if TYPE_CHECKING:
    from bioconvert.organism.pruning_units import Wish

Score = Literal["taylor", "activation", "magnitude", "random"]
SCORES: tuple[Score, ...] = ("taylor", "activation", "magnitude", "random")
Loss = Callable[[Any, int], torch.Tensor]
"""Takes the model's output on a batch and the batch's number."""
_Taken = list[tuple[Hidden, torch.Tensor]]


def scores_of(
    model: nn.Module, hidden: Sequence[Hidden], wish: Wish, samples: Sequence[Batch]
) -> dict[Hidden, torch.Tensor]:
    """Give a number for each unit: the greater, the more it is worth.

    Args:
        model: the model.
        hidden: the layers.
        wish: says what decides.
        samples: batches, where activations do.

    Raises:
        OptionError: there is no such score, or there are no batches for it.
    """
    if wish.by not in SCORES:
        raise OptionError(f"by must be one of {', '.join(SCORES)}, not {wish.by!r}")
    if wish.by == "random":
        stream = Stream(wish.seed, wish.name)
        return {each: stream.uniform(f"prune {each.path}", (each.count,)) for each in hidden}
    if wish.by == "magnitude":
        return {each: each.weight.detach().float().flatten(1).norm(dim=1) for each in hidden}
    if not samples:
        raise OptionError(f"by={wish.by!r} needs samples, or batches for the refit")
    found = _by_activation(model, hidden, wish, samples)
    return {each: torch.tensor(mean_rows([scores.tolist()])[0]) for each, scores in found.items()}


def _by_activation(
    model: nn.Module, hidden: Sequence[Hidden], wish: Wish, samples: Sequence[Batch]
) -> dict[Hidden, torch.Tensor]:
    found = {each: each.weight.new_zeros(each.count, dtype=torch.float32) for each in hidden}
    taken: _Taken = []
    handles = [each.receiver.register_forward_pre_hook(_taking(each, taken)) for each in hidden]
    needs_gradient = wish.by == "taylor"
    try:
        with torch.set_grad_enabled(needs_gradient):
            for number, output in enumerate(outputs_on(model, samples)):
                gradients = _gradients(output, number, taken, wish) if needs_gradient else [None] * len(taken)
                for (each, x), gradient in zip(taken, gradients, strict=True):
                    found[each] += _worth(each, x.detach().float(), gradient)
                taken.clear()
    finally:
        for handle in handles:
            handle.remove()
    return found


def _taking(hidden: Hidden, taken: _Taken) -> Callable[..., Any]:
    def take(layer: nn.Module, args: tuple[Any, ...]) -> Any:  # noqa: ARG001
        x = args[0]
        if torch.is_grad_enabled() and not x.requires_grad:
            x = x.detach().requires_grad_()  # nothing before it learns
        taken.append((hidden, x))
        return (x, *args[1:])

    return take


def _gradients(output: Any, number: int, taken: _Taken, wish: Wish) -> Sequence[torch.Tensor | None]:
    y = first_floating(output)
    if wish.loss is None and y is None:
        raise OptionError("the model gives no tensor of floating numbers: give the loss")
    loss = _size(y) if wish.loss is None else wish.loss(output, number)  # type: ignore[arg-type]
    return torch.autograd.grad(loss, [x for _, x in taken], allow_unused=True)


def _size(y: torch.Tensor) -> torch.Tensor:
    return y.float().square().mean() / 2


def _worth(hidden: Hidden, x: torch.Tensor, gradient: torch.Tensor | None) -> torch.Tensor:
    """Sum over the samples what each unit gave, or how much that changes the loss."""
    if gradient is None:
        return hidden.by_unit(x).abs().mean(2).sum(0)
    return hidden.by_unit(x * gradient.float()).sum(2).abs().sum(0)
