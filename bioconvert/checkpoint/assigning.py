"""Tensors by name → into a model, strictly."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from bioconvert.checkpoint.module_state import make_loadable
from bioconvert.checkpoint.provenance import fitting_prefix
from bioconvert.checkpoint.reading import Checkpoint
from bioconvert.checkpoint.ties import leaders, same_object, tie_groups
from bioconvert.core.errors import ArchitectureError

_log = logging.getLogger("bioconvert")
_SHOWN = 5


def load_into(model: nn.Module, checkpoint: Checkpoint, allow_missing: Iterable[str] = ()) -> None:
    """Load a checkpoint into a freshly built base model, strictly.

    A prefix that was taken off is put back as far as the model's names have it. A name that the checkpoint
    lacks because it is tied to another takes that one's value. The model's tensors take the number formats of
    the checkpoint's.

    Args:
        model: the model, of which every tensor gets its value.
        checkpoint: what was read.
        allow_missing: globs of names that may keep the values that they were built with.

    Raises:
        ArchitectureError: names are missing or unexpected, or shapes differ; they are named.
    """
    put_back = fitting_prefix(checkpoint.prefix, checkpoint.tensors, model.state_dict().keys())
    tensors = {put_back + name: tensor for name, tensor in checkpoint.tensors.items()}
    assign(model, _without_ignored(model, tensors), allow_missing=allow_missing, where=str(checkpoint.source))


def assign(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    *,
    others: Mapping[str, Any] | None = None,
    allow_missing: Iterable[str] = (),
    where: str = "the checkpoint",
) -> None:
    """Give a model's tensors their values, strictly; the objects stay, with the number formats given.

    Args:
        model: the model.
        tensors: a value for each name in its state dict; one of each tie is enough.
        others: what modules keep in the state dict beside tensors.
        allow_missing: globs of names that may keep their values.
        where: where the tensors come from, for the error text.

    Raises:
        ArchitectureError: names are missing or unexpected, shapes differ, or ties are contradicted; all are
            named.
    """
    state = model.state_dict(keep_vars=True)
    targets = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if any(target.is_meta for target in targets.values()):
        raise ArchitectureError(
            "the model to load into must have values; build it on the CPU, not on the meta device"
        )
    given = _with_tied(targets, tensors)
    allowed = {
        name for name in targets if any(fnmatchcase(name, glob) for glob in allow_missing)
    } - given.keys()
    problems = _problems(targets, given, allowed)
    if problems:
        raise ArchitectureError(f"{where} doesn't fit the model: {'; '.join(problems)}")
    if allowed:
        _log.warning("%d tensors keep the values they were built with: %s", len(allowed), _listed(allowed))
    make_loadable(targets, given)
    # With the version notes of the model itself: the names are those of its own classes as they are now.
    full: OrderedDict[str, Any] = OrderedDict(
        {**given, **{name: targets[name] for name in allowed}, **(others or {})}
    )
    full._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]
    with torch.no_grad():
        result = model.load_state_dict(full, strict=False)
    if result.missing_keys or result.unexpected_keys:
        left = _listed([*result.missing_keys, *result.unexpected_keys])
        raise ArchitectureError(f"{where} doesn't fit the model: its loading left out {left}")


def _with_tied(
    targets: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Fill in names that are lacking because they are tied to one that isn't."""
    found = dict(tensors)
    for group in tie_groups(targets, same_object):
        present = next((name for name in group if name in tensors), None)
        if present is not None:
            found.update({name: tensors[present] for name in group if name not in tensors})
    return found


def _problems(
    targets: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor], allowed: Iterable[str]
) -> list[str]:
    missing = targets.keys() - given.keys() - set(allowed)
    unexpected = given.keys() - targets.keys()
    shapes = {
        name: f"{name} is {list(given[name].shape)} there and {list(targets[name].shape)} in the model"
        for name in targets
        if name in given and given[name].shape != targets[name].shape
    }
    problems = []
    if missing:
        problems.append(f"{len(missing)} names are missing there: {_listed(missing)}")
    if unexpected:
        problems.append(f"{len(unexpected)} names are unknown to the model: {_listed(unexpected)}")
    if shapes:
        problems.append(f"{len(shapes)} shapes differ: {_listed(shapes.values())}")
    if shapes and not missing and not unexpected:
        problems += _class_hint(targets, given, shapes)
    return problems + ([] if shapes else _contradicted(targets, given))


def _contradicted(targets: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    """Name tensors that the model ties and of which different values were given."""
    aliases = leaders(tie_groups(targets, same_object))
    pairs = [(name, first) for name, first in aliases.items() if name in given and first in given]
    odd = [f"{name} and {first}" for name, first in pairs if not _same_values(given[name], given[first])]
    return [f"the model ties {_listed(odd)}, which differ there"] if odd else []


def _same_values(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one is other or (one.data_ptr() == other.data_ptr() and one.shape == other.shape):
        return True
    return bool(torch.equal(one, other)) or bool(torch.allclose(one, other, rtol=0, atol=0, equal_nan=True))


def _class_hint(
    targets: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor], names: Iterable[str]
) -> list[str]:
    """Guess a number of classes, where all that differs is one first dimension."""
    changes = {
        (given[name].shape[0], targets[name].shape[0])
        for name in names
        if given[name].dim()
        and given[name].dim() == targets[name].dim()
        and given[name].shape[1:] == targets[name].shape[1:]
    }
    counts = {there for there, _ in changes}
    if len(counts) != 1:
        return []
    count = counts.pop()
    return [
        f"it seems to have {count} classes: --arch-args '{{\"num_classes\": {count}}}' "
        "(num_labels for transformers)"
    ]


def _without_ignored(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave out what a class of transformers declares to be of no use, such as stored causal masks."""
    patterns = getattr(model, "_keys_to_ignore_on_load_unexpected", None)
    if not isinstance(patterns, (list, set, tuple)):
        return dict(tensors)
    known = model.state_dict().keys()
    ignored = [n for n in tensors if n not in known and any(re.search(str(p), n) for p in patterns)]
    if ignored:
        _log.info("%s says that it doesn't need %s", type(model).__name__, _listed(ignored))
    return {name: tensor for name, tensor in tensors.items() if name not in set(ignored)}


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(name[:200] for name in ordered[:_SHOWN]) + more
