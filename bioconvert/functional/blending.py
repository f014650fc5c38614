"""Going over from one function's output to another's: a tensor, or a tuple of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from bioconvert.functional.eager import is_recorded

Output = TypeVar("Output", torch.Tensor, tuple[Any, ...])


def blend(original: Output, replaced: Output, amount: float) -> Output:
    r"""Give :math:`(1 - \lambda) f + \lambda g` for a number :math:`\lambda`."""
    return _mixed(original, replaced, lambda f, g: (1 - amount) * f + amount * g)


def select(original: Output, replaced: Output, amount: torch.Tensor) -> Output:
    r"""Give :math:`(1 - \lambda) f + \lambda g` for a tensor :math:`\lambda`; f or g alone at its ends."""

    def selected(f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        share = amount.to(f.dtype)
        mixed = (1 - share) * f + share * g
        return torch.where(share <= 0, f, torch.where(share >= 1, g, mixed))

    return _mixed(original, replaced, selected)


def fade(original: torch.Tensor, replaced: torch.Tensor, step: torch.Tensor, steps: int) -> torch.Tensor:
    """Blend two values by the share of ``steps`` that are done; at the ends, either is left out of the sum.

    Args:
        original: what is given at step 0.
        replaced: what is given from ``steps`` on.
        step: the number of steps done, an integer tensor of shape [1].
        steps: the number of steps that it takes.
    """
    if is_symbolic(step):
        return select(original, replaced, (step / steps).clamp(0, 1))
    done = int(step)
    if done <= 0:
        return original
    return replaced if done >= steps else blend(original, replaced, done / steps)


def _mixed(
    original: Output, replaced: Any, mix: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> Output:
    """Mix the floating-point tensors of two outputs; of a packed sequence, the rest describes the form."""
    if isinstance(original, tuple):
        pairs = zip(original, replaced, strict=True)
        mixed: list[Any] = [None if f is None or g is None else _mixed(f, g, mix) for f, g in pairs]
        return type(original)(*mixed) if hasattr(original, "_fields") else tuple(mixed)
    return mix(original, replaced) if original.is_floating_point() else original


def is_symbolic(step: torch.Tensor) -> bool:
    """Say whether a step's value can't be looked at: it is compiled, exported, or has none."""
    return step.is_meta or is_recorded()
