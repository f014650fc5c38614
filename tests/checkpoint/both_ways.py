"""One conversion done twice: in memory, and with values that are read when they are needed."""

from __future__ import annotations

from pathlib import Path

from checkpoint_samples import files_in
from safetensors.torch import save_file
from torch import nn

import bioconvert as bc
from bioconvert.checkpoint import load_into, parse_arch, read_checkpoint, save_model
from bioconvert.checkpoint.formats.stored import find_tensors
from bioconvert.checkpoint.models.paging import Pager
from bioconvert.checkpoint.models.streaming import stream_model

ARCH = "streamed_models:Blocks"


def saved(folder: Path, model: nn.Module, *, prefix: str = "") -> Path:
    """Write the tensors of a model."""
    path = folder / "model.safetensors"
    state = model.state_dict()
    save_file({prefix + name: tensor.clone().contiguous() for name, tensor in state.items()}, path)
    return path


def in_memory(source: Path, rules, out: Path, arch: str = ARCH, arch_args=None, **options):
    """Convert as ``bioconvert convert`` does when it reads everything."""
    architecture = parse_arch(arch, arch_args)
    model, checkpoint = architecture.build(), read_checkpoint(source)
    load_into(model, checkpoint)
    report = bc.plan(model, rules).apply()
    save_model(model, out, arch=arch, arch_args=arch_args, source=checkpoint, **options)
    return report


def streamed(source: Path, rules, out: Path, arch: str = ARCH, arch_args=None, budget: int = 1000, **options):
    """Convert with next to nothing in memory."""
    with Pager(out.parent, budget) as pager, pager.at_work():
        model = stream_model(find_tensors(source), parse_arch(arch, arch_args), pager)
        report = bc.plan(model, rules).apply()
        save_model(model, out, arch=arch, arch_args=arch_args, source=source, pager=pager, **options)
    return report


def check_same(folder: Path, model: nn.Module, rules, arch: str, arch_args=None):
    """Check that a conversion does the same both ways, with no byte kept in memory; give its report."""
    source = saved(folder, model)
    one = in_memory(source, rules, folder / "one", arch, arch_args)
    other = streamed(source, rules, folder / "other", arch, arch_args, budget=0)
    assert other.to_dict() == one.to_dict()
    assert files_in(folder / "other") == files_in(folder / "one")
    return one
