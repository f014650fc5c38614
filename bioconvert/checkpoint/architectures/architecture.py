"""Where a base model comes from, as a value that a manifest can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bioconvert.checkpoint.architectures import timm_models, transformers_models
from bioconvert.checkpoint.architectures.callables import CALLABLE
from bioconvert.checkpoint.architectures.guessing import looks_like
from bioconvert.checkpoint.architectures.kind import Kind
from bioconvert.checkpoint.architectures.tensor_trees import TENSORS, tree_of
from bioconvert.checkpoint.architectures.timm_models import TIMM
from bioconvert.checkpoint.architectures.torchvision_models import TORCHVISION
from bioconvert.checkpoint.architectures.transformers_models import TRANSFORMERS
from bioconvert.checkpoint.files.shards import read_text
from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.checkpoint.folders.manifest import read_manifest
from bioconvert.checkpoint.formats.layout import CONFIG, MANIFEST
from bioconvert.checkpoint.tensors.ties import Ties
from bioconvert.core.errors import ArchitectureError, BioconvertError

KINDS: dict[str, Kind] = {kind.name: kind for kind in (TRANSFORMERS, TIMM, TORCHVISION, TENSORS, CALLABLE)}
FORMS = "timm:NAME, torchvision:NAME, hf:CONFIG or package.module:callable"
_MAX_CONFIG = 16 << 20


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a base model is built.

    Args:
        kind: ``"transformers"``, ``"timm"``, ``"torchvision"``, ``"callable"``, or ``"tensors"`` where only
            names and shapes are known.
        name: class, model or callable, by its name there.
        args: its arguments, as JSON has them; the whole configuration for transformers.
    """

    kind: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name if self.kind == "callable" else f"{self.kind}:{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Give the value as JSON has it."""
        return {"kind": self.kind, "name": self.name, "args": dict(self.args)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Architecture:
        """Read the value back.

        Raises:
            ArchitectureError: no such kind, or a field is missing or of the wrong type.
        """
        kind, name, args = (value.get(key) for key in ("kind", "name", "args"))
        if kind not in KINDS or not isinstance(name, str) or not isinstance(args, Mapping):
            raise ArchitectureError(f"an architecture must have a kind ({', '.join(KINDS)}), a name and args")
        return cls(kind, name, dict(args))

    def build(self, device: str = "cpu", *, trusted: bool = True, folder: Path | None = None) -> nn.Module:
        """Build the model with fresh weights; nothing is downloaded.

        Args:
            device: ``"cpu"``, or ``"meta"`` for shapes without values. Non-persistent buffers, which no
                checkpoint holds, are right on ``"cpu"`` only.
            trusted: whether the caller chose it; what only a file names may be no more than a file may name.
            folder: where that file lies; code in there isn't run.

        Raises:
            ArchitectureError: the name is unknown, its package isn't installed, or building fails.
        """
        kind = KINDS[self.kind]
        try:
            if not trusted:
                kind.vet(self.name, folder)
            with torch.device(device):
                return kind.build(self.name, self.args)
        except BioconvertError:
            raise
        except ModuleNotFoundError as error:
            if error.name == kind.package:
                raise ArchitectureError(
                    f"{self} needs the package {kind.package}: pip install {kind.package}"
                ) from None
            raise ArchitectureError(f"{self} can't be built: {error}") from error
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            raise ArchitectureError(f"{self} can't be built: {type(error).__name__}: {reason}") from error


def parse_arch(text: str, args: Mapping[str, Any] | None = None) -> Architecture:
    """Read what ``--arch`` and ``--arch-args`` say; ``hf:`` takes a local ``config.json`` or its folder.

    Raises:
        ArchitectureError: not of one of the known forms, or the arguments aren't what JSON can hold.
    """
    given = _as_json(args or {})
    prefix, separator, rest = text.partition(":")
    if not separator or not rest or not prefix:
        raise ArchitectureError(f"an architecture must be {FORMS}, not {text!r}")
    if prefix in {"timm", "torchvision"}:
        return Architecture(prefix, rest, given)
    if prefix in {"hf", "transformers"}:
        found = _from_config_file(Path(rest))
        return Architecture(found.kind, found.name, {**found.args, **given})
    if not all(part.isidentifier() for part in (*prefix.split("."), *rest.split("."))):
        raise ArchitectureError(f"an architecture must be {FORMS}, not {text!r}")
    return Architecture("callable", text, given)


def architecture_in(folder: Path) -> Architecture | None:
    """Read the architecture that a folder names: by our manifest, a config of transformers, or one of timm.

    Raises:
        ArchitectureError: a config says less than it must.
        CorruptFileError: a damaged manifest or config.
    """
    if (folder / MANIFEST).exists():
        named = read_manifest(folder / MANIFEST).architecture
        return None if named is None else Architecture.from_dict(named)
    if (folder / CONFIG).exists():
        config = parse_object(read_text(folder / CONFIG, _MAX_CONFIG), f"{folder / CONFIG}: the config")
        return _from_config(config)
    return None


def choose_architecture(
    source: Path,
    arch: str | None = None,
    arch_args: Mapping[str, Any] | None = None,
    *,
    tensors: Mapping[str, tuple[str, Sequence[int]]] | None = None,
    ties: Ties = (),
) -> Architecture:
    """Say of which architecture a checkpoint is: what the caller names, or else what its folder names.

    Args:
        source: file or folder.
        arch: as ``--arch`` says it.
        arch_args: its arguments.
        tensors: the checkpoint's tensors: name → number format and shape. With them, a checkpoint of which
            nothing says the architecture is a tree of tensors.
        ties: groups of names among these that stand for one tensor.

    Raises:
        ArchitectureError: nothing names one, and ``tensors`` aren't given.
    """
    if arch is not None:
        return parse_arch(arch, arch_args)
    found = architecture_in(source) if source.is_dir() else None
    if found is None and tensors is not None and not arch_args:
        return Architecture(TENSORS.name, *tree_of(tensors, ties))
    if found is None:
        guess = looks_like({name: shape for name, (_, shape) in (tensors or {}).items()})
        raise ArchitectureError(
            f"{source}: nothing says of which architecture it is; name it by --arch {FORMS}"
            + (f". {guess}" if guess else "")
        )
    return Architecture(found.kind, found.name, {**found.args, **_as_json(arch_args or {})})


def _from_config(config: Mapping[str, Any]) -> Architecture | None:
    if "model_type" in config or "architectures" in config:
        return Architecture("transformers", *transformers_models.from_config(config))
    if isinstance(config.get("architecture"), str):
        return Architecture("timm", *timm_models.from_config(config))
    return None


def _from_config_file(path: Path) -> Architecture:
    file = path / CONFIG if path.is_dir() else path
    if not file.is_file():
        raise ArchitectureError(
            f"hf:{path} must be a local config.json or a folder with one; nothing is downloaded"
        )
    found = _from_config(parse_object(read_text(file, _MAX_CONFIG), f"{file}: the config"))
    if found is None:
        raise ArchitectureError(f"{file}: is no config of transformers or timm")
    return found


def _as_json(args: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(args), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArchitectureError(f"arguments of an architecture must be what JSON can hold: {error}") from None
    return plain
