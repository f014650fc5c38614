"""Which node data belong to: the one that is surest of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from bioconvert.core.errors import OptionError
from bioconvert.organism.entropy import output_entropy
from bioconvert.organism.refit_samples import outputs_on

if TYPE_CHECKING:
    from bioconvert.organism.organism import Organism

PROBES = 10


@dataclass(frozen=True, slots=True)
class Affinity:
    """How sure the model is of data through each of its experts.

    Args:
        claimed: the tag whose nodes were surest.
        entropies: of the model's outputs, by tag; the first is the core's, without any branch.
    """

    claimed: str
    entropies: Mapping[str, float]


def probe_expert_affinity(
    organism: Organism, batches: Any, *, tags: Iterable[str] | None = None, steps: int = PROBES
) -> Affinity:
    """Find the tag that data belong to: through its branches alone the outputs have the lowest entropy.

    Nothing changes by it: which branches take part, training mode and gradients are as before. To let the
    branches of that tag alone take part, call ``organism.route(affinity.claimed)``.

    Args:
        organism: the organism.
        batches: an iterable of batches: tensors, tuples of positional or dicts of keyword arguments; or one
            tensor.
        tags: those that may claim; by default the core's and those of all branches.
        steps: number of batches to look at.

    Raises:
        OptionError: there are no batches.
    """
    probes = list(islice([batches] if isinstance(batches, torch.Tensor) else batches, steps))
    if not probes:
        raise OptionError("batches must hold at least one batch to probe with")
    tags = candidate_tags(organism) if tags is None else list(tags)
    with torch.no_grad(), _routes_kept(organism):
        entropies = {tag: _entropy(organism, tag, probes) for tag in tags}
    return Affinity(min(entropies, key=lambda tag: entropies[tag]), entropies)


def candidate_tags(organism: Organism) -> list[str]:
    """Give the tag of the core, and those of all branches, each once."""
    seats = organism.seats.values()
    core = [seat.node.tag for seat in seats if not seat.key][:1]
    return list(dict.fromkeys(core + [seat.node.tag for seat in seats if seat.key]))


def _entropy(organism: Organism, tag: str, probes: list[Any]) -> float:
    organism.route(tag)
    found = torch.stack([output_entropy(output) for output in outputs_on(organism.model, probes)])
    return found.mean().item()


@contextmanager
def _routes_kept(organism: Organism) -> Iterator[None]:
    nodes = organism.nodes()
    before = [node.node_record["active"] for node in nodes]
    try:
        yield
    finally:
        for node, active in zip(nodes, before, strict=True):
            node.node_record["active"] = active
