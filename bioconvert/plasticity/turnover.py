r"""Replacing single synapses: small ones go, by chance, and new ones take their place.

A law says with what chance :math:`p` a weight is replaced, and what a number :math:`v`, uniform in
:math:`(0, 1)`, makes of it. One uniform number :math:`u` for each weight decides both: it goes where
:math:`u < p`, and :math:`v = 1 - u / p` is then uniform again. So what becomes of a weight depends on no
other's number.
"""

from __future__ import annotations

from typing import Any

import torch

from bioconvert.plasticity.layout import flat, size_in
from bioconvert.plasticity.optimizer_moments import AVERAGES, MOMENTS, flat_moments
from bioconvert.plasticity.part import PIECE
from bioconvert.plasticity.synapses import Synapses
from bioconvert.plasticity.turnover_laws import Law

_FINEST = 2.0**-23
"""Between two uniform numbers."""


def replace_synapses(synapses: Synapses, law: Law, state: dict[str, Any], *, step: int) -> int:
    """Replace weights of a parameter by a law, and clear what the optimizer keeps of them.

    Args:
        synapses: the parameter.
        law: the law.
        state: what the optimizer keeps of the parameter.
        step: decides, with seed, name and position, the random numbers.

    Returns:
        The number of weights replaced, of those that this process holds.
    """
    weight, extent, replaced = flat(synapses.weight), synapses.extent, 0
    room = torch.empty(3, min(PIECE, weight.numel()), device=weight.device)
    forgotten = AVERAGES if law.keeps_scale else MOMENTS
    with flat_moments(state, synapses.weight, forgotten) as moments:
        for done in range(0, weight.numel(), PIECE):
            piece = weight[done : done + PIECE]
            uniform, size, margin = room[:, : len(piece)]
            synapses.stream.fill_uniform(
                uniform, "rejuvenate", step=step, start=extent.start + done, total=extent.total
            )
            where, values = _replacements(piece, uniform, law, size, margin)
            piece.index_copy_(0, where, values.to(piece.dtype))
            if law.bounds is not None:
                piece.clamp_(*law.bounds)
            for moment in moments:
                moment[done : done + PIECE].index_fill_(0, where, 0)
            replaced += len(where)
    return replaced


def _replacements(
    weight: torch.Tensor, uniform: torch.Tensor, law: Law, size: torch.Tensor, margin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Say which weights of a piece go, and what takes their place; the last two are rooms to work in."""
    chance = law.chance(size_in(size, weight))
    # By how much a weight goes, and 0 where it stays: a comparison takes several times as long (measured).
    where = torch.sub(chance, uniform, out=margin).relu_().nonzero().view(-1)
    v = uniform.index_select(0, where).add_(_FINEST / 2)
    # The other way round: where u is near p, the rounding of p counts, and small weights bear that best.
    v.div_(chance.index_select(0, where)).neg_().add_(1).clamp_(_FINEST / 2, 1 - _FINEST)
    return where, law.fresh(v, weight.index_select(0, where).float())
