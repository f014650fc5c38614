"""Going over from one function's output to another's: a tensor, or a tuple of tensors and ``None``."""

from __future__ import annotations

from typing import TypeVar

import torch

from bioconvert.functional.eager import is_recorded

Output = TypeVar("Output", torch.Tensor, tuple[torch.Tensor | None, ...])


def blend(original: Output, replaced: Output, amount: float) -> Output:
    r"""Give :math:`(1 - \lambda) f + \lambda g` for a number :math:`\lambda`."""
    if isinstance(original, tuple):
        pairs = zip(original, replaced, strict=True)
        return tuple(None if f is None or g is None else blend(f, g, amount) for f, g in pairs)
    return (1 - amount) * original + amount * replaced


def select(original: Output, replaced: Output, amount: torch.Tensor) -> Output:
    r"""Give :math:`(1 - \lambda) f + \lambda g` for a tensor :math:`\lambda`; f or g alone at its ends."""
    if isinstance(original, tuple):
        pairs = zip(original, replaced, strict=True)
        return tuple(None if f is None or g is None else select(f, g, amount) for f, g in pairs)
    amount = amount.to(original.dtype)
    mixed = (1 - amount) * original + amount * replaced
    return torch.where(amount <= 0, original, torch.where(amount >= 1, replaced, mixed))


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


def is_symbolic(step: torch.Tensor) -> bool:
    """Say whether a step's value can't be looked at: it is compiled, exported, or has none."""
    return step.is_meta or is_recorded()
