"""What the caller says of layers of dyna whose tensors don't tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from bioconvert.compat.dyna.kinds import PLAIN
from bioconvert.compat.options_by_glob import Grammar, OptionsByGlob

_Sizes = PositiveInt | list[PositiveInt] | tuple[PositiveInt, ...]
_Paddings = NonNegativeInt | list[NonNegativeInt] | tuple[NonNegativeInt, ...]


class Said(BaseModel):
    """Arguments of our layers, by their names there; ``kind`` says that a module is none of dyna's."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Literal["plain"] | None = None
    in_channels: PositiveInt | None = None
    out_channels: PositiveInt | None = None
    kernel_size: _Sizes | None = None
    stride: _Sizes | None = None
    padding: _Paddings | None = None
    dilation: _Sizes | None = None
    transpose: bool | None = None
    output_padding: _Paddings | None = None
    repulsion: NonNegativeFloat | None = None
    noise: NonNegativeFloat | None = None
    rank_noise: NonNegativeFloat | None = None
    similarity: NonNegativeFloat | None = None
    asymmetry: PositiveFloat | None = None


_GRAMMAR = Grammar("dyna", Said, {PLAIN: {"kind": PLAIN}})


class Given(OptionsByGlob):
    """Options of dyna's layers by glob; where several globs give an option, the first one counts.

    Args:
        options: glob → options, or ``"plain"`` for what is no layer of dyna.

    Raises:
        OptionError: a glob, an option or a value is wrong; every problem is named.
    """

    def __init__(self, options: Mapping[str, Mapping[str, object] | str] | None):
        super().__init__(options, _GRAMMAR)
