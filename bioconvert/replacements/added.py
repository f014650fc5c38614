"""Recipes of tensors that a replacement adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bioconvert.core.change import Old, TensorRecipe

if TYPE_CHECKING:
    from torch import Tensor

    from bioconvert.core.random import Stream
    from bioconvert.layers.composer import ComposerTensor


def filled(
    shape: tuple[int, ...],
    value: float,
    *,
    like: str = "weight",
    kind: Literal["parameter", "buffer"] = "parameter",
) -> TensorRecipe:
    """Say how a parameter or a buffer arises that is one number all over.

    Args:
        shape: its shape.
        value: the number.
        like: name of the module's tensor whose device, type and ``requires_grad`` it takes.
        kind: ``"parameter"`` or ``"buffer"``.
    """

    def make(old: Old, stream: Stream) -> Tensor:  # noqa: ARG001 - one signature for all recipes
        return old[like].new_full(shape, value)

    return TensorRecipe(make, reads=(like,), like=like, kind=kind)


def drawn(name: str, tensor: ComposerTensor, *, like: str | None = "weight") -> TensorRecipe:
    """Say how a parameter arises that a description tells how to draw.

    Args:
        name: the purpose that its random numbers are for.
        tensor: the description.
        like: name of the module's tensor whose device, type and ``requires_grad`` it takes.
    """

    def make(old: Old, stream: Stream) -> Tensor:  # noqa: ARG001 - one signature for all recipes
        return tensor.draw(stream, name)

    return TensorRecipe(make, reads=(), like=like)
