"""What a rule does: ``replace``, ``attach``, ``wrap``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StrictInt, StrictStr

from bioconvert.ruleset.frozen import Frozen

Options = Mapping[str, object]


class Morph(Frozen):
    """Lets a replacement come in gradually while the model is trained.

    Args:
        steps: number of steps over which the original gives way.
    """

    steps: Annotated[StrictInt, Field(gt=0)]


class Replace(Frozen):
    """Turns the selected modules into something else.

    Args:
        with_: name of the registered replacement; ``with`` in the file.
        activation: whether the activation that follows stays.
        norm: what becomes of the normalisation in between: it stays, goes into weight and bias, or goes.
        morph: how the original gives way; ``None`` if it does so at once.
        options: the replacement's options, all of them.
    """

    with_: StrictStr = Field(alias="with")
    activation: Literal["keep", "drop"] = "keep"
    norm: Literal["keep", "fold", "drop"] = "keep"
    morph: Morph | None = None
    options: Options = Field(default_factory=dict)


class Attach(Frozen):
    """Gives the selected modules a mechanism of plasticity.

    Args:
        mechanism: name of the registered mechanism.
        options: the mechanism's options, all of them.
    """

    mechanism: StrictStr
    options: Options = Field(default_factory=dict)


class Wrap(Frozen):
    """Makes the selected modules evolvable.

    Args:
        kind: name of the registered node.
        options: the node's options, all of them.
    """

    kind: StrictStr = "block"
    options: Options = Field(default_factory=dict)
