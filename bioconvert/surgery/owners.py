"""Layers whose weight is read around their forward: how their containers come to call them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bioconvert.core.change import Change
from bioconvert.core.errors import Refused
from bioconvert.core.registry import owner_for
from bioconvert.graph.classes import original_class
from bioconvert.graph.reads import Called
from bioconvert.graph.redirect import Borrow, Path
from bioconvert.layers import owners as _registered  # noqa: F401 - they register themselves
from bioconvert.surgery.look import Look, ReadAround, refusal


@dataclass(frozen=True, slots=True, eq=False)
class Owning:
    """What becomes of a container, so that it calls a layer whose weight it reads.

    Args:
        container: the container.
        into: the class by which it does so; ``None`` where the layer answers for its weight.
        path: names of the children that lead from the container to the layer.
        called: whether the container may call the layer, too.
        borrow: the parameter of the container that the layer works with, if it has none of its own.
    """

    container: nn.Module
    into: type[nn.Module] | None
    path: Path
    called: bool = False
    borrow: Borrow | None = None

    @property
    def change(self) -> Change:
        """What becomes of the container, where that is a class."""
        return Change(into=self.into, summary="calls its layers")


def owning(module: nn.Module, look: Look) -> tuple[Owning, ...]:
    """Say what must become of the containers that read a layer's weight.

    Raises:
        Refused: the layer would not be used.
    """
    found = (_owning(module, read, look) for read in look.read_around.get(module, ()))
    return tuple(own for own in found if own is not None)


def _owning(module: nn.Module, read: ReadAround, look: Look) -> Owning | None:
    name = type(read.container).__name__
    into = owner_for(original_class(read.container))
    if into is not None and isinstance(read.container, into):
        return None
    if into is None:
        if read.called is Called.ALWAYS:
            return None
        _refuse_silence(module, read, look)
    if (reason := refusal(read.container, look)) is not None:
        raise Refused(f"{name} reads its weight, and can't be made to call it: {reason}")
    called = read.called is not Called.NEVER
    return Owning(read.container, into, _path(module, read.container, look), called)


def _refuse_silence(module: nn.Module, read: ReadAround, look: Look) -> None:
    """Refuse a layer that couldn't answer for its weight, or of which that isn't certain."""
    name = type(read.container).__name__
    if not isinstance(module, _CAN_ANSWER):
        raise Refused(f"{name} reads its weight, and a {type(module).__name__} can't answer for that")
    if not read.passed_on and look.example_inputs is None:
        raise Refused(
            f"{name} reads its weight, and it isn't certain that the layer could answer for it: give "
            "example_inputs, so that use can be proven"
        )
    others = [each for each in read.container.modules() if each is not module]
    if any(each._parameters.get("weight") is module._parameters.get("weight") for each in others):
        raise Refused(f"{name} reads its weight, which another layer of it has too")


_CAN_ANSWER = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers of which a function's arguments tell all that their forward needs."""


def _path(module: nn.Module, container: nn.Module, look: Look) -> Path:
    for place in look.tree.places_of(module):
        if any(above.module is container for above in place.ancestors()):
            return place.path_from(container)
    raise Refused(f"{type(container).__name__} reads its weight and doesn't hold it")
