"""How a layer deep inside a model comes by a context: the model's input, or what another module gave.

Around each call of the model a frame holds what may be asked for, one stack of frames for each thread. The
hooks in this module fill it; :func:`carried` reads it. Nothing is stored on modules, so that copies of a
model, calls within calls and calls in several threads don't meet.

Gradient checkpointing runs a part of the model again during the backward pass, when its frame is closed. A
closed frame lives on as long as the graph of the model's outputs, and is found by the backward pass that it
began.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from bioconvert.core.change import ModuleHook
from bioconvert.core.errors import BioconvertError
from bioconvert.functional.eager import is_recorded, is_transformed
from bioconvert.layers.context_encoder import encoded

MODEL_INPUT = "model_input"
ARGUMENT = "argument"
NODE = "node:"


class ContextError(BioconvertError):
    """A layer has no context where it needs one."""


@dataclass(eq=False)
class Frame:
    """What one call of a model has to offer.

    Args:
        model: the model, while the call goes on.
        offered: the sources of which there will be something.
        sources: what there is so far, by source.
        encoders: weight and bias of the model's own encoder of a source, by source and width.
        readers: the layers that asked, by ``id``, and whether gradients were recorded then.
        backward: the backward pass that began at the outputs, by torch's number.
    """

    model: nn.Module | None
    offered: set[str] = field(default_factory=set)
    sources: dict[str, torch.Tensor | None] = field(default_factory=dict)
    encoders: dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    readers: dict[int, bool] = field(default_factory=dict)
    backward: int = -1

    def begin_backward(self, gradient: torch.Tensor) -> None:
        """Take note of the backward pass that reaches the outputs."""
        del gradient
        self.backward = torch._C._current_graph_task_id()


class _Open(threading.local):
    def __init__(self) -> None:
        self.frames: list[Frame] = []


_open = _Open()
_closed: weakref.WeakSet[Frame] = weakref.WeakSet()


class OpenFrame(ModuleHook):
    """Before a model's forward: a frame for this call."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Open it."""
        del args, kwargs
        _open.frames.append(Frame(module))


class CarryInput(ModuleHook):
    """Before a model's forward: its first floating-point input becomes a source."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Put it into the frame."""
        del module
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        floating = [tensor for tensor in tensors if tensor.is_floating_point()]
        _open.frames[-1].offered.add(MODEL_INPUT)
        if floating:
            _open.frames[-1].sources[MODEL_INPUT] = floating[0]


class CarryArgument(ModuleHook):
    """Before a model's forward: a keyword argument that it doesn't know becomes a source.

    Args:
        name: the keyword.
    """

    def __init__(self, name: str):
        self.name = name

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Put it into the frame, and take it from the arguments."""
        del module
        _open.frames[-1].offered.add(ARGUMENT)
        _open.frames[-1].sources[ARGUMENT] = kwargs.get(self.name)
        return args, {name: value for name, value in kwargs.items() if name != self.name}


class CarryEncoder(ModuleHook):
    """Before a model's forward: its own encoder of a source.

    Args:
        source: the source.
        length: how many numbers the encoder gives.
        weight: name of the model's parameter [length, features].
        bias: name of the model's parameter [length].
    """

    def __init__(self, source: str, length: int, weight: str, bias: str):
        self.source, self.length, self.weight, self.bias = source, length, weight, bias

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Put it into the frame."""
        del args, kwargs
        pair = getattr(module, self.weight), getattr(module, self.bias)
        _open.frames[-1].encoders[self.source, self.length] = pair


