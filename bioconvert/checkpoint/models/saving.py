"""A model in memory → an output folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from bioconvert.checkpoint.architectures.architecture import Architecture, parse_arch
from bioconvert.checkpoint.architectures.identify import find_architecture
from bioconvert.checkpoint.folders.around import around_of
from bioconvert.checkpoint.folders.manifest import FORMAT_VERSION, Manifest
from bioconvert.checkpoint.folders.provenance import Origin, files_of, path_of, source_of
from bioconvert.checkpoint.folders.side_files import side_files
from bioconvert.checkpoint.folders.source_hash import SourceHash
from bioconvert.checkpoint.models.paging import Pager
from bioconvert.checkpoint.output.journal import Job
from bioconvert.checkpoint.output.output_folder import Content, write_folder
from bioconvert.checkpoint.output.staging import check_target
from bioconvert.checkpoint.output.torch_file import TorchForm
from bioconvert.checkpoint.output.writing import SHARD_SIZE
from bioconvert.checkpoint.tensors.module_state import (
    as_json,
    frozen_parameters,
    modes_of,
    split_state,
    with_aliases,
)
from bioconvert.checkpoint.tensors.payloads import payloads_of
from bioconvert.checkpoint.tensors.ties import Ties, leaders, same_object, tie_groups
from bioconvert.checkpoint.tensors.wrappers import bare
from bioconvert.core.errors import OptionError
from bioconvert.surgery.records import added_tensors, describe, kept_originals
from bioconvert.version import __version__

WeightsFormat = Literal["safetensors", "pt"]


def save_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    arch: str | None = None,
    arch_args: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    source: Origin | None = None,
    beside: Iterable[str | os.PathLike[str]] = (),
    shard_size: int = SHARD_SIZE,
    pager: Pager | None = None,
    job: Job | None = None,
    weights_format: WeightsFormat = "safetensors",
) -> Path:
    """Write a model, converted or not, to a folder from which :func:`load_model` rebuilds it.

    The folder holds ``model.safetensors`` (or shards and an index), ``bioconvert.json``, the original values
    of what conversion overwrote, and the files that lay beside the weights of the source. It appears complete
    or not at all. The same model gives the same bytes. Non-persistent buffers are not saved.

    Args:
        model: any module; a data-parallel or compiled wrapper is taken off.
        path: the folder to write.
        arch: where the base model comes from, as ``timm:NAME``, ``torchvision:NAME``, ``hf:CONFIG`` or
            ``package.module:callable``; found out by itself where that is certain.
        arch_args: its arguments.
        overwrite: whether a folder that isn't empty may be replaced.
        source: what was converted, for the record and for the files beside the weights.
        beside: more files to lie beside the weights, in place of those of the source with the same names.
        shard_size: bytes of tensors that one file may hold.
        pager: gives the values of tensors that aren't in memory.
        job: what makes the folder; with it, an interrupted run can be continued.
        weights_format: ``"safetensors"``, or ``"pt"`` for a ``model.pt`` that torch.load reads, with the
            training dict that the weights came from around them.

    Returns:
        The folder.

    Raises:
        TargetError: the folder is in use or can't be written.
        CheckpointError: a tensor has no values (meta device), or is of a kind that no file can hold.
        ArchitectureError: ``arch`` is of no known form.
        OptionError: ``arch_args`` without ``arch``.
    """
    target, model = Path(path), bare(model)
    check_target(target, overwrite=overwrite)
    architecture = _architecture(model, arch, arch_args)
    tensors, others = split_state(model)
    ties = tie_groups(tensors, same_object)
    aliases = leaders(ties)
    if weights_format == "safetensors":
        around_of(source, keep=False)
    manifest = _manifest(model, ties, architecture).model_copy(
        update={"extra_state": others, "source": None if source is None else source_of(source, tensors)}
    )
    with nullcontext() if source is None else SourceHash(files_of(source)) as source_hash:
        content = Content(
            payloads_of({name: tensor for name, tensor in tensors.items() if name not in aliases}, pager),
            payloads_of(kept_originals(model), pager),
            _files_beside(source, map(Path, beside)),
            shard_size,
            _torch_form(source, ties, others) if weights_format == "pt" else None,
            source_hash,
        )
        write_folder(target, content, manifest, overwrite=overwrite, job=job)
    return target


def _torch_form(source: Origin | None, ties: Ties, others: Mapping[str, Any]) -> TorchForm:
    around, nesting = around_of(source, keep=True)
    return TorchForm(ties, around, nesting, others)


def _architecture(
    model: nn.Module, arch: str | None, arch_args: Mapping[str, Any] | None
) -> Architecture | None:
    if arch is not None:
        return parse_arch(arch, arch_args)
    if arch_args:
        raise OptionError("arch_args must come with arch, which says what they are arguments of")
    return find_architecture(model)


def _files_beside(source: Origin | None, more: Iterable[Path]) -> tuple[Path, ...]:
    found = side_files(path_of(source)) if source is not None and path_of(source).is_dir() else ()
    return tuple({path.name: path for path in (*found, *more)}.values())


def _manifest(model: nn.Module, ties: Ties, architecture: Architecture | None) -> Manifest:
    conversion = as_json(describe(model), "the record of the conversion")
    return Manifest(
        format_version=FORMAT_VERSION,
        tool={"bioconvert": __version__, "torch": str(torch.__version__)},
        source=None,
        rules=conversion["rules"],
        conversion=conversion if conversion["modules"] or "resized" in conversion else None,
        architecture=None if architecture is None else architecture.to_dict(),
        ties=ties,
        added=tuple(sorted(with_aliases(added_tensors(model), ties))),
        frozen=frozen_parameters(model),
        modes=modes_of(model),
        tensors={},
        files={},
    )
