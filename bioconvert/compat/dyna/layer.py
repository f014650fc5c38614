"""One layer of dyna as ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bioconvert import layers
from bioconvert.compat.dyna.kinds import OUR_CLASSES
from bioconvert.core.errors import ArchitectureError
from bioconvert.core.suggest import hint


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of dyna and what it becomes.

    Args:
        path: its name in the model; empty for the model itself.
        becomes: our class.
        arguments: our constructor's arguments, as JSON can hold them.
        assumed: those of them that neither tensors nor the caller told.
        unused: names of its tensors that compute nothing with these arguments, and are left out.
    """

    path: str
    becomes: str
    arguments: Mapping[str, Any]
    assumed: tuple[str, ...] = ()
    unused: tuple[str, ...] = field(default=())

    def build(self) -> nn.Module:
        """Build our layer, with fresh values."""
        return build_layer(self.becomes, self.arguments)


def build_layer(
    becomes: str, arguments: Mapping[str, Any], device: torch.device | str | None = None
) -> nn.Module:
    """Build one of our layers from its class name and arguments that JSON can hold.

    Raises:
        ArchitectureError: nothing of dyna becomes that class.
    """
    if becomes not in OUR_CLASSES:
        raise ArchitectureError(f"there is no layer {becomes!r}. {hint(becomes, OUR_CLASSES)}")
    module: nn.Module = getattr(layers, becomes)(**arguments, device=device)
    return module
