"""Which modules are known to leave what they are given as it is, so that nobody need copy it for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

HOST_CLASS = "_bioconvert_host"
"""The attribute by which a node's class names the class of the block that it was made for."""
_LAYERS = (
    "Linear Bilinear Identity Flatten Unflatten Sequential LayerNorm RMSNorm GroupNorm Dropout AlphaDropout"
)
_ACTIVATIONS = """
    CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid LogSoftmax Mish PReLU ReLU
    ReLU6 SELU SiLU Sigmoid Softmax Softplus Softshrink Softsign Tanh Tanhshrink Threshold
"""
_BY_DIMENSIONS = """
    Conv ConvTranspose BatchNorm InstanceNorm MaxPool AvgPool AdaptiveAvgPool AdaptiveMaxPool Dropout
"""


def _forwards() -> dict[type[nn.Module], Callable[..., Any]]:
    names = [*_LAYERS.split(), *_ACTIVATIONS.split()]
    names += [f"{name}{dimensions}d" for name in _BY_DIMENSIONS.split() for dimensions in (1, 2, 3)]
    return {cls: cls.forward for cls in (getattr(nn, name) for name in names)}


FORWARDS = _forwards()
"""Classes of torch that write to their input only where ``inplace`` says so, and their forward."""


def is_left_untouched(module: nn.Module) -> bool:
    """Say whether what a module is given surely stays as it is, and is read by nobody once it has run.

    Where gradients are recorded, a layer keeps its input for the backward pass: whoever writes to that later
    would meet an error. Nothing is remembered from one call to the next, so that no edit of a module, of its
    children or of its hooks makes an answer stale.
    """
    # What compiles leaves out needless copies by itself, and would only have more to guard.
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling() and _writes_nothing(module)


def _writes_nothing(module: nn.Module) -> bool:
    own = module.__dict__
    if (
        not _is_known(type(module))
        or own.get("inplace")
        or "forward" in own
        or own["_forward_pre_hooks"]
        or own["_forward_hooks"]
    ):
        return False
    for child in own["_modules"].values():  # noqa: SIM110 (a generator costs as much as a small layer)
        if child is not None and not _writes_nothing(child):
            return False
    return True


def _is_known(cls: type[Any]) -> bool:
    """Say whether a class, or the one a node was made for, is known and has the forward that it came with."""
    known = FORWARDS.get(cls)
    if known is not None:
        return cls.forward is known
    host = cls.__dict__.get(HOST_CLASS)
    return host in FORWARDS and getattr(cls.forward, "__wrapped__", None) is FORWARDS[host]
