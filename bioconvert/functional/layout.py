"""The form in which scores enter the Yat product: with grouped channels, as they lie in memory."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Layout(NamedTuple):
    """Where the channels of a tensor go.

    Args:
        groups: number of groups of channels.
        space: number of dimensions of space.
        last: whether channels come behind space, as in the channels-last memory format.
    """

    groups: int
    space: int
    last: bool

    def arrange(self, x: torch.Tensor) -> torch.Tensor:
        """Bring (batch, channels, space) into (batch, groups, channels, space), or space before groups."""
        if self.groups == 1:
            return x.movedim(1, -1).unsqueeze(-2) if self.last else x.unsqueeze(1)
        units = (self.groups, -1)
        return x.movedim(1, -1).unflatten(-1, units) if self.last else x.unflatten(1, units)

    def restore(self, x: torch.Tensor) -> torch.Tensor:
        """Undo :meth:`arrange`."""
        return x.flatten(-2).movedim(-1, 1) if self.last else x.flatten(1, 2)

    def spread(self, unit: torch.Tensor) -> torch.Tensor:
        """Bring a tensor of one number, or one for each channel, into a shape that broadcasts with the rest."""
        units = (self.groups, -1) if unit.numel() > 1 else (1, 1)
        space = (1,) * self.space
        return unit.view(1, *space, *units) if self.last else unit.view(1, *units, *space)

    def inward(self, x: torch.Tensor) -> torch.Tensor:
        """Move groups and channels from behind the batch to where they are in this layout."""
        return x.movedim((1, 2), (-2, -1)) if self.last else x

    def outward(self, x: torch.Tensor) -> torch.Tensor:
        """Undo :meth:`inward`."""
        return x.movedim((-2, -1), (1, 2)) if self.last else x

    @property
    def channels(self) -> int:
        """The dimension of the channels of a group."""
        return -1 if self.last else 2


def layout_of(x: torch.Tensor, groups: int) -> Layout:
    """Give the layout in which a tensor is contiguous, if there is one."""
    last = not x.is_contiguous() and x.movedim(1, -1).is_contiguous()
    return Layout(groups, x.dim() - 2, last)
