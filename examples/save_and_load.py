"""Save a converted model in a folder and load it again."""

import tempfile
from pathlib import Path

import torch
from torch import nn

import bioconvert as bc


def build():
    """Build the original model: what bc.load calls to get the base that it converts again."""
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


torch.manual_seed(0)
model = bc.convert(build(), "yat")
x = torch.randn(5, 16)

with tempfile.TemporaryDirectory() as folder:
    out = Path(folder) / "out"

    # Tensors as safetensors, and a manifest: rules, classes, hashes.
    bc.save(model, out)
    print(sorted(path.name for path in out.iterdir()))

    # For models of timm, torchvision, transformers and classes that need no arguments the manifest knows how
    # to build the base; for any other, as here, pass a function that does.
    loaded = bc.load(out, factory=build)

print("equal outputs:", torch.equal(loaded(x), model(x)))
