"""A model's state dict as torch saves it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from bioconvert.checkpoint.exports.exported import Exported, new_single_file
from bioconvert.checkpoint.exports.inference import without_training_state
from bioconvert.checkpoint.tensors.module_state import split_state


def export_state_dict(model: nn.Module, path: Path, *, overwrite: bool = False) -> Exported:
    """Write a model's tensors, under the names of its state dict, by ``torch.save``.

    The file holds plain tensors only, on the CPU, and not the state of mechanisms.

    Args:
        model: the model.
        path: the file.
        overwrite: whether a file may be replaced.

    Raises:
        TargetError: the file exists or can't be written.
    """
    with without_training_state(model) as left_out:
        tensors, _ = split_state(model)
    # Of tied tensors one copy is made, which torch.save writes once.
    copies: dict[torch.Tensor, torch.Tensor] = {}
    plain = {
        name: copies.setdefault(tensor, tensor.detach().cpu().contiguous())
        for name, tensor in tensors.items()
    }
    with new_single_file(path, overwrite=overwrite) as file:
        torch.save(plain, file)
    return Exported(path, path.stat().st_size, len(plain), left_out)
