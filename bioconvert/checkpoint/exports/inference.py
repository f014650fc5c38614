"""A model as it is used, no longer trained: in eval mode, without the state of mechanisms; its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from bioconvert.checkpoint.tensors.module_state import modes_of, restore_modes
from bioconvert.core.errors import OptionError, first_line
from bioconvert.surgery.step import Step, steps_of

Arguments = tuple[torch.Tensor, ...] | dict[str, torch.Tensor]
TOLERANCE = 1e-3
"""By how much of the largest output a file's outputs may differ from the model's."""
_HALF_TOLERANCE = 3e-2
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Call:
    """How a model is called.

    Args:
        args: positional arguments.
        kwargs: keyword arguments.
    """

    args: tuple[torch.Tensor, ...]
    kwargs: dict[str, torch.Tensor]

    @classmethod
    def of(cls, arguments: Arguments) -> Call:
        """Take a tuple as positional arguments, a dict as keyword arguments."""
        return cls((), dict(arguments)) if isinstance(arguments, dict) else cls(tuple(arguments), {})

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Every argument, in order."""
        return [*self.args, *self.kwargs.values()]

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Call:
        """Change every argument."""
        return Call(tuple(map(change, self.args)), {name: change(t) for name, t in self.kwargs.items()})

    def dynamic(self) -> tuple[Call, Any]:
        """Give the call with a batch of two or more, and the note that its size may be any."""
        if not all(tensor.dim() for tensor in self.tensors):
            raise OptionError("--dynamic needs inputs that all have a batch dimension, the first")
        # torch.export takes a size of 1 for a constant.
        several = self.mapped(lambda t: torch.cat([t, t]) if t.shape[0] == 1 else t)
        batch = {0: torch.export.Dim.DYNAMIC}
        return several, tuple(batch for _ in self.args) or dict.fromkeys(self.kwargs, batch)

    def doubled(self) -> Call:
        """Give the call with a batch of twice the size."""
        return self.mapped(lambda t: torch.cat([t, t]))


@contextmanager
def without_training_state(model: nn.Module) -> Iterator[tuple[str, ...]]:
    """Take off a model, for a while, what mechanisms of plasticity keep beside its weights; give the names.

    What takes part in the forward stays.
    """
    before = {module: dict(module._buffers) for module in model.modules()}
    names = []
    try:
        for path, module in model.named_modules():
            for name in [name for step in steps_of(module) if _is_for_training(step) for name in step.added]:
                if module._buffers.pop(name, None) is not None:
                    names.append(f"{path}.{name}" if path else name)
        yield tuple(names)
    finally:
        for module, buffers in before.items():
            module._buffers.clear()
            module._buffers.update(buffers)


def _is_for_training(step: Step) -> bool:
    return step.action.startswith("attach") and step.into is None and not step.hooks


@contextmanager
def for_inference(model: nn.Module) -> Iterator[None]:
    """Set a model to eval mode, without a cache of keys and values, for a while."""
    modes, config = modes_of(model), getattr(model, "config", None)
    cached = getattr(config, "use_cache", None)
    model.eval()
    if cached is not None:
        config.use_cache = False  # type: ignore[union-attr]
    try:
        with torch.no_grad():
            yield
    finally:
        restore_modes(model, modes)
        if cached is not None:
            config.use_cache = cached  # type: ignore[union-attr]


def outputs_of(run: Callable[..., object], call: Call) -> list[torch.Tensor]:
    """Call, and give every tensor of what comes back, in torch.export's order."""
    found = pytree.tree_leaves(run(*call.args, **call.kwargs))
    return [each for each in found if isinstance(each, torch.Tensor)]


def expected_outputs(model: nn.Module, calls: Iterable[Call]) -> list[list[torch.Tensor]]:
    """Run a model on samples, for comparison.

    Raises:
        OptionError: it fails on them.
    """
    try:
        return [outputs_of(model, call) for call in calls]
    except Exception as error:
        raise OptionError(f"the model fails on the inputs: {first_line(error)}") from error


def difference(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """Give the largest difference between outputs as a fraction of the largest of the first ones."""
    if [tuple(each.shape) for each in ours] != [tuple(each.shape) for each in theirs]:
        return float("inf")
    pairs = [
        (one.detach().double(), other.detach().double()) for one, other in zip(ours, theirs, strict=True)
    ]
    scale = max((float(one.abs().max()) for one, _ in pairs if one.numel()), default=0.0)
    largest = max((float((one - other).abs().max()) for one, other in pairs if one.numel()), default=0.0)
    return largest / scale if scale else largest


def largest_difference(ours: list[list[torch.Tensor]], theirs: list[list[torch.Tensor]], what: str) -> float:
    """Give the largest difference over several calls.

    Args:
        ours: the model's outputs of each call.
        theirs: those of the exported file.
        what: what that is, for the error text.

    Raises:
        OptionError: the outputs differ too much.
    """
    found = max(difference(one, other) for one, other in zip(ours, theirs, strict=True))
    half = any(tensor.dtype in _HALF for each in ours for tensor in each)
    allowed = _HALF_TOLERANCE if half else TOLERANCE
    if not found <= allowed:
        raise OptionError(
            f"{what} doesn't compute what the model computes: its outputs differ by {found:.1e} of the "
            f"largest, and {allowed:.0e} is allowed; nothing was written"
        )
    return found


def export_error(what: str, error: Exception) -> OptionError:
    """Say that a model can't be exported, and why."""
    return OptionError(f"the model can't be exported to {what}: {type(error).__name__}: {first_line(error)}")


def described(state: Mapping[str, Any]) -> int:
    """Count the tensors of a state dict."""
    return sum(isinstance(value, torch.Tensor) for value in state.values())
