"""The modules of a model with all their names: the first look that everything else starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import nn


@dataclass(frozen=True, slots=True)
class Place:
    """One name of one module.

    Args:
        name: dotted name; empty for the model itself.
        module: the module.
        parent: the place of the module that holds it.
        key: the module's name within its parent.
    """

    name: str
    module: nn.Module
    parent: Place | None = None
    key: str = ""

    def path_from(self, container: nn.Module) -> tuple[str, ...]:
        """Give the names of the children that lead here from a container above."""
        keys = [self.key]
        for place in self.ancestors():
            if place.module is container:
                break
            keys.append(place.key)
        return tuple(reversed(keys))

    def ancestors(self) -> Iterator[Place]:
        """Give the places above this one, the nearest first."""
        place = self.parent
        while place is not None:
            yield place
            place = place.parent


class ModuleTree:
    """Every name of every module, in registration order.

    A child's name may itself hold dots, so modules are reached by walking and never by splitting a name.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.places: list[Place] = []
        self._by_module: dict[int, list[Place]] = {}
        self._walk(Place("", model), set())

    def _walk(self, place: Place, above: set[int]) -> None:
        self.places.append(place)
        self._by_module.setdefault(id(place.module), []).append(place)
        inside = above | {id(place.module)} if place.module._modules else above
        for key, child in place.module._modules.items():
            if child is not None and id(child) not in inside:
                name = f"{place.name}.{key}" if place.name else key
                self._walk(Place(name, child, place, key), inside)

    @cached_property
    def by_name(self) -> Mapping[str, nn.Module]:
        """The modules by every dotted name that they go by."""
        return {place.name: place.module for place in self.places}

    def modules(self) -> Iterator[Place]:
        """Give each module once, at its first name."""
        return (places[0] for places in self._by_module.values())

    def places_of(self, module: nn.Module) -> list[Place]:
        """Give every name that a module goes by."""
        return self._by_module[id(module)]

    def names_of(self, module: nn.Module) -> tuple[str, ...]:
        """Give every dotted name of a module, the first in registration order first."""
        return tuple(place.name for place in self._by_module[id(module)])
