"""What makes weights out of a context: one interface for every way of doing it, and the ways by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import nn

from bioconvert.core.random import Stream
from bioconvert.core.suggest import hint

Draw = Callable[[Stream, str], torch.Tensor]
"""Draws a tensor's first value, fp32 on the CPU, from a stream and the purpose to draw it for."""


@dataclass(frozen=True, slots=True)
class ComposerTensor:
    """One learnable tensor that a composer reads.

    Args:
        shape: its shape.
        draw: gives its first value.
    """

    shape: tuple[int, ...]
    draw: Draw

    def parameter(
        self,
        stream: Stream,
        name: str,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> nn.Parameter:
        """Give the parameter, with its first value; without values on the meta device."""
        made = torch.empty(self.shape, device=device, dtype=dtype)
        if not made.is_meta:
            made.copy_(self.draw(stream, name))
        return nn.Parameter(made)


class Composer(Protocol):
    """A pure function from a context, and tensors held elsewhere, to one matrix of weights per sample.

    A composer is a frozen dataclass whose fields are its options. Modules hold its tensors under names of
    their own, and converted layers as ``composer_<name>``.
    """

    def tensors(self, rows: int, cols: int, context_length: int) -> dict[str, ComposerTensor]:
        """Describe the tensors that matrices of ``rows`` by ``cols`` need.

        Raises:
            ValueError: a size, or an option, is out of its bounds.
        """
        ...

    def compose(
        self,
        context: torch.Tensor,
        tensors: Mapping[str, torch.Tensor],
        rows: int,
        cols: int,
        *,
        training: bool = False,
    ) -> torch.Tensor:
        """Give the matrices, [B, rows, cols] for a context [B, L], in the type of the context.

        Args:
            context: one vector per sample.
            tensors: those of :meth:`tensors`, by name.
            rows: number of rows of a matrix.
            cols: number of columns.
            training: whether to add what belongs to training alone, such as noise.
        """
        ...


_COMPOSERS = {
    "mixture": ("bioconvert.layers.composer_mixture", "MixtureComposer"),
    "delta": ("bioconvert.layers.tensor_composer_delta", "DeltaComposer"),
    "mobius": ("bioconvert.layers.tensor_composer_mobius", "MobiusComposer"),
}
"""Name → the module, imported when first used, and the class of the composer."""


def composer_named(name: str, options: Mapping[str, Any] | None = None) -> Composer:
    """Give the composer of a name.

    Args:
        name: ``"mixture"``, ``"delta"`` or ``"mobius"``.
        options: the composer's own options; what isn't given keeps its default.

    Raises:
        ValueError: there is no such composer, or it has no such option.
    """
    if name not in _COMPOSERS:
        raise ValueError(f"there is no composer named {name!r}. {hint(name, _COMPOSERS)}")
    module, class_name = _COMPOSERS[name]
    kind = getattr(import_module(module), class_name)
    for option in options or {}:
        if option not in kind.__dataclass_fields__:
            known = hint(option, kind.__dataclass_fields__)
            raise ValueError(f"composer {name!r} has no option {option!r}. {known}")
    composer: Composer = kind(**(options or {}))
    return composer