class OfferOutput(ModuleHook):
    """Before a model's forward: the output of one of its modules will become a source.

    Args:
        source: the source, ``"node:"`` and the module's name.
    """

    def __init__(self, source: str):
        self.source = source

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Say so."""
        del module, args, kwargs
        _open.frames[-1].offered.add(self.source)


class CarryOutput(ModuleHook):
    """After a module's forward: its output, or the first tensor of it, becomes a source.

    Args:
        source: the source, ``"node:"`` and the module's name.
    """

    def __init__(self, source: str):
        self.source = source

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, *output: Any) -> None:
        """Put it into the frame, if the model is running and not the module alone."""
        del module, args, kwargs
        frame = _offering(self.source)
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
        if frame is not None and tensors:
            frame.sources[self.source] = tensors[0]


class CloseFrame(ModuleHook):
    """After a model's forward, also one that failed: the frame goes, or waits for the backward pass."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, *output: Any) -> None:
        """Close it."""
        del args, kwargs
        if not _open.frames or _open.frames[-1].model is not module:
            return  # another hook failed before the frame was opened
        frame = _open.frames.pop()
        frame.model = None
        if is_recorded() or is_transformed():
            return
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor) and tensor.grad_fn is not None:
                tensor.register_hook(frame.begin_backward)  # type: ignore[no-untyped-call]
                _closed.add(frame)


def carried(source: str, layer: nn.Module, *, length: int | None = None) -> torch.Tensor | None:
    """Give the context of a layer, in the call of the model that is running.

    Args:
        source: ``"model_input"``, ``"argument"`` or ``"node:<name>"``.
        layer: the layer that asks.
        length: the width of the model's own encoder, if it has one, through which the source goes; ``None``
            for the source as it is.

    Returns:
        The context, [N, …]; ``None`` if it is an argument that the model wasn't given.

    Raises:
        ContextError: there is none; the text says why.
    """
    frame = _frame_for(source, layer)
    if source not in frame.sources:
        raise ContextError(_ABSENT[_kind(source)].format(source.removeprefix(NODE)))
    found = frame.sources[source]
    if found is None or length is None or (source, length) not in frame.encoders:
        return found
    # For each layer anew: what a checkpoint repeats must do what was done the first time.
    return encoded(found, *frame.encoders[source, length])


_ABSENT = {
    MODEL_INPUT: "the model was given no floating-point tensor that could be a context: take "
    "`context: node:NAME`, the output of an embedding for example",
    NODE: "the output of {!r} is asked for before that module has run: choose one that runs earlier",
}
_OUTSIDE = (
    "a layer with `context: {0}` was called outside of its model, which alone knows its context: call the "
    "model, or give the layer a context, `layer(x, context)`"
)
_AMBIGUOUS = (
    "gradient checkpointing runs a layer with `context: {0}` again, and several calls of the model are in "
    "this backward pass: call backward for each, or take `context: self`"
)
_REENTRANT = (
    "`context: {0}` can't be differentiated within a reentrant checkpoint: call "
    "torch.utils.checkpoint.checkpoint with use_reentrant=False"
)


def _kind(source: str) -> str:
    return NODE if source.startswith(NODE) else source


def _offering(source: str) -> Frame | None:
    return next((frame for frame in reversed(_open.frames) if source in frame.offered), None)


def _frame_for(source: str, layer: nn.Module) -> Frame:
    frame = _offering(source)
    if frame is None:
        return _recomputed(source, layer)
    if not is_recorded():
        frame.readers[id(layer)] = torch.is_grad_enabled()
    return frame


def _recomputed(source: str, layer: nn.Module) -> Frame:
    """Give the frame of the call that a checkpoint repeats."""
    task = torch._C._current_graph_task_id()
    found = [f for f in list(_closed) if id(layer) in f.readers] if task >= 0 else []
    if not found:
        raise ContextError(_OUTSIDE.format(source))
    if len(found) > 1:
        found = [f for f in found if f.backward == task]
    if len(found) != 1:
        raise ContextError(_AMBIGUOUS.format(source))
    (frame,) = found
    context = frame.sources.get(source)
    if not frame.readers[id(layer)] and context is not None and context.requires_grad:
        raise ContextError(_REENTRANT.format(source))
    return frame
