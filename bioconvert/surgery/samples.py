"""Running a model on sample inputs so that nothing of it changes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from bioconvert.core.errors import OptionError, first_line
from bioconvert.graph.trace import set_training

Inputs = torch.Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]


def run(model: nn.Module, inputs: Inputs) -> Any:
    """Call a model on a tuple of positional arguments, a dict of keyword arguments, or one tensor."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


@contextmanager
def blamed(failure: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn whatever fails, ``but`` for some errors, into an ``OptionError`` that begins with ``failure``."""
    try:
        yield
    except but:
        raise
    except Exception as error:
        raise OptionError(f"{failure}: {first_line(error)}") from error


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks afterwards."""
    registered = list(handles)
    try:
        yield
    finally:
        for handle in registered:
            handle.remove()


def checked_inputs(inputs: object) -> Inputs | None:
    """Give example inputs as they are.

    Raises:
        OptionError: they are neither a tuple nor a dict nor a tensor.
    """
    if inputs is None or isinstance(inputs, (torch.Tensor, tuple, list, Mapping)):
        return inputs
    raise OptionError(
        "example_inputs must be a tuple of positional or a dict of keyword arguments, "
        f"not {type(inputs).__name__}"
    )


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Give the tensors in a model's output, however it is nested, in a fixed order."""
    found: list[torch.Tensor] = []
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping) or hasattr(leaf, "__dict__"):
            inside = leaf if isinstance(leaf, Mapping) else vars(leaf)
            found += [each for each in inside.values() if isinstance(each, torch.Tensor)]
    return found


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Put everything back that running a model may change: buffers, gradients, train flags, random states."""
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    with _random_states():
        try:
            yield
        finally:
            for module, training in flags:
                set_training(module, training)
            _put_back(buffers)
            for parameter, gradient in gradients:
                parameter.grad = gradient


def _put_back(buffers: Iterable[tuple[nn.Module, str, torch.Tensor, torch.Tensor]]) -> None:
    with torch.no_grad():
        for module, name, buffer, value in buffers:
            module._buffers[name] = buffer
            if not buffer.is_meta:
                buffer.copy_(value)


@contextmanager
def _random_states() -> Iterator[None]:
    python, legacy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Set every train flag; :func:`preserved` puts them back."""
    for module in model.modules():
        set_training(module, training)
    yield


def execution_order(model: nn.Module, inputs: Inputs, *, training: bool = False) -> list[nn.Module]:
    """Run a model, in evaluation or training, and give its modules in the order of their first call.

    Raises:
        OptionError: the model can't run on these inputs.
    """
    order: dict[nn.Module, None] = {}

    def called(module: nn.Module, *_: Any) -> None:
        order.setdefault(module)

    with (
        preserved(model),
        in_mode(model, training=training),
        torch.no_grad(),
        hooked(module.register_forward_pre_hook(called) for module in model.modules()),
        blamed("the model itself fails on the example inputs"),
    ):
        run(model, inputs)
    return list(order)
