"""Proof of use: that a replaced layer runs, and that its own parameters get a gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from bioconvert.surgery.finalize import halfway
from bioconvert.surgery.samples import Inputs, hooked, in_mode, preserved, run, tensors_in

NEVER_RAN = "it never ran on the sample inputs: the model uses its weight some other way, or not at all"
NO_GRADIENT = "its parameters got no gradient on the sample inputs: the model's output doesn't depend on them"


def unproven(model: nn.Module, inputs: Inputs, layers: Sequence[nn.Module]) -> dict[nn.Module, str]:
    """Give the layers that were not used, each with the reason.

    The model runs in evaluation and, for layers that don't show there (auxiliary heads), in training too.
    """
    reasons = _unused(model, inputs, layers, training=False)
    if reasons:
        again = _unused(model, inputs, tuple(reasons), training=True)
        reasons = {layer: reason for layer, reason in reasons.items() if layer in again}
    return reasons


def _unused(
    model: nn.Module, inputs: Inputs, layers: Sequence[nn.Module], *, training: bool
) -> dict[nn.Module, str]:
    ran: set[nn.Module] = set()

    def called(layer: nn.Module, *_: Any) -> None:
        ran.add(layer)

    states = (
        preserved(model),
        in_mode(model, training=training),
        _all_require_grad(layers),
        halfway(model),
    )
    with ExitStack() as stack:
        for state in states:
            stack.enter_context(state)
        with hooked(layer.register_forward_hook(called) for layer in layers), torch.enable_grad():
            outputs = run(model, inputs)
        reached = _reached(model, outputs, layers)
    reasons = {layer: NO_GRADIENT for layer in layers if layer not in reached}
    return reasons | {layer: NEVER_RAN for layer in layers if layer not in ran}


def _reached(model: nn.Module, outputs: Any, layers: Sequence[nn.Module]) -> set[nn.Module]:
    """Give the layers of which an own parameter got a gradient.

    Not each needs one: who hands a weight to a function may leave the bias out.
    """
    parts = [t for t in tensors_in(outputs) if t.requires_grad]
    if not parts:
        # Nothing that the model returns has a gradient (it generates or classifies): running must do.
        return set(layers)
    own = [(layer, p) for layer in layers for p in layer.parameters(recurse=False) if _differentiable(p)]
    if not own:
        return set(layers)
    # The squares make the gradient depend on each output, where a plain sum of probabilities is constant.
    loss = torch.stack([_real(part).square().sum() for part in parts]).sum()
    given = _gradients(model, loss, [p for _, p in own])
    reached = {layer for (layer, _), is_given in zip(own, given, strict=True) if is_given}
    return reached | (set(layers) - {layer for layer, _ in own})


def _gradients(model: nn.Module, loss: torch.Tensor, parameters: Sequence[nn.Parameter]) -> list[bool]:
    """Say which parameters get a gradient, also through a backward within the backward.

    A reversible block, or a reentrant checkpoint, accumulates into ``grad`` by itself, and is left out of a
    backward that asks for given parameters alone.
    """
    for parameter in model.parameters():
        parameter.grad = None
    found: Sequence[torch.Tensor | None] = (None,) * len(parameters)
    with contextlib.suppress(Exception):  # the full backward that follows says whether there is any
        found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    if any(gradient is None for gradient in found) and not _acts_on_gradients(model):
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001 - the user's code: whatever it raises means the same
            return [True] * len(parameters)  # no gradient can be had of this model: running must do
    given = zip(parameters, found, strict=True)
    return [gradient is not None or parameter.grad is not None for parameter, gradient in given]


def _acts_on_gradients(model: nn.Module) -> bool:
    """Say whether a full backward does more than to compute: an optimizer may step in a hook of it."""
    return any(getattr(parameter, "_post_accumulate_grad_hooks", None) for parameter in model.parameters())


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).float()


def _differentiable(parameter: nn.Parameter) -> bool:
    return parameter.is_floating_point() or parameter.is_complex()


@contextmanager
def _all_require_grad(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Let frozen layers show their use too."""
    own = [p for layer in layers for p in layer.parameters(recurse=False)]
    frozen = [p for p in own if not p.requires_grad and _differentiable(p)]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
