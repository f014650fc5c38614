"""What the caller says of layers whose tensors don't tell it: options by glob, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from bioconvert.core.errors import OptionError
from bioconvert.core.suggest import hint
from bioconvert.ruleset.globs import PatternError, compile_glob

OWN_WORDS = "own_words"
"""Type of a pydantic error whose text says all."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What may be said of the layers of a system.

    Args:
        system: its name.
        model: the options, with their types; errors of its own validators are shown as they are.
        words: word that may stand in place of options → these.
        general: options that may concern no layer.
    """

    system: str
    model: type[BaseModel]
    words: Mapping[str, Mapping[str, object]]
    general: frozenset[str] = frozenset()


class OptionsByGlob:
    """Options by glob over layers' names; where several globs give an option, the first one counts.

    Args:
        options: glob → options, or a word in place of them.
        grammar: what may be said.

    Raises:
        OptionError: a glob, an option or a value is wrong; every problem is named.
    """

    def __init__(self, options: Mapping[str, Mapping[str, object] | str] | None, grammar: Grammar):
        self._grammar = grammar
        self._entries: list[tuple[str, Callable[[str], bool], dict[str, Any]]] = []
        self._used: set[tuple[str, str]] = set()
        problems: list[str] = []
        for glob, said in (options or {}).items():
            problems += self._add(glob, said)
        if problems:
            head = f"the options of {grammar.system}'s layers can't be used:"
            raise OptionError("\n  ".join([head, *problems]))

    def _add(self, glob: str, said: Mapping[str, object] | str) -> list[str]:
        words = self._grammar.words
        fields = words.get(said) if isinstance(said, str) else said
        if not isinstance(fields, Mapping):
            *first, last = "an object of options", *map(repr, words)
            return [f"{glob!r}: must be {', '.join(first)} or {last}, not {said!r}"]
        try:
            matches = compile_glob(glob)
        except PatternError as error:
            return [f"{glob!r}: {error}"]
        problems = [f"{glob!r}: {text}" for text in self._wrong(fields)]
        if not problems:
            self._entries.append((glob, matches, dict(fields)))
        return problems

    def _wrong(self, fields: Mapping[str, object]) -> list[str]:
        model = self._grammar.model
        try:
            model.model_validate(dict(fields))
        except ValidationError as error:
            found = error.errors(include_url=False)
            return list(dict.fromkeys(_text(each, tuple(model.model_fields)) for each in found))
        return []

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
            if option not in self._grammar.general and (glob, option) not in self._used
        ]


def _text(error: Any, known: tuple[str, ...]) -> str:
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"unknown option {name!r}. {hint(name, known)}"
    if error["type"] == OWN_WORDS:
        return str(error["msg"])
    return f"{name}: {error['input']!r} is no value for it"
