"""Finding out how a model in memory can be built again; verified, never guessed."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from bioconvert.checkpoint.architectures.architecture import KINDS, Architecture
from bioconvert.checkpoint.architectures.structure import difference

_log = logging.getLogger("bioconvert")


def find_architecture(model: nn.Module) -> Architecture | None:
    """Find the architecture that rebuilds a model as it was before any conversion.

    Looked for are models of transformers, timm and torchvision, and classes that can be imported and called
    without arguments. A candidate counts only if the model it builds is the same in every module's class,
    options, tensors and plain attributes.

    Returns:
        The architecture, or ``None`` where no candidate is exactly the same.
    """
    for architecture in _candidates(model):
        base = _built(architecture)
        reason = "it can't be built" if base is None else difference(model, base)
        if reason is None:
            return architecture
        _log.debug("the model is not %s: %s", architecture, reason)
    return None


def _candidates(model: nn.Module) -> Iterator[Architecture]:
    seen: list[Architecture] = []
    for kind in KINDS.values():
        try:
            for name, args in kind.candidates(model):
                # As a manifest will give them back: a tuple returns from JSON as a list.
                found = Architecture.from_dict(
                    json.loads(json.dumps({"kind": kind.name, "name": name, "args": args}))
                )
                if found not in seen:
                    seen.append(found)
                    yield found
        except Exception:  # noqa: BLE001 - looking must not fail, whatever a foreign object does when it is looked at
            _log.debug("looking for the model in %s failed", kind.name, exc_info=True)


def _built(architecture: Architecture) -> nn.Module | None:
    """Build a candidate without a trace: on the meta device, or on the CPU where it needs values for that."""
    for device in ("meta", "cpu"):
        try:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return architecture.build(device)
        except Exception:  # noqa: BLE001 - as above
            _log.debug("%s can't be built on %s", architecture, device, exc_info=True)
    return None
