"""The ``type`` and ``subclasses`` of a match: whether a class is meant, or only nearly meant, and why not."""

from __future__ import annotations

from typing import Any

from bioconvert.core.classes import loaded_class, qualified_name
from bioconvert.core.families import FAMILIES, family_root
from bioconvert.core.functions import FUNCTIONS
from bioconvert.core.registry import is_layer
from bioconvert.ruleset.match import Match


class Kinds:
    """The types of one match, with what was found out about each class.

    Args:
        match: the match.
    """

    def __init__(self, match: Match):
        self._types = tuple(name for name in match.type if name not in FUNCTIONS)
        self._only_functions = bool(match.type) and not self._types
        self._subclasses = match.subclasses
        self._named = {name: loaded_class(name) for name in self._types if "." in name}
        self._verdicts: dict[type, bool | str] = {}

    def means(self, cls: type) -> bool:
        """Say whether a class is meant, if only nearly."""
        return self._verdict(cls) is not False

    def meant(self, candidate: Any) -> bool:
        """Say whether a candidate's class is."""
        return self.means(candidate.cls)

    def refusal(self, cls: type) -> str | None:
        """Say why a class that is nearly meant is left alone."""
        verdict = self._verdict(cls)
        return verdict if isinstance(verdict, str) else None

    def _verdict(self, cls: type) -> bool | str:
        if cls not in self._verdicts:
            verdicts = [self._of(cls, name) for name in self._types] or [not self._only_functions]
            nearly = next((verdict for verdict in verdicts if verdict), False)
            self._verdicts[cls] = True if True in verdicts else nearly
        return self._verdicts[cls]

    def _of(self, cls: type, name: str) -> bool | str:
        if name in FAMILIES:
            return self._of_family(cls, family_root(cls, name))
        base = self._base(cls, name)
        if base is None:
            return False
        if cls is base or self._subclasses:
            return True
        if not _has_same_forward(cls, base):
            return _own_forward(cls, base)
        return cls.__name__ == name or _other_class(cls, base)

    def _of_family(self, cls: type, root: type | None) -> bool | str:
        if root is None:
            return False
        if self._subclasses or is_layer(cls) or _has_same_forward(cls, root):
            return True
        return _own_forward(cls, root)

    def _base(self, cls: type, name: str) -> type | None:
        """Find the class of that name which ``cls`` is or inherits from.

        Of several with the same bare name it is the one furthest up: a ``Linear`` that inherits from torch's
        and has a forward of its own is no torch ``Linear``.
        """
        if "." not in name:
            return next((ancestor for ancestor in reversed(cls.__mro__) if ancestor.__name__ == name), None)
        public = self._named[name]
        for ancestor in cls.__mro__:
            if ancestor is public or qualified_name(ancestor) == name:
                return ancestor
        return None


def _has_same_forward(cls: type, base: type) -> bool:
    return getattr(cls, "forward", None) is getattr(base, "forward", None)


def _own_forward(cls: type, base: type) -> str:
    name, base_name = _distinct_names(cls, base)
    return (
        f"it is a {name}, a {base_name} with a forward of its own; "
        "say `subclasses: true` to convert it all the same"
    )


def _other_class(cls: type, base: type) -> str:
    name, base_name = _distinct_names(cls, base)
    return (
        f"it is a {name}, a subclass of {base_name}, and a class name matches that exact class; "
        f"name {name} or the family, or say `subclasses: true`"
    )


def _distinct_names(cls: type, base: type) -> tuple[str, str]:
    if cls.__name__ == base.__name__:
        return qualified_name(cls), qualified_name(base)
    return cls.__name__, base.__name__
