"""What the caller says of layers whose tensors don't tell it: options by glob, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from bioconvert.compat.nmn.kinds import KINDS, PLAIN, kind_named
from bioconvert.core.errors import OptionError
from bioconvert.core.suggest import hint
from bioconvert.ruleset.globs import PatternError, compile_glob

_Sizes = PositiveInt | list[PositiveInt] | tuple[PositiveInt, ...]
_Paddings = NonNegativeInt | list[NonNegativeInt] | tuple[NonNegativeInt, ...]
_SHORT: Mapping[str, Mapping[str, object]] = {"defaults": {"defaults": True}, PLAIN: {"kind": PLAIN}}
"""What a word in place of options stands for."""


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


_NAMES = tuple(name for name in Said.model_fields if name not in ("kind", "defaults"))


class Given:
    """Options by glob over layers' names; where several globs give an option, the first one counts.

    Args:
        options: glob → options, or a word: ``"defaults"`` for all defaults of nmn's constructor, ``"plain"``
            for what is no layer of nmn.

    Raises:
        OptionError: a glob, an option or a value is wrong; every problem is named.
    """

    def __init__(self, options: Mapping[str, Mapping[str, object] | str] | None):
        self._entries: list[tuple[str, Callable[[str], bool], dict[str, Any]]] = []
        self._used: set[tuple[str, str]] = set()
        problems: list[str] = []
        for glob, said in (options or {}).items():
            problems += self._add(glob, said)
        if problems:
            raise OptionError("\n  ".join(["the options of nmn's layers can't be used:", *problems]))

    def _add(self, glob: str, said: Mapping[str, object] | str) -> list[str]:
        fields = _SHORT.get(said) if isinstance(said, str) else said
        if not isinstance(fields, Mapping):
            return [f"{glob!r}: must be an object of options, 'defaults' or 'plain', not {said!r}"]
        try:
            matches = compile_glob(glob)
        except PatternError as error:
            return [f"{glob!r}: {error}"]
        problems = _problems(glob, fields)
        if not problems:
            self._entries.append((glob, matches, dict(fields)))
        return problems

    def get(self, path: str, option: str) -> tuple[bool, Any]:
        """Say whether an option of a layer was given, and give its value."""
        for glob, matches, said in self._entries:
            if option in said and matches(path):
                self._used.add((glob, option))
                return True, said[option]
        return False, None

    def unused(self) -> list[str]:
        """Name what was given and concerned no layer, or only layers for which an earlier glob counted."""
        return [
            f"{glob!r}: {option} concerns no layer"
            for glob, _, said in self._entries
            for option in said
            if option != "defaults" and (glob, option) not in self._used
        ]


def _problems(glob: str, fields: Mapping[str, object]) -> list[str]:
    try:
        said = Said.model_validate(dict(fields))
    except ValidationError as error:
        return [f"{glob!r}: {text}" for text in dict.fromkeys(map(_wrong, error.errors(include_url=False)))]
    if said.kind is not None and said.kind != PLAIN and kind_named(said.kind) is None:
        return [f"{glob!r}: there is no kind {said.kind!r}. {hint(said.kind, (*KINDS, PLAIN))}"]
    return []


def _wrong(error: Any) -> str:
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"unknown option {name!r}. {hint(name, ('kind', 'defaults', *_NAMES))}"
    return f"{name}: {error['input']!r} is no value for it"
