"""What is left of a branch when it goes: the layers around it take over what they can of what it gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import Refused
from bioconvert.graph.flow import Graphs
from bioconvert.graph.grown import grown_names
from bioconvert.graph.receivers import has_units_or_columns, layers_behind
from bioconvert.graph.session import sweep
from bioconvert.graph.tree import ModuleTree
from bioconvert.organism.collective import insist_on_agreement
from bioconvert.organism.merging import first_floating
from bioconvert.organism.node import Node, branches_of
from bioconvert.organism.record import Record
from bioconvert.organism.refit import check_linear, is_dense, refit
from bioconvert.organism.refit_samples import Batch, Seen, outputs_on, seen_by


def prune_refitting(
    model: nn.Module,
    host: Node,
    remove: Callable[[], object],
    batches: Sequence[Batch],
    *,
    last: bool,
    strength: float | None,
) -> dict[str, Record]:
    """Remove a branch or a block, and let other layers take over what they can of it.

    Where the host's output is just what its last layer gives, that layer gets the mean of what the branch
    gave into its bias, and by ridge regression what its own inputs tell of the rest. Then the linear layers
    behind the host are fitted to what they gave before.

    Args:
        model: the model.
        host: the block, or the one that the branch stands beside.
        remove: removes it.
        batches: samples that the model runs on.
        last: whether the host's last layer takes part.
        strength: that of the ridge; by default chosen from the data.

    Returns:
        What became of each layer that takes over, by its dotted name.
    """
    names = {id(place.module): place.name for place in ModuleTree(model).modules()}
    closing = _last_layer(model, host, batches[0]) if last else None
    behind = _behind(model, host)
    before = seen_by(model, [*behind, host], batches)
    remove()
    found: dict[str, Record] = {}
    for layer in [*([] if closing is None else [closing]), *behind]:
        now = seen_by(model, {layer: None, host: None}, batches)
        targets = (
            before[layer].outputs if layer is not closing else _targets(now[layer], before[host], now[host])
        )
        fits = _fits(model, layer, now[layer], targets)
        # A process in which it doesn't would leave the others waiting for its samples.
        insist_on_agreement((names[id(layer)], fits), "which layers take over")
        if fits:
            found[names[id(layer)]] = asdict(refit(layer, now[layer].inputs, targets, strength))
    return found


def _targets(layer: Seen, before: Seen, now: Seen) -> list[torch.Tensor]:
    """Give what the last layer of a host should give, so that the host gives what it did."""
    given = zip(layer.outputs, before.outputs, now.outputs, strict=True)
    return [y + (old - new) for y, old, new in given]


def _fits(model: nn.Module, layer: nn.Module, seen: Seen, targets: Sequence[torch.Tensor]) -> bool:
    """Say whether a layer is free to change, was used once for each target and is linear in its input."""
    if not seen.inputs or [y.shape for y in seen.outputs] != [y.shape for y in targets]:
        return False
    if not _is_free(ModuleTree(model), layer):
        return False
    try:
        check_linear(layer, seen.inputs[0], seen.outputs[0])
    except Refused:
        return False
    return True


def _behind(model: nn.Module, host: Node) -> list[nn.Module]:
    """Give the layers that take a node's output; none where that can't be told."""
    graphs = Graphs(ModuleTree(model))
    found: list[nn.Module] = []

    def look() -> None:
        try:
            found.extend(layers_behind(host, graphs, has_units_or_columns))
        except Refused:
            return

    sweep(look)
    return found


def _last_layer(model: nn.Module, host: Node, batch: Batch) -> nn.Module | None:
    """Find the layer of a node whose output is the node's own, untouched."""
    grown = {id(each) for branch in branches_of(host).values() for each in branch.modules()}
    inside = [each for each in host.modules() if id(each) not in grown and is_dense(each)]
    given: dict[nn.Module, tuple[torch.Tensor, int]] = {}
    found: list[nn.Module] = []

    def gave(layer: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
        if isinstance(output, torch.Tensor):
            given[layer] = output, output._version

    def ended(module: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
        y = first_floating(output)
        same = (each for each, (own, version) in given.items() if own is y and own._version == version)
        found.extend(same)

    handles = [each.register_forward_hook(gave) for each in inside] + [host.register_forward_hook(ended)]
    try:
        with torch.no_grad(), _without_branches(host):
            for _ in outputs_on(model, [batch]):
                pass
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if len(found) == 1 else None


@contextmanager
def _without_branches(host: Node) -> Iterator[None]:
    """Let a node give what it gives by itself, for a while."""
    records: list[Record] = [branch.block.node_record for branch in branches_of(host).values()]  # type: ignore[misc]
    flags = [record["active"] for record in records]
    for record in records:
        record["active"] = False
    try:
        yield
    finally:
        for record, flag in zip(records, flags, strict=True):
            record["active"] = flag


def _is_free(tree: ModuleTree, layer: nn.Module) -> bool:
    """Say whether a layer's values may change: no other module holds them, and it has no branches itself."""
    held = Counter(id(p) for place in tree.modules() for p in place.module._parameters.values())
    own = [p for p in layer._parameters.values() if p is not None]
    once = len(tree.places_of(layer)) == 1 and all(held[id(p)] == 1 for p in own)
    return is_dense(layer) and once and not grown_names(layer)
