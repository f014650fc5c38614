"""The ``match:`` part of a rule: which modules it selects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictStr, model_validator

from bioconvert.ruleset.comparison import Comparison, comparisons
from bioconvert.ruleset.frozen import Frozen, fault
from bioconvert.ruleset.globs import PatternError
from bioconvert.ruleset.patterns import check_pattern
from bioconvert.ruleset.quoting import shown

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SAMPLE = '"BatchNorm2d?" or "ReLU|GELU|SiLU?"'
_FIRST, _LAST = "first", "last"


def _listed(given: object) -> object:
    """Take a single value for a list of one."""
    return (given,) if isinstance(given, str) else given


def _nonempty(given: tuple[object, ...]) -> tuple[object, ...]:
    if not given:
        raise fault("the list is empty; name one at least, or leave the key out")
    return given


def _type_name(given: str) -> str:
    if _NAME.fullmatch(given) is None:
        raise fault(f"{shown(given)} is no class name or family; a glob over module names goes to `path`")
    return given


def _pattern(given: str) -> str:
    try:
        check_pattern(given)
    except PatternError as error:
        raise fault(f"{shown(given)}: {error}") from None
    return given


def _link(given: object) -> object:
    if isinstance(given, Link):
        return given
    if not isinstance(given, str):
        raise fault(f"must be text such as {_SAMPLE}, not {shown(given)}")
    names = tuple(name.strip() for name in given.removesuffix("?").split("|"))
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise fault(f"{shown(given)}: write class names, as in {_SAMPLE}")
    return {"alternatives": names, "optional": given.endswith("?")}


def _conditions(given: object) -> object:
    if isinstance(given, tuple) and all(isinstance(item, Comparison) for item in given):
        return given
    try:
        return comparisons(given)
    except ValueError as error:
        raise fault(str(error)) from None


class Link(Frozen):
    """One step of what must follow a module in the data flow.

    Args:
        alternatives: names of classes, one of which stands there.
        optional: whether nothing of the kind may stand there too.
    """

    alternatives: tuple[StrictStr, ...]
    optional: StrictBool = False

    def __str__(self) -> str:
        return "|".join(self.alternatives) + ("?" if self.optional else "")


TypeName = Annotated[StrictStr, AfterValidator(_type_name)]
Pattern = Annotated[StrictStr, AfterValidator(_pattern)]
Conditions = Annotated[tuple[Comparison, ...], BeforeValidator(_conditions)]
_Types = Annotated[tuple[TypeName, ...], BeforeValidator(_listed), AfterValidator(_nonempty)]
_Paths = Annotated[tuple[Pattern, ...], BeforeValidator(_listed), AfterValidator(_nonempty)]
_Links = Annotated[tuple[Annotated[Link, BeforeValidator(_link)], ...], BeforeValidator(_listed)]
_Exceptions = Annotated[tuple[Pattern, ...], BeforeValidator(_listed)]


class Match(Frozen):
    """Which modules a rule selects: those that meet every condition given.

    Args:
        type: class names, dotted paths of classes, or families.
        subclasses: whether subclasses with a forward of their own are meant too.
        path: patterns of dotted names, one of which must match.
        where: conditions on attributes, by name; with ``parameter``, conditions on ``shape``, ``dtype``,
            ``ndim``, ``numel`` and ``requires_grad`` are about the parameter.
        followed_by: what must follow in the data flow.
        exceptions: patterns of dotted names, none of which may match; ``first`` and ``last`` of a family.
        parameter: pattern of parameter names, in place of modules.
    """

    type: _Types = ()
    subclasses: StrictBool = False
    path: _Paths = ()
    where: Mapping[StrictStr, Conditions] = Field(default_factory=dict)
    followed_by: _Links = ()
    exceptions: _Exceptions = Field(default=(), alias="not")
    parameter: Pattern | None = None

    @property
    def not_(self) -> tuple[str, ...]:
        """Patterns of dotted names that are excepted."""
        return tuple(pattern for pattern in self.exceptions if pattern not in (_FIRST, _LAST))

    @property
    def not_first(self) -> bool:
        """Whether the first module of each family is excepted."""
        return _FIRST in self.exceptions

    @property
    def not_last(self) -> bool:
        """Whether the last module of each family is excepted."""
        return _LAST in self.exceptions

    @model_validator(mode="after")
    def _selects_something(self) -> Match:
        if not (self.type or self.path or self.parameter):
            raise fault("it needs `type`, `path` or `parameter`")
        return self
