"""The steps of a conversion beyond the modules themselves, in an order that can be undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from bioconvert.core.change import Change
from bioconvert.core.random import Stream
from bioconvert.graph.edits import Edit
from bioconvert.graph.flow import Graphs
from bioconvert.surgery.drops import DROPPED, Drops, arrange
from bioconvert.surgery.elsewhere import merged
from bioconvert.surgery.morphing import on_the_way
from bioconvert.surgery.operations import Operation
from bioconvert.surgery.owners import Owning
from bioconvert.surgery.step import Step
from bioconvert.surgery.steps import (
    NO_STREAM,
    answer,
    carry_out,
    freeze,
    redirect,
    rewrite,
    tied_parameters,
    undo,
)


@dataclass
class StepLog:
    """The steps that were done, in that order, each with its module."""

    done: list[tuple[nn.Module, Step]] = field(default_factory=list)

    def carry_out(
        self,
        module: nn.Module,
        change: Change,
        step: Step,
        *,
        stream: Stream = NO_STREAM,
        values: Mapping[str, torch.Tensor] | None = None,
    ) -> Step:
        """Change a module."""
        done = carry_out(module, change, step, stream=stream, values=values)
        self.done.append((module, done))
        return done

    def rewrite(self, container: nn.Module, edits: Iterable[Edit], rule: str) -> Step:
        """Give a container a forward of its own."""
        done = rewrite(container, edits, rule=rule)
        self.done.append((container, done))
        return done

    def redirect(self, container: nn.Module, owned: Sequence[tuple[Owning, nn.Module]], rule: str) -> None:
        """Let layers answer for their weights in a container."""
        paths = {own.path: own.called for own, _ in owned if own.borrow is None}
        borrowers = {own.borrow: layer for own, layer in owned if own.borrow is not None}
        self.done.append((container, redirect(container, paths, borrowers, rule=rule)))

    def answer(self, layer: nn.Module, rule: str) -> None:
        """Let a layer compute undisturbed where it answers for its weight."""
        self.done.append((layer, answer(layer, rule=rule)))

    def undo_all(self) -> None:
        """Undo all steps, the last one first."""
        while self.done:
            undo(*self.done.pop())


def _arranged(operations: Iterable[Operation], graphs: Graphs) -> Drops:
    return arrange([o.drop for o in operations if o.drop is not None], graphs)


def rewritten_containers(operations: Iterable[Operation], graphs: Graphs) -> list[nn.Module]:
    """Give the containers that need a forward of their own."""
    return [container for container, _, _ in _arranged(operations, graphs).rewrites]


def drop_followers(operations: Iterable[Operation], graphs: Graphs, log: StepLog) -> None:
    """Leave out what replaced layers make superfluous."""
    arranged = _arranged(operations, graphs)
    if not (arranged.modules or arranged.rewrites):
        return
    tied = tied_parameters(graphs.tree.model)
    for drop in arranged.modules:
        change, morph = DROPPED, None
        if drop.fading:
            change, morph = on_the_way(drop.module, DROPPED, drop.fading, drop.device)
        step = log.carry_out(drop.module, change, Step(drop.rule, "drop", "Dropped", morph=morph))
        if not drop.used:
            freeze(drop.module, step, tied)
    for container, edits, rule in arranged.rewrites:
        step = log.rewrite(container, edits, rule)
        if container in arranged.idle:
            freeze(container, step, tied)


def change_others(operations: Iterable[Operation], log: StepLog, seed: int) -> None:
    """Do to other modules what converted ones need."""
    rules = {each: operation.rule for operation in operations for each in operation.elsewhere}
    by_module = {each.module: rule for each, rule in reversed(rules.items())}
    for each in merged(rules):
        step = Step(by_module[each.module], "serve", each.change.summary)
        log.carry_out(each.module, each.change, step, stream=Stream(seed, each.path))


def own_layers(operations: Iterable[Operation], log: StepLog) -> None:
    """Let containers call the layers whose weights they read.

    That comes last, around whatever else becomes of a container's forward.
    """
    redirects: dict[nn.Module, tuple[list[tuple[Owning, nn.Module]], str]] = {}
    classes: dict[nn.Module, tuple[Change, str]] = {}
    answering: dict[nn.Module, str] = {}
    for operation in operations:
        for own in operation.own:
            if own.into is not None:
                classes.setdefault(own.container, (own.change, operation.rule))
                continue
            owned, _ = redirects.setdefault(own.container, ([], operation.rule))
            owned.append((own, operation.module))
            answering[operation.module] = operation.rule
    for layer, rule in answering.items():
        log.answer(layer, rule)
    for container, (change, rule) in classes.items():
        name = change.into.__name__ if change.into is not None else ""
        log.carry_out(container, change, Step(rule, "own", name))
    for container, (found, rule) in redirects.items():
        log.redirect(container, found, rule)
