"""Taking hidden units from the layers of a node, and letting the layers behind them make up for it.

Removal by a unit's worth alone can be worse than by chance, since what is worth most may be the same thing
twice: it is the refit of the layer behind that keeps the function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.families import family_root
from bioconvert.graph.receivers import has_units, has_units_or_columns
from bioconvert.graph.resizing import is_elementwise, resize
from bioconvert.organism.collective import insist_on_agreement
from bioconvert.organism.pruning_hidden import Hidden, hidden_units
from bioconvert.organism.pruning_scores import Loss, Score, scores_of
from bioconvert.organism.refit import Refitted, check_linear, refit
from bioconvert.organism.refit_samples import Batch, Seen, seen_by
from bioconvert.organism.width_state import keep_births

_SIZES = (("out_features", "in_features"), ("out_channels", "in_channels"), ("nf", "nx"))
"""What layers say of the numbers of units and inputs: Linear, convolutions and transformers' Conv1D."""
_PER_UNIT = ("weight", "bias", "running_mean", "running_var")
Optimizers = Iterable[torch.optim.Optimizer]


@dataclass(frozen=True, slots=True)
class PrunedUnits:
    """What became of the hidden units of a layer.

    Args:
        path: dotted name of the layer in its node.
        before: number of units there were.
        after: number of units there are.
        kept: their places among those there were.
        refitted: how well the layer behind gives what it did; ``None`` where it was left alone.
    """

    path: str
    before: int
    after: int
    kept: tuple[int, ...]
    refitted: Refitted | None


@dataclass(frozen=True, slots=True)
class Wish:
    """Which units are to go.

    Args:
        fraction: the share of each layer's units, unless a number is given.
        units: the number of each layer's units.
        by: what decides which.
        seed: decides random ones.
        name: likewise, the node's ``id``.
        loss: what the Taylor score is about.
    """

    fraction: float | None
    units: int | None
    by: Score
    seed: int
    name: str
    loss: Loss | None = None

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.units is None):
            raise OptionError("give either the fraction or the number of units that are to go")
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise OptionError(f"fraction must lie between 0 and 1, not be {self.fraction}")
        if self.units is not None and self.units < 1:
            raise OptionError(f"units must be at least 1, not {self.units}")

    def count(self, hidden: Hidden) -> int:
        """Say how many units of a layer go; one always stays."""
        wanted = self.units if self.units is not None else round((self.fraction or 0) * hidden.count)
        return min(wanted, hidden.count - 1)


def prune_units(
    model: nn.Module,
    node: nn.Module,
    wish: Wish,
    *,
    samples: Sequence[Batch],
    refitting: Sequence[Batch],
    strength: float | None,
    optimizers: Optimizers,
) -> list[PrunedUnits]:
    """Take hidden units from the layers of a node.

    Args:
        model: the model that holds the node.
        node: the node, changed in place.
        wish: which units are to go.
        samples: batches for the scores.
        refitting: batches for the layers behind; without any, these only lose what came from the units.
        strength: that of the ridge; by default chosen from the data.
        optimizers: forget the units, too.

    Raises:
        OptionError: the node has no hidden units that can go, with the reason for each layer.
    """
    hidden = [each for each in hidden_units(model, node) if wish.count(each)]
    if not hidden:
        raise OptionError("no unit is left to go: each layer keeps one")
    before = seen_by(model, {each.receiver: None for each in hidden}, refitting)
    for each in hidden if refitting else ():
        _check_seen(each, before[each.receiver])
    scores = scores_of(model, hidden, wish, samples)
    kept = {each: _kept(each, scores[each], wish) for each in hidden}
    insist_on_agreement({each.path: kept[each].tolist() for each in hidden}, f"units of {wish.name!r}")
    return [
        _prune(model, each, kept[each], before[each.receiver].outputs, refitting, strength, optimizers)
        for each in hidden
    ]


