"""The state dict inside a training checkpoint, and the prefixes that wrappers left on its names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bioconvert.core.errors import CheckpointError

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
)
"""Under which a training dict keeps its weights, in the order in which they are preferred."""

PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "model.")
"""What DataParallel, torch.compile, FSDP, activation checkpointing and Lightning put before every name."""

_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Found:
    """The state dict in a loaded object.

    Args:
        tensors: the tensors by name.
        nesting: the keys that lead to it, outermost first.
        passed_over: other places under which there are weights too, as keys joined by ``/``.
        left_out: names of entries that are no tensors.
    """

    tensors: dict[str, torch.Tensor]
    nesting: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def find_state(loaded: object, path: Path) -> Found:
    """Find the state dict in what a file held.

    Raises:
        CheckpointError: there is none, or several under names that nothing is known of.
    """
    if isinstance(loaded, torch.Tensor):
        raise CheckpointError(f"{path}: holds one tensor without a name; save a dict of named tensors")
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{path}: must hold a dict of named tensors, but holds a {type(loaded).__name__}"
        )
    nesting: list[str] = []
    passed_over: tuple[str, ...] = ()
    state: Mapping[Any, Any] = loaded
    while keys := _keys_with_state(state, _DEPTH - len(nesting)):
        if keys[0] not in KEYS and len(keys) > 1:
            shown = ", ".join(repr(key) for key in keys[:8])
            raise CheckpointError(
                f"{path}: holds several state dicts ({shown}); save the one you mean by itself"
            )
        passed_over += tuple("/".join((*nesting, key)) for key in keys[1:])
        nesting.append(keys[0])
        state = state[keys[0]]
    if not _is_state(state):
        raise CheckpointError(f"{path}: holds no state dict; it must be a dict of named tensors")
    return _found(state, tuple(nesting), passed_over)


def _found(state: Mapping[Any, Any], nesting: tuple[str, ...], passed_over: tuple[str, ...]) -> Found:
    tensors = {str(name): value.detach() for name, value in state.items() if isinstance(value, torch.Tensor)}
    left_out = tuple(str(name) for name, value in state.items() if not isinstance(value, torch.Tensor))
    return Found(tensors, nesting, passed_over, left_out)


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(key, str) for key in value)
        and any(isinstance(item, torch.Tensor) for item in value.values())
    )


def _keys_with_state(value: Mapping[Any, Any], depth: int) -> list[str]:
    """Name the keys that lead to a state dict: known ones in their order, or else whatever there is."""
    if depth <= 0:
        return []
    known = [key for key in KEYS if _leads_to_state(value.get(key), depth - 1)]
    if known or _is_state(value):
        return known
    return [key for key, item in value.items() if isinstance(key, str) and _is_state(item)]


def _leads_to_state(value: object, depth: int) -> bool:
    return isinstance(value, Mapping) and (_is_state(value) or bool(_keys_with_state(value, depth)))


def common_prefix(names: Iterable[str]) -> str:
    """Give what wrappers put before *every* name, in any nesting; empty where one name lacks it."""
    remaining = list(names)
    stripped = ""
    while remaining:
        prefix = next(
            (p for p in PREFIXES if all(n.startswith(p) and len(n) > len(p) for n in remaining)), None
        )
        if prefix is None:
            break
        stripped += prefix
        remaining = [name[len(prefix) :] for name in remaining]
    return stripped
