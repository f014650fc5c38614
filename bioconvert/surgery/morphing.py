r"""Morphing: a layer that goes over from what it was to its replacement while it is trained.

.. math::
    y = (1 - \lambda) \, f(x) + \lambda \, g(x), \qquad \lambda = \min(1, \text{morph\_step} / \text{steps})

with :math:`f` the original layer, and the activation that went with it, and :math:`g` the replacement.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from bioconvert.core.change import Change, Old, TensorRecipe
from bioconvert.core.errors import Refused
from bioconvert.core.random import Stream
from bioconvert.functional.blending import blend, is_symbolic, select
from bioconvert.graph.classes import Recipe, compose, made_class, original_class, standing_for
from bioconvert.layers.acting import joined

STEP = "morph_step"
"""The buffer that counts the steps, of shape [1]."""
STEPS = "morph_steps"
AFTER = "morph_after"
"""What the original's output goes through: the activation that went with the layer, in a tuple."""
PREFIX = "morph_"
"""Before the name of a tensor that the replacement has instead of the original's."""
ADDED = "morph_added"
"""Names of the tensors that the replacement brought with it."""
_SEEN = "_morph_seen"


@dataclass(frozen=True, slots=True)
class Morph:
    """How a layer goes over to its replacement.

    Args:
        steps: number of steps that it takes.
        own: names of tensors that the replacement has instead of the original's while both are at work.
    """

    steps: int
    own: tuple[str, ...] = ()


def on_the_way(
    module: nn.Module, change: Change, steps: int, device: torch.device | None
) -> tuple[Change, Morph]:
    """Turn a change into one that the module goes through gradually.

    What the change would put in place of the original's tensors is added beside them, under another name,
    and so is what fills a place that is empty.

    Args:
        module: the module.
        change: what becomes of it in the end.
        steps: number of steps until then.
        device: where the step is counted.

    Raises:
        Refused: the change makes no other class of the module.
    """
    if change.into is None:
        raise Refused("there is nothing to morph into: it keeps its class")
    filled = (name for name in change.adds if name in module._parameters or name in module._buffers)
    own = (*change.overwrites, *filled)
    adds = {own_name(name, own): recipe for name, recipe in {**change.adds, **change.overwrites}.items()}
    counter = TensorRecipe(partial(_no_steps, device), reads=(), like=None, kind="buffer")
    attributes = {**change.attributes, STEPS: steps, ADDED: list(adds)}
    changed = dataclasses.replace(change, attributes=attributes, adds={**adds, STEP: counter}, overwrites={})
    return changed, Morph(steps, own)


def device_of(module: nn.Module) -> torch.device | None:
    """Give the device of a module's own tensors, if it has any."""
    tensors = (t for table in (module._parameters, module._buffers) for t in table.values() if t is not None)
    return next((tensor.device for tensor in tensors), None)


def own_name(name: str, own: Collection[str]) -> str:
    """Give the name under which a tensor of the replacement is held while it morphs."""
    return f"{PREFIX}{name}" if name in own else name


def _no_steps(device: torch.device | None, old: Old, stream: Stream) -> torch.Tensor:  # noqa: ARG001
    return torch.zeros(1, dtype=torch.int64, device=device)


