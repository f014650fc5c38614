"""One model of the zoo: where it comes from, how it is built, and what it is called with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SOURCES = ("torchvision", "timm", "transformers")


@dataclass(frozen=True)
class Entry:
    """One line of a source's table.

    Args:
        source: the library that the model comes from.
        name: the model's name there.
        options: the rest of the line; the source's builder knows what it means.
    """

    source: str
    name: str
    options: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The name by which a model is asked for."""
        return f"{self.source}/{self.name}"


@dataclass(frozen=True)
class Sample:
    """What a test needs of one model: how to build it anew, and what to call it with."""

    make: Callable[[], Any]
    inputs: Any


def entries(source: str | None = None) -> list[Entry]:
    """Give the models of one source, or of all; nothing of torch is imported."""
    return [
        Entry(each, line["name"], {key: value for key, value in line.items() if key != "name"})
        for each in ([source] if source else SOURCES)
        for line in _table(each)["models"]
    ]


def find(title: str) -> Entry:
    """Give the model with a title."""
    return next(entry for entry in entries(title.partition("/")[0]) if entry.title == title)


def left_out(source: str) -> dict[str, str]:
    """Give the models that the zoo can't hold, each with the reason."""
    return _table(source)["left_out"] or {}


@cache
def _table(source: str) -> dict[str, Any]:
    path = Path(__file__).with_name(f"{source}.yaml")
    return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