def _check_seen(hidden: Hidden, seen: Seen) -> None:
    if not seen.inputs:
        raise OptionError(f"the layer behind {hidden.path!r} isn't used on the batches of refit")
    try:
        check_linear(hidden.receiver, seen.inputs[0], seen.outputs[0])
    except Refused as reason:
        raise OptionError(f"the layer behind {hidden.path!r} can't be refitted: {reason}") from reason


def _kept(hidden: Hidden, scores: torch.Tensor, wish: Wish) -> torch.Tensor:
    order = scores.argsort(descending=True, stable=True)
    return order[: hidden.count - wish.count(hidden)].sort().values


def _prune(
    model: nn.Module,
    hidden: Hidden,
    kept: torch.Tensor,
    targets: Sequence[torch.Tensor],
    refitting: Sequence[Batch],
    strength: float | None,
    optimizers: Optimizers,
) -> PrunedUnits:
    before = hidden.count
    seen = seen_by(model, [hidden.receiver], refitting)[hidden.receiver].inputs
    columns = hidden.columns(kept)
    _remove(hidden, kept, columns, list(optimizers))
    fitted = None
    if seen:
        dim = -1 if family_root(type(hidden.receiver), "conv") is None else 1
        left = [x.index_select(dim, columns.to(x.device)) for x in seen]
        fitted = refit(hidden.receiver, left, targets, strength)
    return PrunedUnits(hidden.path, before, len(kept), tuple(kept.tolist()), fitted)


def _remove(
    hidden: Hidden, kept: torch.Tensor, columns: torch.Tensor, optimizers: list[torch.optim.Optimizer]
) -> None:
    _cut(hidden.layer, 0, kept, _sizes(hidden.layer, 0, len(kept)), optimizers)
    if hidden.norm is not None:
        _cut(hidden.norm, 0, kept, {"num_features": len(kept)}, optimizers)
    _cut(hidden.receiver, 1, columns, _sizes(hidden.receiver, 1, len(columns)), optimizers)


def _cut(
    module: nn.Module,
    dim: int,
    kept: torch.Tensor,
    attributes: Mapping[str, object],
    optimizers: list[torch.optim.Optimizer],
) -> None:
    """Leave a module some of its units, for 0, or of its inputs, for 1."""
    held = {**module._parameters, **module._buffers}
    names = _PER_UNIT if dim == 0 else ("weight",)
    tensors = {name: tensor for name in names if (tensor := held.get(name)) is not None}
    turned = has_units_or_columns(module) and not has_units(module)
    dims = {name: 1 - dim if turned and name == "weight" else dim for name in tensors}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    cut = {name: _chosen(tensor.detach(), dims[name], kept) for name, tensor in tensors.items()}
    resize(module, cut, attributes)
    for optimizer in optimizers:
        for name, tensor in tensors.items():
            state = optimizer.state.get(tensor, {})
            _cut_state(state, shapes[name], dims[name], kept)
            keep_births(state, dims[name], kept)


def _cut_state(state: dict[str, Any], shape: torch.Size, dim: int, kept: torch.Tensor) -> None:
    """Let an optimizer forget what it knew of the elements that went; all else keeps every bit."""
    for name, value in state.items():
        # A dimension that is 1 in the state, as in Adafactor's, tells of no single unit.
        fits = isinstance(value, torch.Tensor) and is_elementwise(value, shape)
        if fits and value.shape[dim] == shape[dim]:
            state[name] = _chosen(value, dim, kept)


def _chosen(tensor: torch.Tensor, dim: int, kept: torch.Tensor) -> torch.Tensor:
    return tensor.index_select(dim, kept.to(tensor.device))


def _sizes(layer: nn.Module, place: int, size: int) -> dict[str, int]:
    """Give what a layer says of the number of its units, 0, or of its inputs, 1."""
    return {names[place]: size for names in _SIZES if names[place] in vars(layer)}
