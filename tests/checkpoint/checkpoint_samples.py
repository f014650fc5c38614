"""Models and files for the tests of checkpoints."""

from __future__ import annotations

import enum
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

ZIP, LEGACY = True, False


class Plain(nn.Module):
    """A model that is importable and callable without arguments."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.width = width
        self.first = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 2)
        self.register_buffer("mask", torch.arange(8.0), persistent=False)

    def forward(self, x):
        """Run."""
        return self.last(torch.relu(self.norm(self.first(x)) * self.mask))


class Tied(nn.Module):
    """An encoder and a decoder on one weight."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(6, 4)
        self.decoder = nn.Linear(4, 6)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        """Run."""
        return self.decoder(self.encoder(x))


class Shared(nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.other = self.one

    def forward(self, x):
        """Run."""
        return self.other(self.one(x))


class Hidden(nn.Module):
    """A model whose forward depends on a value that no child shows."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        """Run."""
        return self.layer(x) * self.scale


class Demanding(nn.Module):
    """A model that needs an argument."""

    def __init__(self, width: int):
        super().__init__()
        self.layer = nn.Linear(width, width)


class Meddling(nn.Module):
    """A model whose constructor needs values, which the meta device doesn't have."""

    def __init__(self):
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
        self.layers = nn.ModuleList(nn.Dropout(rate) for rate in rates)
        self.layer = nn.Linear(2, 2)


class Acting(nn.Module):
    """A function as an attribute."""

    def __init__(self, act=F.relu):
        super().__init__()
        self.act = act
        self.layer = nn.Linear(2, 2)


class Mode(enum.Enum):
    """How something is pooled."""

    MEAN = 1
    MAX = 2


class Bound(nn.Module):
    """Holds functions that take values along, and one that calls itself."""

    def __init__(self, closed=0.1, default=0.1, partly=0.1, mode=Mode.MEAN):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.closed = lambda x: F.leaky_relu(self.layer(x), closed)
        self.default = lambda x, slope=default: F.leaky_relu(x, slope)
        self.partly = functools.partial(F.leaky_relu, negative_slope=partly)
        self.mode = mode

        def again(depth):
            return again(depth - 1) if depth else closed

        self.again = again


class Apart(nn.Module):
    """Two layers, or one under two names."""

    def __init__(self, shared: bool = False):
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.other = self.one if shared else nn.Linear(2, 2)


class Moody(nn.Module):
    """Can't be built without being asked to."""

    def __init__(self, fails: bool = True):
        super().__init__()
        if fails:
            raise ValueError("not today")


class Biased(nn.Module):
    """Some thousand equal values."""

    def __init__(self, value: float = 0.0):
        super().__init__()
        self.one = nn.Parameter(torch.full((2000,), value))
        self.two = nn.Parameter(torch.full((2000,), value))


def make_demanding(width=3):
    """Make a model by a function without annotations."""
    return Demanding(width)


def make_nothing():
    """Make no model."""
    return 3


def make_unclear() -> NoSuchClass:  # noqa: F821
    """Make a model by a function whose annotation can't be resolved."""
    return Plain()


def make_lacking():
    """Make a model that needs what isn't installed."""
    import lacking

    return lacking.Model()


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Give a small state dict of several number formats and shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "layer.weight": torch.randn(3, 4, generator=generator),
        "layer.bias": torch.randn(3, generator=generator).bfloat16(),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 5),
        "flags": torch.tensor([True, False, True]),
    }


def same_state(one, other) -> bool:
    """Say whether two state dicts hold the same tensors, bit for bit, NaN included."""
    return one.keys() == other.keys() and all(same_tensor(one[name], other[name]) for name in one)


def same_tensor(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Say whether two tensors have the same format, shape and bytes."""
    same_kind = one.dtype == other.dtype and one.shape == other.shape
    return same_kind and raw(one) == raw(other)


def raw(tensor: torch.Tensor) -> bytes:
    """Give the bytes of a tensor."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    """Give a safetensors file of any header, as text, bytes or an object."""
    text = header if isinstance(header, (bytes, str)) else json.dumps(header)
    encoded = text.encode() if isinstance(text, str) else text
    return len(encoded).to_bytes(8, "little") + encoded + data


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    """Give the description of a tensor in a safetensors header."""
    as_list = [list(each) if isinstance(each, tuple) else each for each in (shape, offsets)]
    return {"dtype": dtype, "shape": as_list[0], "data_offsets": as_list[1]}


def files_in(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rewrite_zip(source: Path, target: Path, edit: Callable[[str, bytes], bytes | None]) -> None:
    """Copy a zip archive, entry by entry."""
    import zipfile

    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = edit(info.filename, old.read(info.filename))
            if content is not None:
                new.writestr(info.filename, content)
