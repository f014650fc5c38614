"""Fingerprints of models: hashes of their tensors' names and shapes; nothing here needs torch.

What varies among checkpoints of one model is left out: the counters of batch normalization, which old files
lack, and, where only the body counts, the head, which is exchanged for other numbers of classes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

Shapes = Mapping[str, Sequence[int]]
_COUNTER = "num_batches_tracked"
_DIGITS = 12
"""Hexadecimal digits kept of a hash: 48 bits tell some thousand models apart."""
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is kept of a model.

    Args:
        model: its architecture, as ``--arch`` takes it.
        count: number of its tensors.
        heads: beginnings of the names of its last layers, whose size is the number of classes.
        classes: name of a tensor whose first dimension is the number of classes; empty where there is none.
        whole: hash of all names and shapes.
        body: hash of those outside the heads.
        head: hash of those in the heads, without first dimensions.
        names: hash of the names, where any number stands for any other.
    """

    model: str
    count: int
    heads: tuple[str, ...]
    classes: str
    whole: str
    body: str
    head: str
    names: str

    @classmethod
    def of_row(cls, row: Sequence[object]) -> Fingerprint:
        """Read it from a row of a table."""
        model, count, heads, *rest = row
        return cls(model, count, tuple(heads), *rest)  # type: ignore[arg-type]

    def row(self) -> list[object]:
        """Give it as a row of a table."""
        return [list(value) if isinstance(value, tuple) else value for value in astuple(self)]


def fingerprint(model: str, shapes: Shapes, *, heads: Sequence[str] = (), classes: str = "") -> Fingerprint:
    """Take a model's fingerprint."""
    return Fingerprint(
        model,
        len(telling(shapes)),
        tuple(heads),
        classes,
        hash_of(shapes),
        body_hash(shapes, heads),
        head_hash(shapes, heads),
        names_hash(shapes),
    )


def telling(shapes: Shapes) -> Shapes:
    """Leave out the tensors that tell nothing."""
    return {name: shape for name, shape in shapes.items() if not name.endswith(_COUNTER)}


def hash_of(shapes: Shapes) -> str:
    """Hash names and shapes."""
    return _hash(f"{name} {list(shape)}" for name, shape in telling(shapes).items())


def body_hash(shapes: Shapes, heads: Sequence[str]) -> str:
    """Hash the names and shapes outside some heads."""
    return hash_of({name: shape for name, shape in shapes.items() if not name.startswith(tuple(heads))})


def head_hash(shapes: Shapes, heads: Sequence[str]) -> str:
    """Hash names and shapes in some heads, but for the first dimension."""
    inside = {name: shape[1:] for name, shape in shapes.items() if name.startswith(tuple(heads))}
    return hash_of(inside) if inside else ""


def names_hash(names: Iterable[str]) -> str:
    """Hash the set of names, where any number stands for any other: models of other depths agree."""
    kept = {_NUMBER.sub("#", name) for name in names if not name.endswith(_COUNTER)}
    return _hash(kept)


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
