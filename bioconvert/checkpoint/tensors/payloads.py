"""Tensors in memory → what the writer of safetensors files takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from bioconvert.checkpoint.output.writing import Payload
from bioconvert.checkpoint.tensors.torch_dtypes import CODES
from bioconvert.core.errors import CheckpointError

if TYPE_CHECKING:
    from bioconvert.checkpoint.models.paging import Pager

_SHOWN = 5


def payloads_of(tensors: Mapping[str, torch.Tensor], pager: Pager | None = None) -> list[Payload]:
    """Give the payloads of tensors, which are copied only if not contiguous, and only while being written.

    Args:
        tensors: tensors by name.
        pager: gives the values of those that aren't in memory.

    Raises:
        CheckpointError: some tensors have no values, or are of a kind that no file can hold; all are named.
    """
    problems = [f"{name!r} {reason}" for name, tensor in tensors.items() if (reason := _obstacle(tensor))]
    if "__metadata__" in tensors:
        problems.append("'__metadata__' is a name that safetensors keeps for itself")
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(f"the model can't be saved: {'; '.join(problems[:_SHOWN])}{more}")
    return [_payload(name, tensor, pager) for name, tensor in tensors.items()]


def _payload(name: str, tensor: torch.Tensor, pager: Pager | None) -> Payload:
    def blocks() -> Iterable[memoryview]:
        paged = None if pager is None else pager.blocks(tensor)
        return (tensor_bytes(tensor),) if paged is None else paged

    size = tensor.numel() * tensor.element_size()
    return Payload(name, CODES[tensor.dtype], tuple(tensor.shape), size, blocks)


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """Give the bytes of a tensor as they stand in a file: row by row, without gaps."""
    values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # A dimension of size 1 may have any stride and still count as contiguous, but not be viewed as bytes.
    return values.as_strided((values.numel(),), (1,)).view(torch.uint8).numpy().data


def _obstacle(tensor: torch.Tensor) -> str | None:
    if isinstance(tensor, UninitializedTensorMixin):
        return "has no shape yet: run the model once before saving it"
    if tensor.is_meta:
        return "is on the meta device and has no values: give the model values first"
    if hasattr(tensor, "placements"):
        return (
            f"is shared out over processes ({type(tensor).__name__}): gather the state by torch's "
            "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)), load it into a "
            "plain model that was converted likewise, and save that"
        )
    if hasattr(type(tensor), "__tensor_flatten__"):
        return f"is a {type(tensor).__name__}: gather or convert it to a plain tensor first"
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return "is sparse or quantized: make it dense first"
    if tensor.dtype not in CODES:
        return f"is {tensor.dtype}, which safetensors can't hold"
    return None
