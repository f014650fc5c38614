"""The methods by which a training loop calls mechanisms itself, as an attachment of a whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bioconvert.core.change import Change, Site
from bioconvert.core.registry import mechanism

if TYPE_CHECKING:
    from torch import nn

ATTRIBUTE, STEPS = "by_hand", "by_hand_steps"
"""The attributes of the model that hold the options, and the number of steps done."""
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

    del module
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
    return Change(into=ManualPlasticity, attributes={ATTRIBUTE: options, STEPS: 0}, summary="methods")
