"""What becomes of other modules for the sake of a converted one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from bioconvert.core.change import Change
from bioconvert.core.errors import Refused
from bioconvert.core.suggest import hint
from bioconvert.surgery.look import Look, class_refusal, refusal
from bioconvert.surgery.step import steps_of
from bioconvert.surgery.steps import conflicts


@dataclass(frozen=True, slots=True, eq=False)
class Elsewhere:
    """What becomes of a module for the sake of another one.

    Args:
        path: its first dotted name.
        module: the module.
        change: what becomes of it.
    """

    path: str
    module: nn.Module
    change: Change


def elsewhere_of(change: Change, look: Look) -> tuple[Elsewhere, ...]:
    """Find the modules that change for the sake of another one.

    Raises:
        Refused: there is none of that name, or it can't change.
    """
    found = []
    for path, other in change.elsewhere.items():
        modules = look.tree.by_name
        if path not in modules:
            raise Refused(f"there is no module {path!r}. {hint(path, modules)}")
        new = _missing(modules[path], other)
        check = class_refusal if new.into is None else refusal
        reason = check(modules[path], look)
        if reason is None and (taken := conflicts(modules[path], new)):
            reason = f"it has {', '.join(taken)} of its own"
        if reason is not None:
            raise Refused(f"{repr(path) if path else 'the model'} must change for it, and can't: {reason}")
        found.append(Elsewhere(look.tree.names_of(modules[path])[0], modules[path], other))
    return tuple(found)


def merged(wanted: Iterable[Elsewhere]) -> Iterator[Elsewhere]:
    """Give one change for each module: what several want alike is done once, and what is done not again."""
    by_module: dict[nn.Module, Elsewhere] = {}
    for each in wanted:
        before = by_module.get(each.module)
        change = each.change if before is None else _joined(before.change, each.change)
        by_module[each.module] = dataclasses.replace(each, change=change)
    for each in by_module.values():
        change = _missing(each.module, each.change)
        if change != Change(summary=change.summary):
            yield dataclasses.replace(each, change=change)


def _joined(one: Change, other: Change) -> Change:
    return dataclasses.replace(
        one,
        into=one.into or other.into,
        attributes={**one.attributes, **other.attributes},
        adds={**other.adds, **one.adds},
        hooks=(*one.hooks, *(hook for hook in other.hooks if hook not in one.hooks)),
        summary="; ".join(dict.fromkeys((*one.summary.split("; "), other.summary))),
    )


def _missing(module: nn.Module, change: Change) -> Change:
    """Leave out of a change what has become of a module already."""
    steps = steps_of(module)
    hooks = [hook for step in steps for hook in step.hooks]
    added = {name for step in steps for name in step.added}
    taken_on = {name for step in steps for name in step.attributes}
    done = change.into is not None and issubclass(type(module), change.into)
    return dataclasses.replace(
        change,
        into=None if done else change.into,
        attributes={name: value for name, value in change.attributes.items() if name not in taken_on},
        adds={name: recipe for name, recipe in change.adds.items() if name not in added},
        hooks=tuple(hook for hook in change.hooks if hook not in hooks),
    )
