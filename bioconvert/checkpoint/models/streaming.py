"""A checkpoint of any size → its model, with values that are read only when something computes with them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from bioconvert.checkpoint.architectures.architecture import Architecture
from bioconvert.checkpoint.files.regular_files import BLOCK
from bioconvert.checkpoint.folders.provenance import fitting_prefix
from bioconvert.checkpoint.formats.stored import Contents, InFile, Stored
from bioconvert.checkpoint.models.assigning import fitting, tensors_in, without_ignored
from bioconvert.checkpoint.models.page_faults import StreamingError
from bioconvert.checkpoint.models.paging import Pager, whole_pages
from bioconvert.checkpoint.tensors.module_state import make_loadable
from bioconvert.checkpoint.tensors.torch_dtypes import TORCH_DTYPES
from bioconvert.core.errors import ArchitectureError, CheckpointError


def streamable(contents: Contents) -> dict[str, InFile]:
    """Give the tensors of a checkpoint whose values can be read one by one.

    Raises:
        StreamingError: it isn't of safetensors files, or is a folder of ours.
        CheckpointError: a number format that torch doesn't have.
    """
    if contents.manifest is not None:
        raise StreamingError(
            f"{contents.path}: is a folder of bioconvert, which is converted in memory only (--no-stream)"
        )
    found = {name: each for name, each in contents.tensors.items() if isinstance(each, InFile)}
    if len(found) < len(contents.tensors):
        raise StreamingError(
            f"{contents.path}: only safetensors files can be converted piece by piece; convert it in memory "
            "(--no-stream), or save it as safetensors first"
        )
    unknown = next((name for name, each in found.items() if each.dtype not in TORCH_DTYPES), None)
    if unknown is not None:
        raise CheckpointError(
            f"{contents.path}: tensor {unknown!r} is {found[unknown].dtype}, which torch can't hold"
        )
    return found


def stream_model(contents: Contents, architecture: Architecture, pager: Pager) -> nn.Module:
    """Build the model of a checkpoint without reading its values.

    Every tensor in its state dict is one of ``pager``'s. Buffers that no file holds stay on the meta device.

    Args:
        contents: what the checkpoint holds.
        architecture: how the base model is built.
        pager: what will bring the values in.

    Raises:
        ArchitectureError: the checkpoint doesn't fit the model, or that can't be built without values.
        StreamingError: the checkpoint's values must be read at once, or the model's own code computes
            something from them when it is loaded.
    """
    tensors = streamable(contents)
    model = _built(architecture)
    state = model.state_dict(keep_vars=True)
    targets = tensors_in(state)
    put_back = fitting_prefix(contents.prefix, tensors, state.keys())
    metas = {put_back + name: _meta(tensor) for name, tensor in tensors.items()}
    stored = dict(zip(metas.values(), tensors.values(), strict=True))

    def same(one: torch.Tensor, other: torch.Tensor) -> bool:
        return one is other or _digest(stored[one]) == _digest(stored[other])

    given, _ = fitting(targets, without_ignored(model, metas), (), str(contents.path), same)
    make_loadable(targets, given)
    _check_loading(model, given, state)
    distinct = {target: stored[given[name]] for name, target in targets.items()}
    pager.reserve(sum(whole_pages(each.entry.nbytes) for each in distinct.values()))
    _fill(
        model,
        {
            target: pager.tensor(each.file, each.entry.start, each.dtype, each.shape, each.entry.nbytes)
            for target, each in distinct.items()
        },
    )
    return model


def _built(architecture: Architecture) -> nn.Module:
    try:
        return architecture.build("meta")
    except ArchitectureError as error:
        raise ArchitectureError(
            f"{error} (without values, on the meta device; --no-stream builds it in memory)"
        ) from error


def _fill(model: nn.Module, values: Mapping[torch.Tensor, torch.Tensor]) -> None:
    """Give a model's tensors their values; parameters stay the same objects, also where they are buffers."""
    parameters = set(model.parameters())
    tied = [
        (module._buffers, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer in parameters
    ]
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model._apply(lambda tensor: values.get(tensor, tensor))  # type: ignore[no-untyped-call]
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
    for buffers, name, parameter in tied:
        buffers[name] = parameter


def _meta(tensor: Stored) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=TORCH_DTYPES[tensor.dtype], device="meta")


def _digest(tensor: Stored) -> bytes:
    digest = hashlib.sha256()
    for part in tensor.parts(BLOCK):
        digest.update(part)
    return digest.digest()


def _check_loading(model: nn.Module, given: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Load without values, to see that each tensor of the model takes the one of its name as it is.

    Raises:
        StreamingError: the model's own code does something else.
    """
    full = OrderedDict({**state, **given})
    full._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]
    copies = _Copies()
    with torch.no_grad(), copies:
        result = model.load_state_dict(full, strict=False)
    wanted: dict[torch.Tensor, set[torch.Tensor]] = {}
    for name, target in tensors_in(state).items():
        wanted.setdefault(target, set()).add(given[name])
    odd = [name for name, t in tensors_in(state).items() if copies.into.get(t) not in wanted[t]]
    odd += [*result.missing_keys, *result.unexpected_keys]
    if odd:
        raise StreamingError(
            f"{type(model).__name__}'s own code does something to {odd[0]!r} when it is loaded: "
            "convert it in memory (--no-stream)"
        )


class _Copies(TorchFunctionMode):
    """Takes note of what is copied into what."""

    def __init__(self) -> None:
        super().__init__()
        self.into: dict[torch.Tensor, torch.Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.copy_:
            self.into[args[0]] = args[1]
        return func(*args, **(kwargs or {}))
