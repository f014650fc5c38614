"""How new units of a layer come into being, so that the network computes what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bioconvert.core.errors import OptionError
from bioconvert.core.random import Stream
from bioconvert.organism.width_axes import incoming, outgoing
from bioconvert.organism.width_joints import Joint

Loss = Callable[[], torch.Tensor]
WAYS = ("zero", "paired", "net2wider", "gradmax")
FIRST_BIAS = 0.1
"""The bias of a unit without incoming weights whose activation lets no gradient through at zero."""
_UNEVEN = 0.5
"""Shares of what leads out of a unit and its copies differ from even ones by so much at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Birth:
    """New units of a layer.

    Args:
        incoming: what leads into each: (new units, …).
        bias: theirs.
        outgoing: what leads out of each: (outputs, new units, places).
        kept: what leads out of the old units from now on: (outputs, units, places).
        copied: the unit that each is a copy of, to a normalisation; ``None`` where they are no copies.
    """

    incoming: torch.Tensor
    bias: torch.Tensor
    outgoing: torch.Tensor
    kept: torch.Tensor
    copied: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """Where the gradient wants new units to lead.

    Args:
        outgoing: what leads out of each: (outputs, units, places), the strongest first.
        paired: whether a unit without incoming weights gives something, which a second one must take back.
        bias: theirs.
    """

    outgoing: torch.Tensor
    paired: bool
    bias: float


def check_number(joint: Joint, units: int, by: str) -> None:
    """Refuse a number of new units that keeps no function.

    Raises:
        OptionError: it must be a multiple of another number, which is told.
    """
    multiple = joint.block * (2 if by == "paired" else 1)
    if units % multiple:
        norm = f", since {type(joint.norm).__name__} takes so many together" if joint.block > 1 else ""
        raise OptionError(f"the units of {joint.path!r} must grow {by} by a multiple of {multiple}{norm}")
    if by == "gradmax" and joint.route.partners:
        raise OptionError(
            f"the units of {joint.path!r} can't grow by gradmax, since they are multiplied by those of "
            "another layer: use zero, paired or net2wider"
        )
    if by == "gradmax" and joint.norm is not None:
        raise OptionError(
            f"the units of {joint.path!r} can't grow by gradmax, since {type(joint.norm).__name__} divides "
            "by the deviation of what they give, which is zero: use zero or paired"
        )


def zero_output(joint: Joint, units: int, stream: Stream) -> Birth:
    """Let units take random input and give nothing; under a LayerNorm they are copies."""
    old, kept = incoming(joint.layer), outgoing(joint.receiver, joint.units)
    copied = _copied(joint, units, stream) if joint.whole else None
    rows = _random_like(old, units, stream, "width incoming") if copied is None else old[copied]
    bias = _bias(joint)[copied] if copied is not None else old.new_zeros(units)
    return Birth(rows, bias, kept.new_zeros(len(kept), units, kept.shape[2]), kept, copied)


def paired(joint: Joint, units: int, stream: Stream) -> Birth:
    """Let units come in pairs that take the same and give the opposite, so that they part at once."""
    half = zero_output(joint, units // 2, stream)
    out = half.outgoing
    lead = _random_like(half.kept.transpose(0, 1), out.shape[1], stream, "width outgoing").transpose(0, 1)
    return Birth(
        half.incoming.repeat(2, *[1] * (half.incoming.dim() - 1)),
        half.bias.repeat(2),
        torch.cat([lead, -lead], 1),
        half.kept,
        None if half.copied is None else half.copied.repeat(2),
    )


def net2wider(joint: Joint, units: int, stream: Stream) -> Birth:
    """Let units be copies of others, with which they share, unevenly, what led out of them.

    Even shares would give a unit and its copies the same gradient for ever.

    Reference:
        Chen, Goodfellow, Shlens, *Net2Net: Accelerating Learning via Knowledge Transfer*,
        https://arxiv.org/abs/1511.05641
    """
    copied = _copied(joint, units, stream)
    kept = outgoing(joint.receiver, joint.units)
    drawn = stream.uniform("width shares", (joint.units + units,), low=1 - _UNEVEN, high=1 + _UNEVEN)
    drawn = drawn.to(device=kept.device, dtype=torch.float64)
    total = drawn[: joint.units].index_add(0, copied, drawn[joint.units :])
    shares = (drawn[joint.units :] / total[copied]).to(kept.dtype).view(1, -1, 1)
    new = kept[:, copied] * shares
    return Birth(
        incoming(joint.layer)[copied], _bias(joint)[copied], new, kept.index_add(1, copied, -new), copied
    )


def gradient_aligned(joint: Joint, units: int, stream: Stream, found: Directions) -> Birth:
    """Let units take nothing and lead to where the gradient into them is largest.

    Those for which the gradient has no direction left take random input and give nothing.

    Reference:
        Evci, van Merriënboer, Unterthiner, Vladymyrov, Pedregosa, *GradMax: Growing Neural Networks using
        Gradient Information*, https://arxiv.org/abs/2201.05125
    """
    rest = zero_output(joint, units, stream)
    kept = rest.kept
    size = kept.square().sum((0, 2)).sqrt().mean()
    aligned = (found.outgoing * size).to(kept.dtype)
    if found.paired:
        aligned = torch.cat([aligned, -aligned], 1)
    number = aligned.shape[1]
    rest.incoming[:number] = 0
    rest.bias[:number] = found.bias
    rest.outgoing[:, :number] = aligned
    return rest


def _bias(joint: Joint) -> torch.Tensor:
    bias = joint.layer._parameters.get("bias")
    return incoming(joint.layer).new_zeros(joint.units) if bias is None else bias.detach()


def _copied(joint: Joint, units: int, stream: Stream) -> torch.Tensor:
    """Choose the units that new ones are copies of, by turns in a random order, in blocks for a norm."""
    size = 1 if joint.whole else joint.block
    order = stream.uniform("width copied", (joint.units // size,)).argsort()
    blocks = order.repeat(-(-units // joint.units))[: units // size]
    chosen = blocks[:, None] * size + torch.arange(size)
    return chosen.flatten().to(incoming(joint.layer).device)


def _random_like(old: torch.Tensor, units: int, stream: Stream, purpose: str) -> torch.Tensor:
    """Draw rows of the size that the old ones have, or that fresh ones would have if those are zero."""
    shape = (units, *old.shape[1:])
    size = old.double().square().mean().sqrt() if old.numel() else old.new_zeros(())
    if not bool(size.isfinite() and size > 0):
        size = old.new_tensor(max(old[0].numel(), 1) ** -0.5, dtype=torch.float64)
    return (stream.normal(purpose, shape).to(old.device) * size).to(old.dtype)
