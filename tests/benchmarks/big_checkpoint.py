"""A checkpoint of any size for benchmarks: its shards are sparse files, so that making it takes no time.

`python -m tests.benchmarks.big_checkpoint FOLDER [--gib 26]` makes one by hand.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import nn

WIDTH, HIDDEN = 8192, 16384
"""Sizes of the layers: their weights are the largest tensors, of 256 MiB each."""
SHARD = 2 << 30
ARCH = "tests.benchmarks.big_checkpoint:Tower"
_BYTES = 2


class Tower(nn.Sequential):
    """Pairs of linear layers with an activation between them, in bfloat16."""

    def __init__(self, pairs: int, width: int = WIDTH, hidden: int = HIDDEN):
        layers: list[nn.Module] = []
        for _ in range(pairs):
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)]
        super().__init__(*layers)
        self.to(torch.bfloat16)


def pairs_for(size: int) -> int:
    """Say how many pairs of layers have at least so many bytes."""
    return -(-size // (2 * WIDTH * HIDDEN * _BYTES))


def shapes(pairs: int) -> dict[str, tuple[int, ...]]:
    """Give the tensors of a tower by name."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Tower(pairs).state_dict().items()}


def make(folder: Path, pairs: int, shard: int = SHARD) -> int:
    """Write the checkpoint of a tower, all zeros, in shards with an index; give its bytes."""
    folder.mkdir(parents=True)
    parts: list[dict[str, tuple[int, ...]]] = [{}]
    room = shard
    for name, shape in shapes(pairs).items():
        size = _size(shape)
        if parts[-1] and size > room:
            parts.append({})
            room = shard
        parts[-1][name] = shape
        room -= size
    files = [f"model-{number:05}-of-{len(parts):05}.safetensors" for number in range(1, len(parts) + 1)]
    total = sum(_write_sparse(folder / file, part) for file, part in zip(files, parts, strict=True))
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: file for file, part in zip(files, parts, strict=True) for name in part},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def _write_sparse(path: Path, tensors: dict[str, tuple[int, ...]]) -> int:
    header, offset = {}, 0
    for name, shape in tensors.items():
        header[name] = {
            "dtype": "BF16",
            "shape": list(shape),
            "data_offsets": [offset, offset + _size(shape)],
        }
        offset += _size(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
    return offset


def _size(shape: tuple[int, ...]) -> int:
    count = _BYTES
    for each in shape:
        count *= each
    return count


def main() -> None:
    """Make a checkpoint of the size that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gib", type=float, default=26.0)
    given = parser.parse_args()
    pairs = pairs_for(int(given.gib * 2**30))
    size = make(given.folder, pairs)
    print(f"{size / 2**30:.1f} GiB; --arch {ARCH} --arch-args '{{\"pairs\": {pairs}}}'")


if __name__ == "__main__":
    main()
