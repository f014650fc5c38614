"""The methods by which a training loop calls mechanisms itself, as an attachment of a whole model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bioconvert.core.change import Change, Old, Site, TensorRecipe
from bioconvert.core.lazy import LazyModule
from bioconvert.core.registry import mechanism

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bioconvert.core.random import Stream
else:
    torch = LazyModule("torch")

ATTRIBUTE, STEPS = "by_hand", "by_hand_steps"
"""The model's attribute that holds the options, and its buffer of the number of steps done."""
Positive = Annotated[float, Field(gt=0)]


@mechanism("by_hand")
def by_hand(
    module: nn.Module,
    site: Site,
    *,
    base: Positive = 0.1,
    stability: Annotated[float, Field(ge=0, le=50)] = 2.0,
    variability: Annotated[float, Field(ge=0)] = 0.2,
    d_re: Positive = 8.0,
) -> Change:
    """Give a model methods such as ``crystallize()``, to be called between ``backward()`` and ``step()``.

    They are those of :class:`~bioconvert.plasticity.manual.ManualPlasticity`. Attach it to the model as a
    whole: ``match: {path: ""}``. The options are for mechanisms that are not attached to a weight themselves.

    Args:
        module: the model.
        site: where it stands.
        base: for ``volume_dependent_lr``, which goes by the law ``reference``.
        stability: likewise.
        variability: likewise.
        d_re: for ``rejuvenate_weights``.
    """
    from bioconvert.plasticity.manual import ManualPlasticity

    options = {
        "seed": site.seed,
        "volume_lr": {
            "law": "reference",
            "base": base,
            "stability": stability,
            "variability": variability,
        },
        "rejuvenate": {"d_re": d_re},
    }
    counter = TensorRecipe(partial(_no_steps, module), reads=(), like=None, kind="buffer")
    return Change(
        into=ManualPlasticity, attributes={ATTRIBUTE: options}, adds={STEPS: counter}, summary="methods"
    )


def _no_steps(module: nn.Module, old: Old, stream: Stream) -> torch.Tensor:  # noqa: ARG001
    like = next(module.parameters(), None)
    return torch.zeros(1, dtype=torch.int64, device=None if like is None else like.device)
