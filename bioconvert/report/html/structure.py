"""The modules before and after as one tree, repeated branches folded into one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from bioconvert.report.fold import fold
from bioconvert.report.text import shape, short
from bioconvert.report.tree import TensorLine

if TYPE_CHECKING:
    from bioconvert.surgery.costs import CostChange, ModuleCosts

NODES = 400
"""Branches that a page shows at most."""
_DEEPEST = 48
"""Segments that a name is split into at most."""
_TENSORS = 3
"""Tensors of one module that are named at most."""
_FIRST = ("weight", "bias")


@dataclass(frozen=True, slots=True)
class Node:
    """One module, or several that are alike.

    Args:
        name: its name in the module above, those of several as one.
        count: how many.
        was: class before; empty where it wasn't there or isn't known.
        now: class after; likewise.
        change: ``"same"``, ``"changed"``, ``"added"``, ``"removed"``, or ``"inside"`` where only something in
            it changed.
        before: parameters in it before, of each.
        after: parameters in it after, of each.
        holds: its own tensors with their shapes.
        children: what is in it.
    """

    name: str
    count: int
    was: str
    now: str
    change: str
    before: int
    after: int
    holds: str
    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Structure:
    """A model's modules.

    Args:
        root: the model itself.
        left_out: modules that are not shown.
        with_classes: whether classes are known.
    """

    root: Node
    left_out: int
    with_classes: bool


@dataclass(slots=True)
class _Branch:
    was: str = ""
    now: str = ""
    there: list[bool] = field(default_factory=lambda: [False, False])
    own: list[int] = field(default_factory=lambda: [0, 0])
    holds: list[TensorLine] = field(default_factory=list)
    children: dict[str, _Branch] = field(default_factory=dict)


def structure_of(costs: CostChange, tensors: Iterable[TensorLine]) -> Structure:
    """Make the tree of a model, before and after."""
    after = costs.before if costs.after is None else costs.after
    root = _Branch()
    for side, modules in enumerate((costs.before.modules, after.modules)):
        for module in modules:
            _enter(root, module, side)
    for line in tensors:
        _hold(root, line)
    budget = _Budget(NODES)
    node = _made("", 1, root, budget)
    return Structure(node, budget.left_out, any(m.kind for m in (*costs.before.modules, *after.modules)))


def _enter(root: _Branch, module: ModuleCosts, side: int) -> None:
    branch = _at(root, module.path)
    branch.there[side] = True
    branch.own[side] += module.parameters
    if side:
        branch.now = module.kind
    else:
        branch.was = module.kind


def _hold(root: _Branch, line: TensorLine) -> None:
    path, _, leaf = line.name.rpartition(".")
    _at(root, path).holds.append(TensorLine(leaf, line.dtype, line.shape))


def _at(root: _Branch, path: str) -> _Branch:
    branch = root
    for segment in path.split(".", _DEEPEST) if path else ():
        child = branch.children.get(segment)
        if child is None:
            child = branch.children[segment] = _Branch()
        branch = child
    return branch


@dataclass(slots=True)
class _Budget:
    left: int
    left_out: int = 0


def _made(name: str, count: int, branch: _Branch, budget: _Budget) -> Node:
    budget.left -= 1
    children = []
    for names, child in _folded(branch.children):
        if budget.left > 0:
            children += [_made(found.text, len(found.names), child, budget) for found in fold(names)]
        else:
            budget.left_out += len(names)
    before, after = (_total(branch, side) for side in (0, 1))
    return Node(
        short(name),
        count,
        short(branch.was),
        short(branch.now),
        _change(branch),
        before,
        after,
        _held(branch.holds),
        tuple(children),
    )


def _folded(children: Mapping[str, _Branch]) -> list[tuple[list[str], _Branch]]:
    """Give the children with those that are alike together."""
    alike: dict[object, list[str]] = {}
    for name, child in children.items():
        alike.setdefault(_signature(child), []).append(name)
    return [(names, children[names[0]]) for names in alike.values()]


def _signature(branch: _Branch) -> object:
    holds = tuple((line.name, line.shape) for line in branch.holds)
    inside = tuple((name, _signature(child)) for name, child in branch.children.items())
    return branch.was, branch.now, tuple(branch.there), tuple(branch.own), holds, inside


def _total(branch: _Branch, side: int) -> int:
    return branch.own[side] + sum(_total(child, side) for child in branch.children.values())


def _change(branch: _Branch) -> str:
    was_there, is_there = (_is_there(branch, side) for side in (0, 1))
    if not was_there:
        return "added"
    if not is_there:
        return "removed"
    if branch.was != branch.now:
        return "changed"
    own_differs = branch.own[0] != branch.own[1]
    if own_differs or any(_change(child) != "same" for child in branch.children.values()):
        return "inside"
    return "same"


def _is_there(branch: _Branch, side: int) -> bool:
    return branch.there[side] or any(_is_there(child, side) for child in branch.children.values())


def _importance(line: TensorLine) -> tuple[int, int, str]:
    return (_FIRST.index(line.name) if line.name in _FIRST else len(_FIRST), -prod(line.shape), line.name)


def _held(lines: Iterable[TensorLine]) -> str:
    lines = sorted(lines, key=_importance)
    named = [f"{short(line.name)} {shape(line.shape)}".strip() for line in lines[:_TENSORS]]
    return ", ".join(named) + (f", and {len(lines) - _TENSORS} more" if len(lines) > _TENSORS else "")
