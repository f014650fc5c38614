"""Fitting new layers to what the old ones gave on sample data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from bioconvert.core.change import Fit
from bioconvert.core.errors import Refused
from bioconvert.surgery.prove import NEVER_RAN
from bioconvert.surgery.samples import Inputs, blamed, hooked, in_mode, preserved, run

Values = Mapping[str, torch.Tensor]


def fitted_values(
    model: nn.Module, fits: Mapping[nn.Module, Fit], batches: Iterable[Inputs]
) -> dict[nn.Module, Values | Refused]:
    """Run the original model over sample data and give each layer's values, or why there are none.

    One pass over the data serves all layers, in evaluation, and one in training those that don't run there;
    of the activations nothing is kept but what each fit notes.
    """
    ran = _observe(model, fits, batches, training=False)
    missed = {layer: fit for layer, fit in fits.items() if layer not in ran}
    # Auxiliary heads run in training alone.
    ran |= _observe(model, missed, batches, training=True)
    return {layer: _solved(fit, layer) if layer in ran else Refused(NEVER_RAN) for layer, fit in fits.items()}


def _observe(
    model: nn.Module, fits: Mapping[nn.Module, Fit], batches: Iterable[Inputs], *, training: bool
) -> set[nn.Module]:
    """Let each fit see the calls of its layer, and give the layers that were called."""
    ran: set[nn.Module] = set()
    if not fits:
        return ran

    def called(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        ran.add(layer)
        fits[layer].observe(layer, args[0] if args else next(iter(kwargs.values())), output)

    with (
        preserved(model),
        in_mode(model, training=training),
        torch.no_grad(),
        hooked(layer.register_forward_hook(called, with_kwargs=True) for layer in fits),
        blamed("the model fails on a batch of sample data"),
    ):
        for batch in batches:
            run(model, batch)
    return ran


def _solved(fit: Fit, layer: nn.Module) -> Values | Refused:
    try:
        with torch.no_grad():
            return fit.solve(layer)
    except Refused as reason:
        return reason
