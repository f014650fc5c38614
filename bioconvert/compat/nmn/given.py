"""What the caller says of layers of nmn whose tensors don't tell it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)
from pydantic_core import PydanticCustomError

from bioconvert.compat.nmn.kinds import KINDS, PLAIN, kind_named
from bioconvert.compat.options_by_glob import OWN_WORDS, Grammar, OptionsByGlob
from bioconvert.core.suggest import hint

_Sizes = PositiveInt | list[PositiveInt] | tuple[PositiveInt, ...]
_Paddings = NonNegativeInt | list[NonNegativeInt] | tuple[NonNegativeInt, ...]


class Said(BaseModel):
    """Options of nmn's constructors, by their names there; ``kind``, ``defaults`` and ``scaled`` are ours."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: str | None = None
    defaults: bool | None = None
    epsilon: PositiveFloat | None = None
    spherical: bool | None = None
    weight_normalized: bool | None = None
    softplus_bias: bool | None = None
    constant_bias: float | None = None
    constant_alpha: bool | float | None = None
    freeze_kernel: bool | None = None
    out_features: PositiveInt | None = None
    out_channels: PositiveInt | None = None
    stride: _Sizes | None = None
    padding: _Paddings | str | None = None
    output_padding: _Paddings | None = None
    dilation: _Sizes | None = None
    groups: PositiveInt | None = None
    padding_mode: str | None = None
    drop_rate: NonNegativeFloat | None = None
    num_heads: PositiveInt | None = None
    dropout: NonNegativeFloat | None = None
    normalize_qk: bool | None = None
    scaled: bool | None = None

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str | None) -> str | None:
        if kind is not None and kind != PLAIN and kind_named(kind) is None:
            text = f"there is no kind {kind!r}. {hint(kind, (*KINDS, PLAIN))}"
            raise PydanticCustomError(OWN_WORDS, "{text}", {"text": text})
        return kind


_GRAMMAR = Grammar(
    "nmn", Said, {"defaults": {"defaults": True}, PLAIN: {"kind": PLAIN}}, general=frozenset({"defaults"})
)


class Given(OptionsByGlob):
    """Options of nmn's layers by glob; where several globs give an option, the first one counts.

    Args:
        options: glob → options, or a word: ``"defaults"`` for all defaults of nmn's constructor, ``"plain"``
            for what is no layer of nmn.

    Raises:
        OptionError: a glob, an option or a value is wrong; every problem is named.
    """

    def __init__(self, options: Mapping[str, Mapping[str, object] | str] | None):
        super().__init__(options, _GRAMMAR)
