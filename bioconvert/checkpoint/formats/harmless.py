"""Plain values that training checkpoints keep beside their weights, read without calling what a pickle names.

torch's safe loader knows tensors and containers. A checkpoint of Lightning, or of a script with argparse,
names some more classes that only hold data. Each has a stand-in here; what a pickle names is never imported.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import numpy as np
from torch import serialization

_NUMBERS = frozenset({"b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8"})


class _NumpyType:
    """A number format of numpy: its code and byte order."""

    def __init__(self, code: str, *_: object):
        if not isinstance(code, str) or code not in _NUMBERS:
            raise ValueError("a number format of numpy is none of plain numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def plain(self) -> np.dtype[Any]:
        """Give numpy's own."""
        return np.dtype(self.order + self.code)

    def __reduce__(self) -> tuple[Any, ...]:
        # Kept in a training dict that is written again, it is to be what it was.
        return cast("tuple[Any, ...]", self.plain().__reduce__())


def _number(form: _NumpyType, raw: bytes | str) -> Any:
    """Give a scalar of numpy as Python's own number: every program can read that back."""
    content = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(content, dtype=form.plain(), count=1)[0].item()


def _plain_dict(*_: object) -> dict[Any, Any]:
    """Stand in for a dict with a default, which is left out."""
    return {}


class _Text:
    """Stands in for a class of texts. ``str`` itself would print what it is given, which a few nested lists
    make endless."""

    def __new__(cls, text: object = "", *_: object) -> str:  # type: ignore[misc]
        if not isinstance(text, str):
            raise ValueError("a text is none")
        return text


_STAND_INS: dict[str, Callable[..., object]] = {
    "argparse.Namespace": argparse.Namespace,
    "collections.defaultdict": _plain_dict,
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.timedelta": datetime.timedelta,
    "numpy.dtype": _NumpyType,
    "torch.torch_version.TorchVersion": _Text,
    **{f"builtins.{kind.__name__}": kind for kind in (bool, dict, float, int, list, tuple)},
    **{f"{module}.multiarray.scalar": _number for module in ("numpy.core", "numpy._core")},
    **{
        f"{module}.AttributeDict": dict
        for module in (
            "lightning.fabric.utilities.data",
            "lightning.pytorch.utilities.parsing",
            "lightning_fabric.utilities.data",
            "pytorch_lightning.utilities.parsing",
        )
    },
    **{
        f"{module}.{name}": pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    },
}
NAMES = frozenset(_STAND_INS)
"""Classes and functions that a pickle may name without being refused."""


def harmless_globals() -> AbstractContextManager[None]:
    """Let torch's safe loader read these values while the context lasts."""
    return serialization.safe_globals([(stand_in, name) for name, stand_in in _STAND_INS.items()])
