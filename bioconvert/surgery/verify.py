"""Whether the forwards that were read off containers do what the containers do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from bioconvert.graph.rewrite import rewrite_of, rewritten_class
from bioconvert.graph.trace import Untraceable
from bioconvert.surgery.samples import Inputs, in_mode, preserved, run, tensors_in
from bioconvert.surgery.step import set_class

UNFAITHFUL = (
    "the forward of {}, as torch.fx traces it, fails or gives other outputs on example_inputs: convert with "
    "`activation: keep`"
)


def unfaithful(model: nn.Module, inputs: Inputs, containers: Sequence[nn.Module]) -> set[nn.Module]:
    """Give the containers that compute something else once their forward is written anew as it was traced.

    Args:
        model: the model, as yet unconverted.
        inputs: what it runs on.
        containers: the containers to try.
    """
    if not containers or _faithful(model, inputs, containers):
        return set()
    return {container for container in containers if not _faithful(model, inputs, (container,))}


def _faithful(model: nn.Module, inputs: Inputs, containers: Sequence[nn.Module]) -> bool:
    return all(_faithful_in(model, inputs, containers, training=training) for training in (False, True))


def _faithful_in(
    model: nn.Module, inputs: Inputs, containers: Sequence[nn.Module], *, training: bool
) -> bool:
    before = _outputs(model, inputs, training=training)
    if not _equal(before, _outputs(model, inputs, training=training)):
        return True  # the model draws numbers from a source of its own, so that there is nothing to compare
    own = [(container, type(container)) for container in containers]
    try:
        for container, cls in own:
            written = rewritten_class(cls, ())
            rewrite_of(written).prepare(container)
            set_class(container, written)
        return _equal(before, _outputs(model, inputs, training=training))
    except Untraceable:
        return False  # with the arguments that the model gives, it is another forward
    finally:
        for container, cls in own:
            set_class(container, cls)


def _outputs(model: nn.Module, inputs: Inputs, *, training: bool) -> list[torch.Tensor]:
    with preserved(model), in_mode(model, training=training), torch.no_grad():
        torch.manual_seed(0)
        return [tensor.clone() for tensor in tensors_in(run(model, inputs))]


def _equal(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(one, other, strict=True)
    )
