"""Checkpoints of every format, and the same formats with something hostile in them."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from checkpoint_samples import Canary, Plain, rewrite_zip
from torch import nn

GOLDEN = Path(__file__).with_name("golden")
LEGACY = {"_use_new_zipfile_serialization": False}


def weights() -> dict[str, torch.Tensor]:
    """Give the state dict of a small model."""
    return {"layer.weight": torch.arange(20.0).view(4, 5), "layer.bias": torch.ones(4, dtype=torch.bfloat16)}


def export(path: Path) -> Path:
    """Write an exported program."""
    path.write_bytes((GOLDEN / "exported.pt2").read_bytes())
    return path


def write_safetensors(folder: Path) -> Path:
    """Write one safetensors file."""
    safetensors.torch.save_file(weights(), folder / "x.safetensors")
    return folder / "x.safetensors"


def write_zip(folder: Path) -> Path:
    """Write what torch.save writes."""
    torch.save(weights(), folder / "x.pt")
    return folder / "x.pt"


def write_legacy(folder: Path) -> Path:
    """Write what an old torch.save wrote."""
    torch.save(weights(), folder / "x.pth", **LEGACY)
    return folder / "x.pth"


def write_nested(folder: Path) -> Path:
    """Write the checkpoint of a training script."""
    torch.save({"epoch": 3, "state_dict": weights(), "optimizer": {"lr": 0.1}}, folder / "x.pth.tar")
    return folder / "x.pth.tar"


def write_lightning(folder: Path) -> Path:
    """Write what Lightning wrote."""
    (folder / "x.ckpt").write_bytes((GOLDEN / "lightning.ckpt").read_bytes())
    return folder / "x.ckpt"


def write_exported(folder: Path) -> Path:
    """Write an exported program."""
    return export(folder / "x.pt2")


FORMATS: dict[str, Callable[[Path], Path]] = {
    "safetensors": write_safetensors,
    "zip": write_zip,
    "legacy": write_legacy,
    "nested": write_nested,
    "Lightning": write_lightning,
    "exported program": write_exported,
}
"""How a checkpoint of one file is written, by the name of its format."""


def _saved(content: Callable[[Canary], object], name: str, **how: object) -> Callable[[Path, Canary], Path]:
    def write(folder: Path, canary: Canary) -> Path:
        torch.save(content(canary), folder / name, **how)
        return folder / name

    return write


def _in_hf_folder(folder: Path, canary: Canary) -> Path:
    (folder / "hf").mkdir()
    (folder / "hf" / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    torch.save({**weights(), "x": canary}, folder / "hf" / "pytorch_model.bin")
    return folder / "hf"


def _in_shard(folder: Path, canary: Canary) -> Path:
    torch.save({"a": torch.ones(1)}, folder / "one.bin")
    torch.save({"b": torch.ones(1), "c": canary}, folder / "two.bin")
    index = {"weight_map": {"a": "one.bin", "b": "two.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder / "pytorch_model.bin.index.json"


def _in_exported(folder: Path, canary: Canary) -> Path:
    """Let the table of weights say that one is pickled, and put a pickle there."""
    stream = io.BytesIO()
    torch.save(canary, stream)

    def edit(name: str, content: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        return stream.getvalue() if "data/weights/weight_" in name else content

    rewrite_zip(export(folder / "whole.pt2"), folder / "evil.pt2", edit)
    return folder / "evil.pt2"


def _in_distributed(folder: Path, canary: Canary) -> Path:
    (folder / "dcp").mkdir()
    (folder / "dcp" / ".metadata").write_bytes(pickle.dumps(canary))
    (folder / "dcp" / "__0_0.distcp").write_bytes(pickle.dumps(canary))
    return folder / "dcp"


def _plain_pickle(protocol: int) -> Callable[[Path, Canary], Path]:
    def write(folder: Path, canary: Canary) -> Path:
        (folder / "x.pkl").write_bytes(pickle.dumps({"a": canary}, protocol=protocol))
        return folder / "x.pkl"

    return write


def _module(canary: Canary) -> nn.Module:
    model = Plain()
    model.hook = canary
    return model


RUNS_CODE: dict[str, Callable[[Path, Canary], Path]] = {
    "zip": _saved(lambda canary: {**weights(), "x": canary}, "x.pt"),
    "legacy": _saved(lambda canary: {**weights(), "x": canary}, "x.pt", **LEGACY),
    "nested": _saved(lambda canary: {"model": weights(), "args": canary}, "x.pth"),
    "nested legacy": _saved(lambda canary: {"model": weights(), "args": canary}, "x.pth", **LEGACY),
    "Lightning": _saved(
        lambda canary: {"state_dict": weights(), "hyper_parameters": {"f": canary}, "loops": {}}, "x.ckpt"
    ),
    "whole module": _saved(_module, "x.pt"),
    "transformers": _in_hf_folder,
    "shard": _in_shard,
    "exported program": _in_exported,
    "distributed": _in_distributed,
    **{f"pickle of protocol {number}": _plain_pickle(number) for number in (2, 3, 4, 5)},
}
"""How a checkpoint is written that touches a file where its pickle is run, by the name of its format."""


def _numpy(save: Callable[..., None], name: str) -> Callable[[Path, Canary], Path]:
    def write(folder: Path, canary: Canary) -> Path:
        save(folder / name, np.array([canary], dtype=object))
        return folder / name

    return write


INPUTS_RUN_CODE: dict[str, Callable[[Path, Canary], Path]] = {
    "npy": _numpy(np.save, "x.npy"),
    "npz": _numpy(np.savez, "x.npz"),
    "npz, compressed": _numpy(np.savez_compressed, "x.npz"),
    "zip": RUNS_CODE["zip"],
    "legacy": RUNS_CODE["legacy"],
    "plain pickle": _plain_pickle(4),
}
"""The same for files of sample inputs."""


def deflated(path: Path, entries: dict[str, bytes]) -> Path:
    """Write a compressed zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path
