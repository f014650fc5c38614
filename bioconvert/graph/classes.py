"""Classes made while converting: composed from a layer's class and a user's, or with a rewritten forward.

No import finds such a class, so its instances tell pickle and ``deepcopy`` how to make it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

_MADE = "_bioconvert_made"
STEPS = "_bioconvert_steps"
"""Where a converted module keeps what was done to it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a class: a function that can be imported, and what to call it with."""

    make: Callable[..., type]
    arguments: tuple[Any, ...]

    def cook(self) -> type:
        """Make the class."""
        return self.make(*(each.cook() if isinstance(each, Recipe) else each for each in self.arguments))


def made_class(
    name: str,
    bases: tuple[type, ...],
    namespace: dict[str, Any],
    recipe: Recipe,
) -> type[nn.Module]:
    """Make a module class whose instances can be copied and pickled though no import finds it."""

    def reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        reduced: Any = super(made, self).__reduce_ex__(max(2, int(protocol)))
        return (_new_instance, (packed(made),), *reduced[2:])

    made: type[nn.Module] = type(name, bases, {**namespace, "__reduce_ex__": reduce, _MADE: recipe})
    return made


def disguised_class(
    base: type[nn.Module], forward: Callable[..., Any], recipe: Recipe, **members: Any
) -> type[nn.Module]:
    """Make a subclass of a module class with another forward, which goes by the same name."""
    namespace = {
        "forward": forward,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        **members,
    }
    return made_class(base.__name__, (base,), namespace, recipe)


def standing_for(forward: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """Let a forward that takes any arguments show the signature and words of another."""
    forward.__doc__ = original.__doc__
    forward.__wrapped__ = original  # type: ignore[attr-defined]
    return forward


def is_made(cls: type) -> bool:
    """Say whether a class was made by this module."""
    return _MADE in vars(cls)


def original_class(module: nn.Module) -> type[nn.Module]:
    """Give the class that a module had before any conversion."""
    steps = vars(module).get(STEPS)
    found: type[nn.Module] = steps[0].previous if steps else type(module)
    return found


def compose(behaviour: type[nn.Module], base: type[nn.Module]) -> type[nn.Module]:
    """Give the class of a ``base`` module that behaves as ``behaviour``.

    That is ``behaviour`` itself where it inherits from ``base``; otherwise a class that inherits from both,
    one for each pair, so that ``isinstance`` and the methods of ``base`` keep working. It is named after
    ``behaviour``, or after ``base`` where ``behaviour`` says so by ``keeps_name``. What depends on ``base``,
    ``behaviour`` gives by a function ``members_on(base)``.
    """
    if issubclass(behaviour, base):
        return behaviour
    if issubclass(base, behaviour):
        return base
    if (behaviour, base) not in _composed:
        named = base if getattr(behaviour, "keeps_name", False) else behaviour
        namespace: dict[str, Any] = {"__module__": named.__module__, "__doc__": named.__doc__}
        members_on: Callable[[type], dict[str, Any]] | None = getattr(behaviour, "members_on", None)
        if members_on is not None:
            namespace.update(members_on(base))
        recipe = Recipe(compose, (behaviour, base))
        made = made_class(named.__name__, (behaviour, base), namespace, recipe)
        _composed[behaviour, base] = made
    return _composed[behaviour, base]


_composed: dict[tuple[type, type], type[nn.Module]] = {}


def packed(cls: type) -> type | Recipe:
    """Give what can be pickled in place of a class: how to make it, if no import finds it."""
    if not is_made(cls):
        return cls
    recipe: Recipe = vars(cls)[_MADE]
    arguments = (packed(each) if isinstance(each, type) else each for each in recipe.arguments)
    return Recipe(recipe.make, tuple(arguments))


def _new_instance(recipe: Recipe) -> nn.Module:
    cls: Any = recipe.cook()
    instance: nn.Module = cls.__new__(cls)
    return instance
