"""Leaving calls out of a forward while it runs, where no graph of it can be had.

A rewritten forward is made anew for flags and arguments that it wasn't traced with. Where that fails, the
container's own forward runs instead, and what an edit leaves out is left out as it comes: each function or
module that is called on a followed value is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from bioconvert.core.classes import qualified_name
from bioconvert.functional.blending import fade
from bioconvert.graph.activations import ACTIVATIONS, FUNCTIONS, METHODS
from bioconvert.graph.classes import original_class
from bioconvert.graph.edits import FADE_STEP, Drop, Edit, Fade
from bioconvert.graph.redirect import descendant
from bioconvert.graph.walk import Links

_LOOKS = frozenset({"__get__", "size", "dim", "numel", "stride", "is_contiguous", "is_floating_point"})
"""Names of functions that ask about a tensor and don't use its numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class _Followed:
    """A value on its way, what may come next, and what is done then."""

    value: torch.Tensor
    links: Links
    edit: Drop | Fade


class Skipping(TorchFunctionMode):
    """Carries out the edits of a container's graph on the calls that its forward makes.

    Args:
        container: the container.
    """

    def __init__(self, container: nn.Module):
        super().__init__()
        self._container = container
        self._followed: list[_Followed] = []
        self._entered: list[tuple[nn.Module, _Followed, str, Links]] = []

    def follow(self, value: object, links: Links, edit: Drop | Fade) -> None:
        """Take note of a value whose next uses an edit is about."""
        if isinstance(value, torch.Tensor) and links:
            self._followed.append(_Followed(value, links, edit))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Make a call, or leave it out."""
        del types
        kwargs = kwargs or {}
        given = args[0] if args else kwargs.get("input")
        followed = next((each for each in self._followed if each.value is given), None)
        if followed is None or getattr(func, "__name__", "") in _LOOKS:
            return func(*args, **kwargs)
        self._followed.remove(followed)
        found = _next(followed.links, lambda name: _does(func, name))
        if found is None:
            return func(*args, **kwargs)
        name, rest = found
        # The call may work in place, and what it is given may be what is given back.
        kept = followed.value.clone() if _needs_copy(followed.edit, name) else followed.value
        if self._is_left_out(followed.edit, name):
            return self._on(followed.value, rest, followed.edit)
        return self._on(self._faded(followed.edit, name, func(*args, **kwargs), kept), rest, followed.edit)

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Take note that a module that a pattern may name is about to be called; a forward pre-hook."""
        followed = next((each for each in self._followed if args and each.value is args[0]), None)
        if followed is None:
            return None
        cls = original_class(module)
        found = _next(followed.links, lambda name: name in (cls.__name__, qualified_name(cls)))
        if found is None:
            return None
        self._followed.remove(followed)
        self._entered.append((module, followed, *found))
        return (followed.value.clone(), *args[1:])

    def leave(self, module: nn.Module, args: Any, output: Any) -> Any:  # noqa: ARG002 - a hook's signature
        """Say what a module that a pattern names gives; a forward hook."""
        if not self._entered or self._entered[-1][0] is not module:
            return None
        _, followed, name, rest = self._entered.pop()
        if self._is_left_out(followed.edit, name):
            return self._on(followed.value, rest, followed.edit)
        return self._on(self._faded(followed.edit, name, output, followed.value), rest, followed.edit)

    def _on(self, value: Any, links: Links, edit: Drop | Fade) -> Any:
        self.follow(value, links, edit)
        return value

    def _is_left_out(self, edit: Drop | Fade, name: str) -> bool:
        return isinstance(edit, Drop) and _part(name) in edit.parts

    def _faded(self, edit: Drop | Fade, name: str, output: Any, given: torch.Tensor) -> Any:
        if not isinstance(edit, Fade) or _part(name) != "activation":
            return output
        step = self._container._buffers[FADE_STEP]
        assert step is not None
        return fade(output, given, step, edit.steps)


def _part(name: str) -> str:
    return "activation" if name in ACTIVATIONS else "norm"


def _needs_copy(edit: Drop | Fade, name: str) -> bool:
    return isinstance(edit, Fade) and _part(name) == "activation"


def _next(links: Links, does: Callable[[str], bool]) -> tuple[str, Links] | None:
    """Give the name under which a pattern asks for a call, and what it asks for after that."""
    for position, link in enumerate(links):
        name = next((name for name in link.alternatives if does(name)), None)
        if name is not None:
            return name, links[position + 1 :]
        if not link.optional:
            break
    return None


def _does(func: Callable[..., Any], name: str) -> bool:
    """Say whether a function does what the module class of a name does."""
    if func in FUNCTIONS.get(name, ()):
        return True
    names = METHODS.get(name, ())
    return any(func is getattr(torch.Tensor, method) for method in names)


@contextmanager
def skipping(container: nn.Module, edits: Sequence[Edit], arguments: Mapping[str, Any]) -> Iterator[None]:
    """Let a container's own forward run with its edits carried out.

    Args:
        container: the container.
        edits: what is changed.
        arguments: what the forward is called with, by name.
    """
    mode = Skipping(container)
    with ExitStack() as stack:
        for edit in edits:
            assert isinstance(edit, (Drop, Fade))
            if edit.entry.argument:
                mode.follow(arguments.get(edit.entry.argument), edit.links, edit)
            else:
                layer = descendant(container, edit.entry.child)
                stack.callback(layer.register_forward_hook(_noting(mode, edit)).remove)
        for module in _named(container, edits):
            stack.callback(module.register_forward_pre_hook(mode.enter).remove)
            stack.callback(module.register_forward_hook(mode.leave).remove)
        stack.enter_context(mode)
        yield


def _named(container: nn.Module, edits: Sequence[Edit]) -> list[nn.Module]:
    """Give the modules below a container of classes that its edits name."""
    links = [link for edit in edits if isinstance(edit, (Drop, Fade)) for link in edit.links]
    names = {name for link in links for name in link.alternatives}
    classes = ((module, original_class(module)) for module in container.modules())
    return [module for module, cls in classes if names & {cls.__name__, qualified_name(cls)}]


def _noting(mode: Skipping, edit: Drop | Fade) -> Callable[..., None]:
    def called(_: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001 - a hook's signature
        value = output if edit.entry.element is None else output[edit.entry.element]
        mode.follow(value, edit.links, edit)

    return called
