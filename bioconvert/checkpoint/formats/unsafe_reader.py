"""The process that loads what runs code: it writes the tensors as safetensors, and the rest as JSON."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bioconvert.checkpoint.architectures.identify import find_architecture
from bioconvert.checkpoint.architectures.torchvision_ops import import_torchvision
from bioconvert.checkpoint.formats.nesting import Found, check_tensors, find_state
from bioconvert.checkpoint.formats.pickled import wanted_by
from bioconvert.checkpoint.formats.unsafe import ANSWER
from bioconvert.checkpoint.output.writing import write_tensors
from bioconvert.checkpoint.tensors.payloads import payloads_of
from bioconvert.checkpoint.tensors.ties import leaders, same_memory, tie_groups
from bioconvert.checkpoint.tensors.wrappers import bare
from bioconvert.core.errors import BioconvertError, CheckpointError

_DEPTH = 4
_WITH_TORCHVISION = {"timm", "torchvision", "transformers"}
_WHOLE = "whole.pt"


@dataclass
class _Modules:
    """Modules that lay in a loaded object, by the keys that lead to them."""

    by_keys: dict[tuple[str, ...], nn.Module] = field(default_factory=dict)

    def replaced(self, value: object, keys: tuple[str, ...] = ()) -> object:
        """Give the object with each module's state dict in place of the module."""
        if isinstance(value, nn.Module):
            self.by_keys[keys] = value
            return value.state_dict()
        if isinstance(value, Mapping) and len(keys) < _DEPTH:
            return {
                key: self.replaced(item, (*keys, key)) if isinstance(key, str) else item
                for key, item in value.items()
            }
        return value


def answer(source: str, folder: str, weights: str | None, size: int, memory: int) -> None:
    """Load a file or folder, letting it run its code, and write what it holds, or why not, into a folder.

    Args:
        source: the file or folder to load.
        folder: where to write.
        weights: keys that lead to the weights in a training dict, joined by ``/``.
        size: bytes of the source.
        memory: bytes that may be taken.
    """
    path, target = Path(source), Path(folder)
    try:
        _limit_memory(memory)
        given = _answer(path, target, weights, size)
    except BioconvertError as error:
        given = _failure(type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - foreign code fails in any way, and is to be named as the cause
        reason = (str(error).splitlines() or [""])[0][:200]
        given = _failure(
            CheckpointError.__name__,
            f"{path}: can't be loaded by its own code: {type(error).__name__}: {reason}{_advice(error)}",
        )
    (target / ANSWER).write_text(json.dumps(given), encoding="ascii")


def _failure(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message}}


def _advice(error: Exception) -> str:
    if isinstance(error, (AttributeError, ImportError)):
        return " (the modules that it was made with must be importable, here or from the working directory)"
    return ""


def _limit_memory(size: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    for kind, limit in ((resource.RLIMIT_DATA, size), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (bound, hard))


def _answer(path: Path, folder: Path, weights: str | None, size: int) -> dict[str, Any]:
    modules = _Modules()
    found = find_state(modules.replaced(_load(path, folder)), path, weights)
    check_tensors(found.tensors, path, size)
    ties = tie_groups(found.tensors, same_memory)
    aliases = leaders(ties)
    distinct = {name: tensor for name, tensor in found.tensors.items() if name not in aliases}
    written = write_tensors(folder, payloads_of(distinct))
    return {
        "names": list(found.tensors),
        "tensors": {name: record.model_dump() for name, record in written.tensors.items()},
        "ties": ties,
        "architecture": _architecture(modules, found),
        **{key: value for key, value in asdict(_without_tensors(found)).items() if key != "tensors"},
    }


def _without_tensors(found: Found) -> Found:
    return replace(found, tensors={})


def _load(path: Path, folder: Path) -> object:
    if path.is_dir():
        return _load_distributed(path, folder / _WHOLE)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            exported = any(name.endswith("archive_format") for name in archive.namelist())
        if exported:
            return dict(torch.export.load(path).state_dict)
    if any(name.partition(".")[0] in _WITH_TORCHVISION for name in wanted_by(path)):
        _declare_torchvision()
    return torch.load(path, map_location="cpu", weights_only=False, mmap=False)


def _load_distributed(folder: Path, whole: Path) -> object:
    """Put the shards of a distributed checkpoint together, without any group of processes."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    dcp_to_torch_save(folder, whole)
    loaded: object = torch.load(whole, map_location="cpu", weights_only=False)
    whole.unlink()
    return loaded


def _declare_torchvision() -> None:
    """Let models of torchvision and timm be found where torchvision's operators don't load."""
    try:
        import_torchvision()
    except ModuleNotFoundError:
        return


def _architecture(modules: _Modules, found: Found) -> dict[str, Any] | None:
    module = modules.by_keys.get(found.nesting)
    architecture = None if module is None else find_architecture(bare(module))
    return None if architecture is None else architecture.to_dict()
