"""Checkpoints of every class, as their own libraries write them, with the models that they are of."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from bioconvert.checkpoint import import_torchvision, read_checkpoint
from bioconvert.checkpoint.architectures.torchvision_ops import import_with_torchvision

GOLDEN = Path(__file__).parents[1] / "checkpoint" / "golden"
IDS = {"input_ids": torch.arange(8).view(1, 8)}


class Whole(nn.Module):
    """A network that is pickled as a whole."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, x):
        """Run."""
        return self.head(self.layers(x))


@dataclass(frozen=True)
class Made:
    """A checkpoint in a folder.

    Args:
        path: what to convert.
        model: the model that it is of, unconverted, in eval mode.
        inputs: keyword arguments, or one tensor, to call it with.
        options: what the command needs beside the path.
    """

    path: Path
    model: nn.Module
    inputs: dict[str, torch.Tensor] | torch.Tensor
    options: tuple[str, ...] = field(default=())


def picture(size: int = 32) -> torch.Tensor:
    """A batch of two pictures."""
    return torch.linspace(-1, 1, 2 * 3 * size * size).view(2, 3, size, size)


def torchvision_state(folder: Path) -> Made:
    """A state dict of torchvision by torch.save."""
    model = import_torchvision().models.shufflenet_v2_x0_5(num_classes=5).eval()
    torch.save(model.state_dict(), folder / "net.pth")
    arch = ("--arch", "torchvision:shufflenet_v2_x0_5", "--arch-args", '{"num_classes": 5}')
    return Made(folder / "net.pth", model, picture(), arch)


def legacy_state(folder: Path) -> Made:
    """The same in the format before torch 1.6, with the prefix of data parallelism."""
    made = torchvision_state(folder)
    state = {f"module.{name}": tensor for name, tensor in made.model.state_dict().items()}
    torch.save(state, folder / "net.pth", _use_new_zipfile_serialization=False)
    return made


def timm_training(folder: Path) -> Made:
    """What timm's training script saves."""
    timm = import_with_torchvision("timm")
    model = timm.create_model("test_resnet", num_classes=4).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    content = {
        "epoch": 3,
        "arch": "test_resnet",
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "version": 2,
        "args": argparse.Namespace(model="test_resnet", lr=0.1, mean=None),
        "metric": 71.5,
    }
    torch.save(content, folder / "model_best.pth.tar")
    arch = ("--arch", "timm:test_resnet", "--arch-args", '{"num_classes": 4}')
    return Made(folder / "model_best.pth.tar", model, picture(), arch)


def timm_folder(folder: Path) -> Made:
    """A folder as timm pushes it to a hub."""
    from safetensors.torch import save_file

    timm = import_with_torchvision("timm")
    model = timm.create_model("test_vit", num_classes=4).eval()
    config = {
        "architecture": "test_vit",
        "num_classes": 4,
        "num_features": model.num_features,
        "pretrained_cfg": {**model.pretrained_cfg, "num_classes": 4},
    }
    (folder / "hub").mkdir()
    (folder / "hub" / "config.json").write_text(json.dumps(config, default=str))
    save_file(model.state_dict(), folder / "hub" / "model.safetensors")
    return Made(folder / "hub", model, picture(160))


def gpt2_folder(folder: Path, **options: object) -> Made:
    """A folder of transformers: GPT-2, whose head is tied to its embedding."""
    transformers = import_with_torchvision("transformers")
    config = transformers.GPT2Config(
        n_layer=2, n_embd=16, n_head=2, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    return _transformers(folder, model, IDS, **options)


def sharded_folder(folder: Path) -> Made:
    """The same in shards."""
    return gpt2_folder(folder, max_shard_size="8KB")


def half_folder(folder: Path) -> Made:
    """The same in bfloat16."""
    made = gpt2_folder(folder)
    shutil.rmtree(made.path)
    return _transformers(folder, made.model.to(torch.bfloat16), IDS)


def vit_folder(folder: Path) -> Made:
    """A folder of transformers: a vision transformer with a classifier."""
    transformers = import_with_torchvision("transformers")
    config = transformers.ViTConfig(
        num_hidden_layers=2,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=32,
        patch_size=8,
    )
    model = transformers.ViTForImageClassification(config).eval()
    return _transformers(folder, model, {"pixel_values": picture()})


def _transformers(folder: Path, model: nn.Module, inputs: dict[str, torch.Tensor], **options: object) -> Made:
    model.save_pretrained(folder / "hf", **options)
    (folder / "hf" / "tokenizer.json").write_text('{"version": "1.0"}')
    return Made(folder / "hf", model, inputs)


def sharded_safetensors(folder: Path) -> Made:
    """Plain shards with an index, and no configuration."""
    made = sharded_folder(folder)
    config = folder / "config.json"
    (made.path / "config.json").rename(config)
    index = made.path / "model.safetensors.index.json"
    return Made(index, made.model, made.inputs, ("--arch", f"hf:{config}"))


def lightning_checkpoint(folder: Path) -> Made:
    """A checkpoint of Lightning's trainer."""
    model = lightning_network()
    model.load_state_dict(read_checkpoint(GOLDEN / "lightning.ckpt").tensors)
    shutil.copy(GOLDEN / "lightning.ckpt", folder / "last.ckpt")
    x = torch.linspace(-1, 1, 12).view(3, 4)
    return Made(folder / "last.ckpt", model.eval(), x, ("--arch", "every_format:lightning_network"))


def lightning_network() -> nn.Sequential:
    """The network that was trained there."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def whole_pickle(folder: Path) -> Made:
    """A pickle of a whole model."""
    model = Whole().eval()
    torch.save(model, folder / "whole.pt")
    return Made(folder / "whole.pt", model, picture(8), ("--unsafe-pickle",))


FORMATS: dict[str, Callable[[Path], Made]] = {
    "torchvision state dict": torchvision_state,
    "legacy state dict": legacy_state,
    "timm training checkpoint": timm_training,
    "timm folder": timm_folder,
    "ViT folder": vit_folder,
    "GPT-2 folder": gpt2_folder,
    "sharded GPT-2 folder": sharded_folder,
    "GPT-2 folder in bfloat16": half_folder,
    "sharded safetensors": sharded_safetensors,
    "Lightning checkpoint": lightning_checkpoint,
    "whole-module pickle": whole_pickle,
}
