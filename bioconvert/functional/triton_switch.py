"""Which kernel a Yat product runs on: torch's operations, or Triton's if that was asked for."""

from __future__ import annotations

import importlib
import importlib.util
import os
from types import ModuleType

import torch

from bioconvert.functional import yat_kernel
from bioconvert.functional.eager import is_recorded

_VARIABLE = "BIOCONVERT_TRITON"


class _Switch:
    on = os.environ.get(_VARIABLE) == "1"


def use_triton(on: bool = True) -> None:
    """Let Yat products on CUDA tensors run on Triton kernels, or not.

    They do not unless this is called, or ``BIOCONVERT_TRITON=1`` is in the environment: these kernels have
    been run by Triton's interpreter alone, never on a GPU. Their values and gradients are to be compared
    with those without them before they are relied on. Graphs that are compiled don't use them.

    Args:
        on: whether to use them.

    Raises:
        ModuleNotFoundError: Triton is to be used but not installed.
    """
    if on and importlib.util.find_spec("triton") is None:
        raise ModuleNotFoundError("use_triton needs the package triton, which isn't installed", name="triton")
    _Switch.on = on


def kernel_for(score: torch.Tensor) -> ModuleType:
    """Give the module with the ``forward`` and ``backward`` that scores like these go through."""
    if not _Switch.on or is_recorded() or not (score.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        return yat_kernel
    return importlib.import_module("bioconvert.functional.triton_yat")
