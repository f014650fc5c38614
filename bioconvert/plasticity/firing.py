"""How often the units of a layer fire, watched while it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bioconvert.core.families import family_root
from bioconvert.core.lazy import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle
else:
    torch = LazyModule("torch")
    nn = LazyModule("torch.nn")


def unit_axis(module: nn.Module, parameter: str) -> int | None:
    """Give the dimension of a weight along which each index belongs to one unit of the layer's output.

    ``None`` where there is none: in recurrent and attention layers, and in grouped transposed convolutions.
    """
    if parameter != "weight":
        return None
    if family_root(type(module), "conv") is not None:
        if not module.transposed:
            return 0
        return 1 if module.groups == 1 else None
    if isinstance(module, (nn.Linear, nn.Bilinear)):
        return 0
    transposed = family_root(type(module), "linear") or family_root(type(module), "embedding")
    return 1 if transposed else None


def output_axis(module: nn.Module) -> int:
    """Give the dimension of a layer's output that its units lie along, counted from the last."""
    if family_root(type(module), "conv") is None:
        return -1
    return 1 - module.weight.dim()


@dataclass(frozen=True)
class FiringWatch:
    """A forward hook that keeps a running average of how often each unit fires.

    It refers to no module, so that a deep copy of the model watches itself.

    Args:
        buffer: name of the module's buffer that holds the average.
        threshold: a unit fires where its output is greater.
        memory: the share of the average that one call of the layer leaves.
    """

    buffer: str
    threshold: float
    memory: float

    def __call__(self, module: nn.Module, args: Any, output: torch.Tensor) -> None:
        """Take note of one call, while training."""
        del args
        if not (module.training and torch.is_grad_enabled()) or not output.numel():
            return
        average = module._buffers[self.buffer]
        assert average is not None
        fired = (output.detach() > self.threshold).movedim(output_axis(module), -1).flatten(0, -2)
        average.lerp_(fired.mean(0, dtype=average.dtype), 1 - self.memory)

    def on(self, module: nn.Module) -> RemovableHandle:
        """Begin to watch a module; what a copied module still has of such a hook ends."""
        hooks = module._forward_hooks
        for key in [key for key, hook in hooks.items() if hook == self]:
            del hooks[key]
        return module.register_forward_hook(self)


def by_unit(values: torch.Tensor, weight: torch.Tensor, axis: int, place: slice) -> torch.Tensor:
    """Give one value a unit as one value for each of a piece of its weights.

    Args:
        values: one for each unit.
        weight: the whole weight.
        axis: the dimension that the units lie along.
        place: the piece, in the order in which the weights lie in memory.
    """
    run = weight.stride(axis)
    first, last = place.start // run, -(-place.stop // run)
    units = torch.arange(first, last, device=values.device).remainder_(len(values))
    repeated = values[units][:, None].expand(-1, run).reshape(-1)
    return repeated[place.start - first * run :][: place.stop - place.start]
