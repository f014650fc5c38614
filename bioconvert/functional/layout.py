"""The form in which scores enter the Yat product: as they lie in memory, and with grouped channels."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Layout(NamedTuple):
    """Where the channels of a tensor go; several groups of them take two dimensions, one group takes one.

    Args:
        groups: number of groups of channels.
        space: number of dimensions of space.
        last: whether channels come behind space, as in the channels-last memory format.
    """

    groups: int
    space: int
    last: bool

    def arrange(self, x: torch.Tensor) -> torch.Tensor:
        """Bring (batch, channels, space) into this layout."""
        x = x.movedim(1, -1) if self.last else x
        return x if self.groups == 1 else x.unflatten(self._first, (self.groups, -1))  # type: ignore[no-untyped-call]

    def restore(self, x: torch.Tensor) -> torch.Tensor:
        """Undo :meth:`arrange`."""
        x = x if self.groups == 1 else x.flatten(self._first, self._first + 1)
        return x.movedim(-1, 1) if self.last else x

    def spread(self, unit: torch.Tensor) -> torch.Tensor:
        """Bring one number, or one for each channel, into a shape that broadcasts with the rest."""
        channels = (-1,) if self.groups == 1 else (self.groups if unit.numel() > 1 else 1, -1)
        before, behind = (self.space, 0) if self.last else (0, self.space)
        return unit.view(1, *[1] * before, *channels, *[1] * behind)

    @property
    def channels(self) -> int:
        """The dimension of the channels of a group."""
        return self._first + (self.groups > 1)

    @property
    def _first(self) -> int:
        return 1 + self.space if self.last else 1


def layout_of(x: torch.Tensor, groups: int) -> Layout:
    """Give the layout in which a tensor is contiguous, if there is one."""
    last = not x.is_contiguous() and x.movedim(1, -1).is_contiguous()
    return Layout(groups, x.dim() - 2, last)
