"""What every kind of architecture offers: building a model by name, and naming a model it may have built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

Args = Mapping[str, Any]
Candidate = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One place where models come from.

    Args:
        name: as in ``--arch NAME:…`` and in manifests.
        package: what must be installed for it; empty where nothing must.
        build: ``build(name, args) -> module`` with fresh weights; never downloads. Raises
            ``ArchitectureError`` where the name is unknown, and whatever the builder raises.
        candidates: ``candidates(model) -> (name, args), …`` by which the model may have been built; each is
            verified by the caller. May raise anything.
        vet: ``vet(name, folder)`` raises ``ArchitectureError`` if the word of a file in that folder alone
            must not make us call it. Most kinds name nothing but models.
    """

    name: str
    package: str
    build: Callable[[str, Args], nn.Module]
    candidates: Callable[[nn.Module], Iterator[Candidate]]
    vet: Callable[[str, Path | None], None] = lambda name, folder: None  # noqa: ARG005
