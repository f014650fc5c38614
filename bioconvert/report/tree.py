"""The tensors of a checkpoint as a tree of their dotted names, repeated branches folded into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod

from rich.text import Text
from rich.tree import Tree

from bioconvert.report.fold import fold
from bioconvert.report.text import amount, shape, short

_DEEPEST = 64
"""Segments a name is split into at most: a hostile name of ten thousand dots must not exhaust the stack."""


@dataclass(frozen=True, slots=True)
class TensorLine:
    """One tensor as a header describes it.

    Args:
        name: its dotted name.
        dtype: its data type, in the file's own word (``"F32"``).
        shape: its sizes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class _Branch:
    tensors: dict[str, TensorLine] = field(default_factory=dict)
    children: dict[str, _Branch] = field(default_factory=dict)


def checkpoint_tree(tensors: Iterable[TensorLine], *, title: str, depth: int | None = None) -> Tree:
    """Draw the tensors as a tree.

    Args:
        tensors: what the checkpoint holds.
        title: the root's text.
        depth: levels of names to show; deeper branches are summed up. ``None`` shows all.
    """
    lines = list(tensors)
    root = _grow(lines)
    usual = max(Counter(line.dtype for line in lines).items(), key=lambda item: item[1], default=("", 0))[0]
    tree = Tree(_branch_text(title, 1, root, usual, closed=False), guide_style="dim")
    _draw(tree, root, usual, _DEEPEST if depth is None else depth)
    return tree


def _grow(lines: Iterable[TensorLine]) -> _Branch:
    root = _Branch()
    for line in lines:
        *path, leaf = line.name.split(".", _DEEPEST)
        branch = root
        for segment in path:
            branch = branch.children.setdefault(segment, _Branch())
        branch.tensors[leaf] = line
    return root


def _draw(tree: Tree, branch: _Branch, usual: str, depth: int) -> None:
    for name, count, child in _folded_children(branch):
        label, inner = _joined(name, child)
        closed = depth <= 1
        twig = tree.add(_branch_text(label, count, inner, usual, closed=closed))
        if not closed:
            _draw(twig, inner, usual, depth - 1)


def _folded_children(branch: _Branch) -> list[tuple[str, int, _Branch]]:
    """Give the children, those of equal content as one, each with its name and their number."""
    alike: dict[object, list[str]] = {}
    for name, child in branch.children.items():
        alike.setdefault(_signature(child), []).append(name)
    folded = [found for names in alike.values() for found in fold(names)]
    order = {name: position for position, name in enumerate(branch.children)}
    folded.sort(key=lambda found: order[found.names[0]])
    return [(found.text, len(found.names), branch.children[found.names[0]]) for found in folded]


def _joined(label: str, branch: _Branch) -> tuple[str, _Branch]:
    """Write a chain of only children as one name."""
    while not branch.tensors and len(branch.children) == 1:
        ((name, branch),) = branch.children.items()
        label = f"{label}.{name}"
    return label, branch


def _branch_text(label: str, count: int, branch: _Branch, usual: str, *, closed: bool) -> Text:
    text = Text(short(label), style="bold")
    if branch.children or count > 1:
        elements = sum(prod(line.shape) for line in _under(branch))
        times = f"{count} × " if count > 1 else ""
        text.append(f"  {times}{amount(elements)}", style="not bold cyan")
    if branch.tensors and not (closed and branch.children):
        text.append(f"  {_own_tensors(branch, usual)}", style="not bold")
    return text


def _own_tensors(branch: _Branch, usual: str) -> str:
    """Name a module's own tensors, those of equal shape and type together."""
    groups: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for name, line in branch.tensors.items():
        groups.setdefault((line.shape, line.dtype), []).append(name)
    return "; ".join(
        ", ".join(short(found.text) for found in fold(names))
        + (f" {shape(sizes)}" if sizes else "")
        + ("" if dtype == usual else f" {short(dtype)}")
        for (sizes, dtype), names in groups.items()
    )


def _signature(branch: _Branch) -> object:
    tensors = tuple((name, line.dtype, line.shape) for name, line in branch.tensors.items())
    return tensors, tuple((name, _signature(child)) for name, child in branch.children.items())


def _under(branch: _Branch) -> Iterator[TensorLine]:
    yield from branch.tensors.values()
    for child in branch.children.values():
        yield from _under(child)
