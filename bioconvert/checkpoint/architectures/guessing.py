"""Which known model a checkpoint may be of, by its tensors' names and shapes: said in errors, never acted on.

The table beside this file holds fingerprints of models of torchvision, timm and transformers, written by
``tests/support/make_known_models.py``. Neither these libraries nor torch are needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bioconvert.checkpoint.architectures.fingerprints import (
    Fingerprint,
    Shapes,
    body_hash,
    hash_of,
    head_hash,
    names_hash,
    telling,
)

_TABLE = Path(__file__).with_name("known_models.json")
_SHOWN = 3
_LARGE_PART = 10
"""Tensors under one name that are looked at by themselves, as a backbone."""


@dataclass(frozen=True, slots=True)
class Known:
    """The known models.

    Args:
        models: those with sizes of their own.
        families: hash of names → classes whose sizes a configuration says.
    """

    models: tuple[Fingerprint, ...]
    families: Mapping[str, tuple[str, ...]]

    @property
    def heads(self) -> set[tuple[str, ...]]:
        """Every way in which names of heads begin."""
        return {each.heads for each in self.models if each.heads}


def looks_like(shapes: Shapes) -> str:
    """Say of which model some tensors seem to be and what to try, as a sentence; empty where of none known.

    Args:
        shapes: name → shape.

    Example:
        >>> looks_like({"classifier.weight": (2, 3)})
        ''
    """
    if not telling(shapes):
        return ""
    return next(_sentences(shapes), "")


@lru_cache(maxsize=1)
def known_models() -> Known:
    """Read the table."""
    table = json.loads(_TABLE.read_text(encoding="ascii"))
    families: dict[str, tuple[str, ...]] = {}
    for name, hashes in table["families"]:
        for each in hashes:
            families[each] = (*families.get(each, ()), name.removeprefix("hf:"))
    return Known(tuple(map(Fingerprint.of_row, table["models"])), families)


def _sentences(shapes: Shapes) -> Iterator[str]:
    """Give what can be said, the most certain first."""
    yield from _whole(shapes)
    yield from _but_for_the_head(shapes)
    yield from _class_of_transformers(shapes)
    for name, part in _large_parts(shapes):
        inner = next((found for found in (_named(part, ()), *_by_body(part)) if found), ())
        if inner:
            yield (
                f"What lies under {name!r} looks like {_listed(inner)}: --arch must name the class or "
                "function that builds the whole model, as package.module:callable"
            )
    yield from _other_sizes(shapes)


def _whole(shapes: Shapes) -> Iterator[str]:
    found = _named(shapes, ())
    if found:
        count = len(telling(shapes))
        agree = f"all {count} names and shapes agree"
        yield f"It looks like {_listed(found)} ({agree}); try --arch {found[0].model}"


def _but_for_the_head(shapes: Shapes) -> Iterator[str]:
    for found in _by_body(shapes):
        first = found[0]
        classes = shapes.get(first.classes)
        if classes and head_hash(shapes, first.heads) == first.head:
            yield (
                f"It looks like {_listed(found)} with {classes[0]} classes (all else agrees); try --arch "
                f"{first.model} --arch-args '{{\"num_classes\": {classes[0]}}}'"
            )
        elif not any(name.startswith(first.heads) for name in shapes):
            yield (
                f"It looks like {_listed(found)} without its head (all else agrees); try --arch "
                f"{first.model} --arch-args '{{\"num_classes\": 0}}'"
            )
        else:
            yield (
                f"It looks like {_listed(found)} with another head (all names and shapes agree but for those "
                f"that begin with {' or '.join(first.heads)}); --arch must name what builds it with that head"
            )


def _class_of_transformers(shapes: Shapes) -> Iterator[str]:
    names = known_models().families.get(names_hash(shapes), ())
    if names:
        shown = " or ".join(names[:_SHOWN])
        yield (
            f"The names are those of transformers' {shown}; put the model's config.json beside the weights, "
            "or try --arch hf:CONFIG with the path of one"
        )


def _other_sizes(shapes: Shapes) -> Iterator[str]:
    given, count = names_hash(shapes), len(telling(shapes))
    found = [each for each in known_models().models if each.names == given]
    if found:
        nearest = sorted(found, key=lambda each: abs(each.count - count))
        yield f"The names are those of {_listed(nearest)}, but shapes or the number of layers differ"


def _named(shapes: Shapes, heads: Sequence[str]) -> tuple[Fingerprint, ...]:
    """Find the models of which all agrees, or all but the heads."""
    if not heads:
        given = hash_of(shapes)
        return tuple(each for each in known_models().models if each.whole == given)
    given = body_hash(shapes, heads)
    found = [each for each in known_models().models if each.heads == tuple(heads) and each.body == given]
    # Of models that differ in nothing but the head, the one whose head fits comes first.
    return tuple(sorted(found, key=lambda each: head_hash(shapes, each.heads) != each.head))


def _by_body(shapes: Shapes) -> Iterator[tuple[Fingerprint, ...]]:
    for heads in sorted(known_models().heads):
        found = _named(shapes, heads)
        if found:
            yield found


def _large_parts(shapes: Shapes) -> Iterator[tuple[str, Shapes]]:
    parts: dict[str, dict[str, Sequence[int]]] = {}
    for name, shape in shapes.items():
        first, separator, rest = name.partition(".")
        if separator:
            parts.setdefault(first, {})[rest] = shape
    for name in sorted(parts, key=lambda name: -len(parts[name])):
        if len(parts[name]) >= _LARGE_PART:
            yield name, parts[name]


def _listed(found: Sequence[Fingerprint]) -> str:
    names = [each.model for each in found[:_SHOWN]]
    return " or ".join(names) + (f" or {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
