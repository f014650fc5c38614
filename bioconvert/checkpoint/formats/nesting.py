"""The state dict inside a training checkpoint, and the prefixes that wrappers left on its names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bioconvert.checkpoint.tensors.ties import same_memory
from bioconvert.core.errors import CheckpointError, OptionError, UnsafeFileError
from bioconvert.core.suggest import hint

KEYS = (
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "ema",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "params_ema",
    "app",
)
"""Under which a training dict keeps its weights, in the order in which they are preferred."""

_SPARE = 64 << 20
"""By how many bytes the tensors of a pickle may exceed its file: small tensors are expanded legitimately."""
_DEPTH = 4
_NAME_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Found:
    """The state dict in a loaded object.

    Args:
        tensors: the tensors by name.
        nesting: the keys that lead to it, outermost first.
        passed_over: other places under which there are weights too, as keys joined by ``/``.
        left_out: names of entries that are no tensors.
        said: what the training dict calls the architecture; a hint, and no more.
        beside: what else there is, as keys joined by ``/``.
    """

    tensors: dict[str, torch.Tensor]
    nesting: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    said: str = ""
    beside: tuple[str, ...] = ()


def find_state(loaded: object, path: Path, weights: str | None = None) -> Found:
    """Find the state dict in what a file held.

    Args:
        loaded: what the file held.
        path: the file, for the error text.
        weights: keys that lead to the state dict that is meant, joined by ``/``, where there are several.

    Raises:
        CheckpointError: there is none, or several under names that nothing is known of.
        OptionError: ``weights`` leads to none.
    """
    if isinstance(loaded, torch.Tensor):
        raise CheckpointError(f"{path}: holds one tensor without a name; save a dict of named tensors")
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{path}: must hold a dict of named tensors, but holds a {type(loaded).__name__}"
        )
    search = _Search()
    nesting, passed_over = _asked_for(loaded, weights, path, search)
    state = _inside(loaded, nesting)
    while keys := search.keys(state, _DEPTH - len(nesting)):
        if keys[0] not in KEYS and len(keys) > 1:
            shown = ", ".join(repr(key[:_NAME_SHOWN]) for key in keys[:8])
            raise CheckpointError(
                f"{path}: holds several state dicts ({shown}); name the one you mean by --weights KEY"
            )
        if weights is None:
            passed_over += ["/".join((*nesting, key)) for key in keys[1:]]
        nesting.append(keys[0])
        state = state[keys[0]]
    if not _is_state(state):
        raise CheckpointError(f"{path}: holds no state dict; it must be a dict of named tensors")
    found = _found(state, tuple(nesting), tuple(passed_over))
    return replace(found, said=_said(loaded), beside=_beside(loaded, nesting)) if nesting else found


def _asked_for(
    loaded: Mapping[Any, Any], weights: str | None, path: Path, search: _Search
) -> tuple[list[str], list[str]]:
    """Split what the caller named into keys, and name the other places that a training dict usually has."""
    if weights is None:
        return [], []
    found, places = _match(loaded, weights, search) if weights else None, _places(loaded)
    if found is None:
        raise OptionError(
            f"{path}: holds no weights under {weights[:_NAME_SHOWN]!r}. {hint(weights, places)}"
        )
    return list(found), [key for key in places if key != weights and key.rpartition("/")[2] in KEYS]


def _match(value: object, weights: str, search: _Search) -> tuple[str, ...] | None:
    """Find the keys whose joined text is given; a key may have a ``/`` in it."""
    if not weights:
        return () if search.leads(value, _DEPTH) else None
    if not isinstance(value, Mapping):
        return None
    for key in value:
        if isinstance(key, str) and key and f"{weights}/".startswith(f"{key}/"):
            rest = _match(value[key], weights[len(key) + 1 :], search)
            if rest is not None:
                return (key, *rest)
    return None


def _places(loaded: Mapping[Any, Any]) -> list[str]:
    """Name every state dict, as keys joined by ``/``, each once however often it is referred to."""
    found: list[str] = []
    seen: set[int] = set()
    level: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = [((), loaded)]
    for _ in range(_DEPTH):
        inner = [((*keys, key), item) for keys, value in level for key, item in _named_dicts(value, seen)]
        found += ["/".join(keys) for keys, item in inner if _is_state(item)]
        level = [(keys, item) for keys, item in inner if not _is_state(item)]
    return found


def _named_dicts(value: Mapping[Any, Any], seen: set[int]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    for key, item in value.items():
        if isinstance(key, str) and isinstance(item, Mapping) and id(item) not in seen:
            seen.add(id(item))
            yield key, item


def _inside(loaded: Mapping[Any, Any], keys: Iterable[str]) -> Mapping[Any, Any]:
    for key in keys:
        loaded = loaded[key]
    return loaded


def _found(state: Mapping[Any, Any], nesting: tuple[str, ...], passed_over: tuple[str, ...]) -> Found:
    tensors = {str(name): value.detach() for name, value in state.items() if isinstance(value, torch.Tensor)}
    left_out = tuple(str(name) for name, value in state.items() if not isinstance(value, torch.Tensor))
    return Found(tensors, nesting, passed_over, left_out)


def _beside(loaded: Mapping[Any, Any], nesting: Sequence[str]) -> tuple[str, ...]:
    """Name what lies beside the keys that lead to the weights, on every level."""
    found: list[str] = []
    for depth, taken in enumerate(nesting):
        found += ["/".join((*nesting[:depth], str(key)[:_NAME_SHOWN])) for key in loaded if key != taken]
        loaded = loaded[taken]
    return tuple(found)


def _said(loaded: Mapping[Any, Any]) -> str:
    """Read what a training script, timm's for one, noted of the architecture."""
    said = loaded.get("arch")
    return said if isinstance(said, str) and said.isprintable() and len(said) <= _NAME_SHOWN else ""


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(key, str) for key in value)
        and any(isinstance(item, torch.Tensor) for item in value.values())
    )