class Morphing(nn.Module):
    """The behaviour of a layer on its way; a mixin before the replacement's class."""

    _morph_original: type[nn.Module]
    _morph_replacement: type[nn.Module]
    _morph_own: tuple[str, ...]

    def __getstate__(self) -> Any:
        # In a copy the step's version starts anew, so that what was seen may look up to date and not be.
        inherited = getattr(super(), "__getstate__", None)
        state = vars(self) if inherited is None else inherited()
        return {k: v for k, v in state.items() if k != _SEEN} if isinstance(state, dict) else state

    def acts_as_original(self) -> bool:
        """Say whether the layer does, for certain, nothing but what the original layer did alone."""
        own = vars(self)
        return not own[AFTER] and not is_symbolic(_step(self)) and _steps_done(self) <= 0

    def _morphed(self, *args: Any, **kwargs: Any) -> Any:
        if is_symbolic(_step(self)):
            return self._selected(*args, **kwargs)
        done, steps = _steps_done(self), vars(self)[STEPS]
        if done <= 0:
            # The replacement is left out of the sum, where 0 · inf would be NaN.
            begun = self._joined(args, self.idle_parameters())
            return self._continued(self._morph_original.forward(self, *begun, **kwargs))
        if done >= steps:
            return self._replaced(None, *self._joined(args, self._retired()), **kwargs)
        output = self._morph_original.forward(self, *self._own_copy(args), **kwargs)
        replaced = self._replaced(output, *args, **kwargs)
        return blend(self._continued(output, kept=True), replaced, done / steps)

    def _selected(self, *args: Any, **kwargs: Any) -> Any:
        """Give what :meth:`_morphed` gives, in operations that don't look at the step's value."""
        amount = (_step(self) / vars(self)[STEPS]).clamp(0, 1)
        output = self._morph_original.forward(self, *self._own_copy(args), **kwargs)
        # At step 0 the replacement sees zeros, so that what it gives has no infinite gradient.
        masked = tuple(_masked(each, amount) for each in args)
        replaced = self._replaced(_masked(output, amount), *masked, **kwargs)
        return select(self._continued(output, kept=True), replaced, amount)

    def _continued(self, output: Any, *, kept: bool = False) -> Any:
        """Apply what went with the layer.

        Args:
            output: the original layer's output.
            kept: whether it is still needed as it is.
        """
        for follower in vars(self)[AFTER]:
            if kept and _works_in_place(follower):
                output = output.clone()
            output = apply_follower(follower, output)
        return output

    def _replaced(self, output: Any, *args: Any, **kwargs: Any) -> Any:
        side = self._side_of_the_replacement()
        beside: Callable[..., Any] | None = getattr(side, "forward_beside", None)
        if output is not None and beside is not None and "weight" not in self._morph_own:
            shared = beside(output, self._parameters.get("bias"), *args, **kwargs)
            if shared is not NotImplemented:
                return shared
        return self._morph_replacement.forward(side, *args, **kwargs)

    def _side_of_the_replacement(self) -> nn.Module:
        """Give the layer as the replacement sees it: the same tensors, but for those that are its own."""
        if not self._morph_own:
            return self
        side = object.__new__(self._morph_replacement)
        vars(side).update(vars(self))
        own = {name: self._parameters[f"{PREFIX}{name}"] for name in self._morph_own}
        vars(side)["_parameters"] = {**self._parameters, **own}
        return side

    def _own_copy(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Keep the input as it is for the replacement, where the original works in place."""
        return tuple(each.clone() for each in args) if _works_in_place(self) else args

    def idle_parameters(self) -> list[nn.Parameter]:
        """Give the parameters that do nothing yet and are to have a gradient all the same."""
        added = (self._parameters.get(name) for name in vars(self)[ADDED])
        return [parameter for parameter in added if parameter is not None and parameter.requires_grad]

    def _retired(self) -> list[nn.Parameter]:
        """Give the parameters that have nothing to do any more; see :meth:`idle_parameters`."""
        own = [self._parameters.get(name) for name in self._morph_own]
        followers = [each for each in vars(self)[AFTER] if isinstance(each, nn.Module)]
        theirs = [parameter for each in followers for parameter in each.parameters()]
        return [
            parameter for parameter in (*own, *theirs) if parameter is not None and parameter.requires_grad
        ]

    def _joined(self, args: tuple[Any, ...], parameters: list[nn.Parameter]) -> tuple[Any, ...]:
        if not args or not isinstance(args[0], (torch.Tensor, PackedSequence)):
            return args
        first = args[0]
        if isinstance(first, PackedSequence):
            first = first._replace(data=joined(first.data, parameters))
        else:
            first = joined(first, parameters)
        # What is given twice stays one tensor: an attention looks whether it attends to itself.
        return tuple(first if each is args[0] else each for each in args)


def _step(module: nn.Module) -> torch.Tensor:
    step = module._buffers[STEP]
    assert step is not None
    return step


def _steps_done(module: nn.Module) -> int:
    """Read the step, which on an accelerator means to wait: once for each value that it takes."""
    step = _step(module)
    if step.is_inference():
        return int(step)
    seen = vars(module).get(_SEEN)
    if seen is None or seen[0] is not step or seen[1] != step._version:
        seen = (step, step._version, int(step))
        vars(module)[_SEEN] = seen
    done: int = seen[2]
    return done


def _masked(value: Any, amount: torch.Tensor) -> Any:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return torch.where(amount > 0, value, torch.zeros_like(value))


Follower = nn.Module | Callable[[torch.Tensor], torch.Tensor]


def apply_follower(follower: Follower, x: torch.Tensor) -> torch.Tensor:
    """Do what a module did before it was converted, or what a function does."""
    if isinstance(follower, nn.Module):
        found: torch.Tensor = original_class(follower).forward(follower, x)
        return found
    return follower(x)


def _works_in_place(follower: Follower) -> bool:
    return bool(getattr(follower, "inplace", False))


def forget(module: nn.Module) -> None:
    """Remove from a module what is there for morphing alone, but for its tensors."""
    for name in (STEPS, AFTER, ADDED, _SEEN):
        vars(module).pop(name, None)


_classes: dict[tuple[type, type, tuple[str, ...]], type[nn.Module]] = {}


def morphing_class(
    into: type[nn.Module], base: type[nn.Module], own: tuple[str, ...] = ()
) -> type[nn.Module]:
    """Give the class of a ``base`` layer on its way to ``into``.

    Args:
        into: the replacement's class.
        base: the layer's own class.
        own: names of tensors that the replacement has instead of the original's, under ``morph_<name>``.
    """
    if (into, base, own) not in _classes:
        replacement = compose(into, base)

        def forward(self: Morphing, *args: Any, **kwargs: Any) -> Any:
            return self._morphed(*args, **kwargs)

        namespace = {
            "forward": standing_for(forward, base.forward),
            "__module__": replacement.__module__,
            "__doc__": replacement.__doc__,
            "_morph_original": base,
            "_morph_replacement": replacement,
            "_morph_own": own,
        }
        recipe = Recipe(morphing_class, (into, base, own))
        bases = (Morphing, replacement)
        _classes[into, base, own] = made_class(f"Morphing{replacement.__name__}", bases, namespace, recipe)
    return _classes[into, base, own]
