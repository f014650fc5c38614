r"""Replacing single synapses: small ones go, by chance, and new ones take their place.

A law says with what chance :math:`p` a weight is replaced, and what a number :math:`v`, uniform in
:math:`(0, 1)`, makes of it. One uniform number :math:`u` for each weight decides both: it goes where
:math:`u < p`, and :math:`v = u / p` is then uniform again. So what becomes of a weight depends on no other's
number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from bioconvert.core.random import CHUNK
from bioconvert.plasticity.layout import flat
from bioconvert.plasticity.optimizer_moments import flat_moments
from bioconvert.plasticity.synapses import Synapses
from bioconvert.plasticity.turnover_laws import Law

_FINEST = 2.0**-24
"""Between two uniform numbers in fp32."""


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
    weight, replaced = flat(synapses.weight), 0
    with flat_moments(state, synapses.weight) as moments:
        for place, uniform in _draws(synapses, weight, step):
            piece = weight[place]
            where, values = _replacements(piece.float(), uniform, law)
            piece.index_copy_(0, where, values.to(piece.dtype))
            if law.bounds is not None:
                piece.clamp_(*law.bounds)
            for moment in moments:
                moment[place].index_fill_(0, where, 0)
            replaced += len(where)
    return replaced


def _replacements(weight: torch.Tensor, uniform: torch.Tensor, law: Law) -> tuple[torch.Tensor, torch.Tensor]:
    """Say which weights of a piece go, and what takes their place."""
    chance = law.chance(weight.abs())
    where = (uniform < chance).nonzero().view(-1)
    v = uniform[where].add_(_FINEST / 2).div_(chance[where]).clamp_(max=1 - _FINEST)
    return where, law.fresh(v, weight[where])


def _draws(synapses: Synapses, weight: torch.Tensor, step: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Cut a parameter into pieces, each with a uniform number for every weight."""
    extent, stream, done = synapses.extent, synapses.stream, 0
    while done < weight.numel():
        index, first = divmod(extent.start + done, CHUNK)
        count = min(CHUNK - first, weight.numel() - done)
        # How the first numbers of a generator come out depends on how many are asked for.
        size = min(CHUNK, extent.total - index * CHUNK)
        drawn = stream.uniform(f"rejuvenate {index}", (size,), step=step)
        yield slice(done, done + count), drawn[first : first + count].to(weight.device)
        done += count
