"""Hooks on a block and its branches that measure what each of them is worth; nothing waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch.utils.hooks import RemovableHandle

from bioconvert.organism.branch import Branch
from bioconvert.organism.merging import first_floating
from bioconvert.organism.node import Node, branches_of
from bioconvert.organism.pruning_bypass import note_shapes
from bioconvert.organism.router import ROUTER, routed
from bioconvert.organism.utilities import Utility, information_gain, is_measured, taylor, utility_in

_Parts = list[tuple[Utility, torch.Tensor]]


class Watch:
    r"""Measures a block and the branches beside it whenever the block runs.

    With :math:`y = f(x) + \sum_k a_k`, the block's information is the divergence from :math:`x` to
    :math:`f(x)`, where they have the same shape, and a branch's that from :math:`y - a_k` to :math:`y`.

    Args:
        host: the block.
    """

    def __init__(self, host: Node):
        self.host = host
        self._parts: dict[int, torch.Tensor] = {}
        self._given: torch.Tensor | None = None
        self._watched: WeakSet[Branch] = WeakSet()
        self._handles: list[RemovableHandle] = [
            host.register_forward_pre_hook(_Seeing(self._before), with_kwargs=True),
            host.register_forward_hook(_Seeing(self._after)),
        ]

    def remove(self) -> None:
        """Measure no more."""
        for handle in self._handles:
            handle.remove()

    def _before(self, host: Any, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        if not is_measured():
            return
        for branch in branches_of(self.host).values():
            if branch not in self._watched:
                self._watched.add(branch)
                self._handles.append(branch.register_forward_hook(_Seeing(self._added)))
        given = first_floating((args, kwargs))
        # The block may work in place.
        self._given = None if given is None else given.detach().clone()
        self._parts.clear()

    def _added(self, branch: Branch, args: Any, output: torch.Tensor) -> None:  # noqa: ARG002
        if is_measured():
            self._parts[id(branch)] = output.detach()

    def _after(self, host: Any, args: Any, output: Any) -> None:  # noqa: ARG002
        y = first_floating(output) if is_measured() else None
        if y is None:
            return
        note_shapes(self.host.node_record, self._given, output)
        whole, parts = y.detach(), self._own_and_added(y.detach().clone())
        for utility, part in parts:
            utility.add("activation", part.float().abs().mean())
        own, given = parts[0][1], self._given
        if given is not None and given.shape == own.shape:
            parts[0][0].add("information", information_gain(given, own))
        for utility, part in parts[1:]:
            utility.add("information", information_gain(whole - part, whole))
        self._given = None
        self._parts.clear()
        if y.requires_grad:
            y.register_hook(_noting(parts))  # type: ignore[no-untyped-call]

    def _own_and_added(self, own: torch.Tensor) -> _Parts:
        """Give what the block itself gave, and then what each branch did."""
        added: _Parts = []
        parts = self._weighed()
        for branch in branches_of(self.host).values():
            part = parts.get(id(branch))
            if part is not None:
                own -= part
                added.append((utility_in(branch.block.node_record), part))  # type: ignore[arg-type]
        return [(utility_in(self.host.node_record), own), *added]

    @torch.no_grad()
    def _weighed(self) -> dict[int, torch.Tensor]:
        """Give what each branch added, by its ``id``; a router weighs it, in the order of the branches."""
        held = branches_of(self.host).values()
        parts = {id(each): self._parts[id(each)] for each in held if id(each) in self._parts}
        record = self.host.node_record
        if ROUTER not in record or not parts:
            return parts
        quiet = {**record[ROUTER], "load_balance": 0}
        branches = [each for each in held if id(each) in parts]
        return dict(zip(parts, routed(quiet, branches, list(parts.values()), [self._given]), strict=True))


class _Seeing:
    """A hook that a copy of its module, as a branch of it is, doesn't take along."""

    def __init__(self, see: Callable[..., None] | None):
        self._see = see

    def __call__(self, *given: Any) -> None:
        if self._see is not None:
            self._see(*given)

    def __deepcopy__(self, memo: Any) -> _Seeing:
        return _Seeing(None)

    def __reduce__(self) -> Any:
        return _Seeing, (None,)


def _noting(parts: _Parts) -> Callable[[torch.Tensor], None]:
    return partial(_note, parts)


def _note(parts: _Parts, gradient: torch.Tensor) -> None:
    for utility, part in parts:
        utility.add("taylor", taylor(part, gradient.detach()))
