"""Which modules of a state dict are layers of dyna, by names and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from bioconvert.compat.dyna.kinds import (
    COMPOSER_CHILD,
    COMPOSER_NAMES,
    CONTEXT,
    CONV_NAMES,
    DELTA,
    MOBIUS,
    Kind,
)

_ENOUGH = 2
"""How many names that only a Möbius composer has make one: the others may be missing."""

_Modules = Mapping[str, Mapping[str, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Finding:
    """A layer of dyna, perhaps with tensors missing.

    Args:
        path: its name.
        kind: its composer.
        composer: the composer's tensors, by their own names there.
        conv: those beside it, where it is a convolution's; ``None`` where it stands alone.
    """

    path: str
    kind: Kind
    composer: Mapping[str, torch.Tensor]
    conv: Mapping[str, torch.Tensor] | None

    @property
    def becomes(self) -> str:
        """Name of our class."""
        return self.kind.composer if self.conv is None else self.kind.conv

    @property
    def names(self) -> Iterator[str]:
        """The names of all tensors, as the layer has them."""
        inner = "" if self.conv is None else f"{COMPOSER_CHILD}."
        yield from (inner + name for name in self.composer)
        yield from self.conv or ()


def as_pairs(tensor: torch.Tensor) -> torch.Tensor:
    """Give complex numbers as pairs of real ones in a last dimension, and all else as it is."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def find_layers(state: Mapping[str, torch.Tensor]) -> list[Finding]:
    """Find the layers of dyna in a state dict.

    Args:
        state: tensors by name.
    """
    modules = _modules(state)
    found = []
    for path, tensors in modules.items():
        kind = _kind(tensors)
        if kind is not None:
            composer = {name: tensor for name, tensor in tensors.items() if name in kind.dims}
            found.append(_finding(path, kind, composer, modules))
    return found


def find_orphans(state: Mapping[str, torch.Tensor], findings: list[Finding]) -> list[tuple[str, list[str]]]:
    """Find modules with tensors of a dyna convolution that lack every sign of a composer.

    Args:
        state: tensors by name.
        findings: the layers of :func:`find_layers`.

    Returns:
        Paths, and the names of such tensors.
    """
    complete = {found.path for found in findings if found.conv is not None}
    beside = {path: [n for n in tensors if n in CONV_NAMES] for path, tensors in _modules(state).items()}
    return [(path, names) for path, names in beside.items() if names and path not in complete]


def _modules(state: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Give the tensors that are named as those of dyna's layers are, by module."""
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        path, _, own = name.rpartition(".")
        if f".{path}".endswith(".context_transform"):
            path, own = path.rpartition(".")[0], f"context_transform.{own}"
        if own in COMPOSER_NAMES or own in CONV_NAMES:
            modules.setdefault(path, {})[own] = as_pairs(tensor)
    return modules


def _kind(tensors: Mapping[str, torch.Tensor]) -> Kind | None:
    if len(tensors.keys() & (MOBIUS.dims.keys() - set(CONTEXT))) >= _ENOUGH:
        return MOBIUS
    banks = tensors.get("weights")
    is_bank = banks is not None and banks.dim() == DELTA.dims["weights"]
    has_temperature = CONTEXT[0] in tensors and "extras" in tensors and tensors["extras"].numel() == 1
    return DELTA if is_bank or has_temperature else None


def _finding(path: str, kind: Kind, composer: Mapping[str, torch.Tensor], modules: _Modules) -> Finding:
    parent, _, child = path.rpartition(".")
    if child != COMPOSER_CHILD:
        return Finding(path, kind, composer, None)
    beside = {name: tensor for name, tensor in modules.get(parent, {}).items() if name in CONV_NAMES}
    return Finding(parent, kind, composer, beside)
