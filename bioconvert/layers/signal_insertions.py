"""Layers whose output passes through one function more on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from bioconvert.functional.compressor import compress_signal
from bioconvert.functional.signals import backward_gradient_normalization
from bioconvert.layers.compressor import leak_of


class ActsOnOutput(nn.Module):
    """Passes the output of a module on through a function: the tensor that it gives, or the first of several.

    Subclasses give the function by ``act``.
    """

    keeps_name = True

    def act(self, output: torch.Tensor) -> torch.Tensor:
        """Give what becomes of an output."""
        raise NotImplementedError

    def acts_as_original(self) -> bool:
        """Say that the module must be called: its weight alone doesn't tell what it does."""
        return False

    @classmethod
    def members_on(cls, base: type[nn.Module]) -> dict[str, Any]:
        """Give the forward for modules of a class."""
        act: Callable[..., torch.Tensor] = cls.act

        def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            output = base.forward(self, *args, **kwargs)
            if type(output) is tuple and output:
                return (act(self, output[0]), *output[1:])
            if isinstance(output, (tuple, list, dict)):
                given = f"a {base.__name__} gives a {type(output).__name__}"
                raise TypeError(f"{cls.__name__} needs a tensor, or a tuple with one in front: {given}")
            return act(self, output)

        forward.__doc__ = base.forward.__doc__
        forward.__wrapped__ = base.forward  # type: ignore[attr-defined]
        return {"forward": forward}


class NormalizesGradient(ActsOnOutput):
    """Normalises the gradient of its output, sample by sample: see :class:`BackwardGradientNorm`."""

    gradient_norm_eps: float

    def act(self, output: torch.Tensor) -> torch.Tensor:
        """Give the output as it is."""
        return with_normalized_gradient(output, self.gradient_norm_eps)


class CompressesOutput(ActsOnOutput):
    """Compresses its output: see :class:`SignalStabilizationCompressor`."""

    compressor: dict[str, Any]

    def act(self, output: torch.Tensor) -> torch.Tensor:
        """Give the output compressed."""
        scale = getattr(self, "compressor_leak_scale", None)
        options = dict(self.compressor)
        return compress_signal(output, leak_of(options.pop("leak"), scale), **options)


def with_normalized_gradient(output: torch.Tensor, eps: float) -> torch.Tensor:
    """Give an output, or where gradients are wanted a copy: what follows may change it in place."""
    if not torch.is_grad_enabled() or not output.is_floating_point():
        return output
    return backward_gradient_normalization(output, eps).clone()


# Leaves in a symbolic trace: what is inside looks at modes and types, which a trace doesn't know.
fx.wrap("with_normalized_gradient")
fx.wrap("compress_signal")
