"""Drawing a layer anew for the inputs that it gets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import nn

from bioconvert.core.change import Site
from bioconvert.core.errors import Refused
from bioconvert.core.random import Stream
from bioconvert.layers.starting_values import fresh_values, mean_norm
from bioconvert.replacements.calibrated import row_indices
from bioconvert.replacements.linear_map import by_unit, mapped, rows_of, squared_norms, weight_of

PURPOSE = "fresh weight"


@dataclass
class Fresh:
    """Finds all tensors of a layer by the recipe of :func:`bioconvert.layers.initialise`.

    Args:
        site: tells the layer's name and the seed, which decide its weight's directions.
    """

    site: Site
    _scores: list[torch.Tensor] = field(default_factory=list)
    _norms: list[torch.Tensor] = field(default_factory=list)

    def target(self, layer: nn.Module, outputs: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Keep nothing: what the original gave plays no part."""
        return outputs.new_empty(0)

    def observe(self, layer: nn.Module, inputs: torch.Tensor, outputs: torch.Tensor) -> None:  # noqa: ARG002
        """Take note of some inputs, or patches of them."""
        scores = by_unit(layer, mapped(layer, inputs.float(), self._directions(layer)))
        picked = row_indices(scores.shape[0], inputs.shape[0])
        self._scores.append(scores[picked])
        self._norms.append(squared_norms(layer, inputs)[picked])

    def solve(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        """Give ``weight``, ``bias``, ``epsilon``, ``alpha`` and ``offset``.

        Raises:
            Refused: too few samples, or values that aren't finite.
        """
        scores, norms = torch.cat(self._scores), torch.cat(self._norms)
        if scores.shape[0] < 2:
            raise Refused("it was given fewer than two inputs in the sample data")
        if not bool(scores.isfinite().all() and norms.isfinite().all()):
            raise Refused("its inputs on the sample data are not finite")
        directions = self._directions(layer)
        rows = rows_of(layer, directions)
        values = fresh_values(rows, scores, norms)
        scale = math.sqrt(mean_norm(norms, rows.shape[1]) / rows.shape[1])
        return {
            "weight": directions * scale,
            "bias": values.bias,
            "epsilon": torch.full((1,), values.epsilon, device=scores.device),
            "alpha": values.alpha,
            "offset": values.offset,
        }

    def _directions(self, layer: nn.Module) -> torch.Tensor:
        weight = weight_of(layer)
        drawn = Stream(self.site.seed, self.site.path).normal(PURPOSE, tuple(weight.shape))
        return drawn.to(weight.device)
