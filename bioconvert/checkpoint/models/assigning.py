"""Tensors by name → into a model, strictly."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from bioconvert.checkpoint.architectures.guessing import looks_like
from bioconvert.checkpoint.architectures.renamed import names_in_model
from bioconvert.checkpoint.folders.provenance import fitting_prefix
from bioconvert.checkpoint.formats.reading import Checkpoint
from bioconvert.checkpoint.tensors.module_state import make_loadable
from bioconvert.checkpoint.tensors.ties import leaders, same_object, tie_groups
from bioconvert.core.errors import ArchitectureError

_log = logging.getLogger("bioconvert")
_SHOWN = 5
Same = Callable[[torch.Tensor, torch.Tensor], bool]


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
    assign(model, without_ignored(model, tensors), allow_missing=allow_missing, where=str(checkpoint.source))


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
    targets = tensors_in(state)
    if any(target.is_meta for target in targets.values()):
        raise ArchitectureError(
            "the model to load into must have values; build it on the CPU, not on the meta device"
        )
    given, allowed = fitting(targets, tensors, allow_missing, where, _same_values)
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


def tensors_in(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Give what is a tensor in a state dict."""
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def fitting(
    targets: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    allow_missing: Iterable[str],
    where: str,
    same: Same,
) -> tuple[dict[str, torch.Tensor], set[str]]:
    """Check that tensors fit a model; neither needs values.

    Args:
        targets: the model's tensors by name.
        tensors: those to be loaded; one of each tie is enough.
        allow_missing: globs of names that may be lacking.
        where: where the tensors come from, for the error text.
        same: says whether two of them have the same values.

    Returns:
        One of the tensors for each name, and the names that have none.

    Raises:
        ArchitectureError: see :func:`assign`.
    """
    given = _with_tied(targets, tensors)
    matching = {name for name in targets if any(fnmatchcase(name, glob) for glob in allow_missing)}
    allowed = matching - given.keys()
    problems = _problems(targets, given, allowed, same)
    if problems:
        guess = looks_like({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        raise ArchitectureError(
            f"{where} doesn't fit the model: {'; '.join(problems)}" + (f". {guess}" if guess else "")
        )
    return given, allowed


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
    targets: Mapping[str, torch.Tensor],
    given: Mapping[str, torch.Tensor],
    allowed: Iterable[str],
    same: Same,
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
    return problems + ([] if shapes else _contradicted(targets, given, same))


def _contradicted(
    targets: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor], same: Same
) -> list[str]:
    """Name tensors that the model ties and of which different values were given."""
    aliases = leaders(tie_groups(targets, same_object))
    pairs = [(name, first) for name, first in aliases.items() if name in given and first in given]
    odd = [f"{name} and {first}" for name, first in pairs if not same(given[name], given[first])]
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


def without_ignored(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give tensors under the model's names, without what it declares to be of no use.

    Both concern models of transformers: newer versions call parts of them otherwise than files do, and some
    files hold causal masks and the like.
    """
    names = names_in_model(model, tensors)
    tensors = {names[name]: tensor for name, tensor in tensors.items()}
    patterns = getattr(model, "_keys_to_ignore_on_load_unexpected", None)
    if not isinstance(patterns, (list, set, tuple)):
        return tensors
    known = model.state_dict().keys()
    ignored = [n for n in tensors if n not in known and any(re.search(str(p), n) for p in patterns)]
    if ignored:
        _log.info("%s says that it doesn't need %s", type(model).__name__, _listed(ignored))
    return {name: tensor for name, tensor in tensors.items() if name not in set(ignored)}


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(_printable(name[:200]) for name in ordered[:_SHOWN]) + more


def _printable(name: str) -> str:
    """Give a name without line breaks and other control characters, which a file may have in it."""
    return name if name.isprintable() else repr(name)