class _Search:
    """Finds state dicts in nested dicts; each is looked at once a depth, as dicts may hold one another."""

    def __init__(self) -> None:
        self._states: dict[int, bool] = {}
        self._found: dict[tuple[int, int], list[str]] = {}

    def keys(self, value: Mapping[Any, Any], depth: int) -> list[str]:
        """Name the keys that lead to a state dict: known ones in their order, or else whatever there is."""
        place = (id(value), depth)
        if place not in self._found:
            self._found[place] = self._keys(value, depth) if depth > 0 else []
        return self._found[place]

    def leads(self, value: object, depth: int) -> bool:
        """Say whether a value is a state dict, or has one in it."""
        return isinstance(value, Mapping) and (self._is_state(value) or bool(self.keys(value, depth)))

    def _keys(self, value: Mapping[Any, Any], depth: int) -> list[str]:
        known = [key for key in KEYS if self.leads(value.get(key), depth - 1)]
        if known or self._is_state(value):
            return known
        return [key for key, item in value.items() if isinstance(key, str) and self._is_state(item)]

    def _is_state(self, value: object) -> bool:
        if id(value) not in self._states:
            self._states[id(value)] = _is_state(value)
        return self._states[id(value)]


def check_claim(tensor: torch.Tensor) -> None:
    """Refuse a tensor that was expanded to much more than is stored of it.

    Raises:
        UnsafeFileError: it was.
    """
    claimed, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if claimed > stored + _SPARE:
        raise UnsafeFileError(
            f"a tensor beside the weights claims {claimed} bytes, and {stored} are stored of it; "
            "leave out what is beside them by --format safetensors"
        )


def check_tensors(tensors: Mapping[str, torch.Tensor], source: Path, size: int) -> None:
    """Refuse tensors that no state dict of plain modules has, or that claim more than could be stored.

    Raises:
        CheckpointError: a tensor is sparse, quantized or without values; it is named.
        UnsafeFileError: they claim more than they could have been stored in.
    """
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(
                f"{source}: tensor {name[:_NAME_SHOWN]!r} must be dense and have values; make it so and "
                "save again"
            )
    distinct = {same_memory(tensor): tensor.numel() * tensor.element_size() for tensor in tensors.values()}
    claimed = sum(distinct.values())
    if claimed > size + _SPARE:
        raise UnsafeFileError(f"{source}: has {size} bytes, but its tensors claim {claimed}")
