"""Who learns from data: the experts where they are novel, the core where they are familiar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bioconvert.organism.entropy import output_entropy
from bioconvert.organism.freezing import freeze_others, thaw
from bioconvert.organism.record import GENERAL

if TYPE_CHECKING:
    from bioconvert.organism.organism import Organism

THRESHOLD = 0.6


def route_by_novelty(organism: Organism, outputs: Any, threshold: float = THRESHOLD) -> bool:
    """Let experts learn from novel data, with the core frozen, and the core from familiar ones.

    Data are novel where the entropy of the model's outputs is above a threshold. Without experts everything
    learns. Freezing is by ``requires_grad``, so that what lies before a frozen node still learns.

    Args:
        organism: the organism.
        outputs: what the model gave.
        threshold: a share of the largest entropy there could be, as
            :func:`~bioconvert.organism.entropy.output_entropy` measures it.

    Returns:
        Whether the data are novel.
    """
    novel = output_entropy(outputs).item() > threshold
    let_learn(organism, novel=novel)
    return novel


def let_learn(organism: Organism, *, novel: bool) -> None:
    """Freeze the core for novel data, and the experts for familiar ones."""
    seats = organism.seats
    experts = {name for name, seat in seats.items() if is_expert(seat.node.tag)}
    if not experts:
        for seat in seats.values():
            thaw(seat)
        return
    freeze_others(seats, experts if novel else set(seats) - experts)


def is_expert(tag: str) -> bool:
    """Say whether a node of a tag is an expert: all but those of the core are."""
    return tag != GENERAL
