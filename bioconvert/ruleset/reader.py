"""Rule text → plain values with their places: a strict part of YAML 1.2, read without recursion.

PyYAML's events are taken one by one, so that nothing is built from an alias, and a file that nests too deep
ends there.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from bioconvert.core.errors import Problem
from bioconvert.ruleset.document import MAX_DEPTH, MAX_VALUES, Document, Loc, Place, Text, Unusable
from bioconvert.ruleset.quoting import shown
from bioconvert.ruleset.scalars import scalar
from bioconvert.ruleset.traps import (
    ALIAS,
    ANCHOR,
    COMPLEX_KEY,
    DOCUMENTS,
    EMPTY,
    SURROGATE,
    syntax_trap,
    tag_trap,
)

MAX_BYTES = 1 << 20
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_DISCARDED = "\0"
"""Stands for the key of a value that is read and not kept; no file can contain it."""
_QUESTION_MARK = re.compile(r"(?<=[^\s,\[\]{}])\?")
"""Behind a name, where YAML 1.2 has it as text, but PyYAML, inside brackets, as the mark of a key."""
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_bytes(data: bytes, source: str) -> Document:
    """Read a rule file; problems are in the document that comes back."""
    if len(data) > MAX_BYTES:
        return _unusable(source, Place(source).problem(_too_large(len(data))))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in data and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            # A line of a checkpoint tells nobody anything.
            return _unusable(source, Place(source).problem("a rule file is text in YAML, this one is binary"))
        before = data[: error.start].decode("utf-8-sig")
        place = _Reader(before, source).place_at(len(before))
        return _unusable(source, place.problem("the file is not UTF-8 text"))
    return read_text(text, source)


def read_text(text: str, source: str) -> Document:
    """Read rule text; problems are in the document that comes back."""
    if len(text) > MAX_BYTES:
        return _unusable(source, Place(source).problem(_too_large(len(text))))
    return _Reader(text.removeprefix("\ufeff"), source).read()


def _unusable(source: str, problem: Problem) -> Document:
    return Document(source, problems=[problem])


def _too_large(size: int) -> str:
    return f"a rule file has at most 1 MiB, this one has {size / MAX_BYTES:.1f} MiB or more"


@dataclass(slots=True)
class _Open:
    """A list or mapping that is being read; ``key`` is what the next value of a mapping belongs to."""

    loc: Loc
    value: list[object] | dict[str, object]
    key: str | None = None
    awaits_value: bool = False


@dataclass
class _Reader:
    text: str
    source: str
    document: Document = field(init=False)
    lines: Text = field(init=False)
    stand_in: str = field(init=False)
    open: list[_Open] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.document = Document(self.source)
        self.lines = Text(self.source, _LINE_BREAK.split(self.text))
        # A character for private use that the text doesn't contain; failing that, PyYAML has its way.
        self.stand_in = next((c for c in map(chr, range(0xE000, 0xF900)) if c not in self.text), "?")

    def read(self) -> Document:
        try:
            for count, event in enumerate(self.events()):
                if count > MAX_VALUES:
                    raise Unusable(self.place(event).problem(f"there are more than {MAX_VALUES:,} values"))
                self.take(event)
            if () not in self.document.values:
                raise Unusable(self.lines.place(0, 0).problem(EMPTY))
        except Unusable as end:
            self.document.problems.append(end.problem)
            self.document.value = None
        return self.document

    def events(self) -> Iterator[yaml.Event]:
        """Give PyYAML's events; a syntax error becomes an ``Unusable``."""
        loader: Any = None
        try:
            loader = yaml.SafeLoader(_QUESTION_MARK.sub(self.stand_in, self.text))
            while loader.check_event():
                yield loader.get_event()
        except yaml.MarkedYAMLError as error:
            raise Unusable(self.syntax_problem(error)) from None
        except yaml.reader.ReaderError as error:
            message = f"the character U+{error.character:04X} can't stand in a rule file"
            raise Unusable(self.place_at(error.position).problem(message)) from None
        except (ValueError, OverflowError):
            # PyYAML hands what follows \U to chr() as it is.
            place = self.lines.place(loader.line, loader.column) if loader else self.lines.place(0, 0)
            raise Unusable(place.problem("an escape stands for no character")) from None

    def syntax_problem(self, error: yaml.MarkedYAMLError) -> Problem:
        context, problem = error.context or "", error.problem or ""
        mark: Any = (_is_at_its_start(context, problem) and error.context_mark) or error.problem_mark
        message = syntax_trap(context, problem, self.text[mark.index : mark.index + 20])
        return self.lines.place(mark.line, mark.column).problem(message)

    def place_at(self, index: int) -> Place:
        """Give the place of a character of the text."""
        before = _LINE_BREAK.split(self.text[:index])
        return self.lines.place(len(before) - 1, len(before[-1]))

    def place(self, event: Any) -> Place:
        return self.lines.place(event.start_mark.line, event.start_mark.column)

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent) and () in self.document.values:
            raise Unusable(self.place(event).problem(DOCUMENTS))
        if isinstance(event, yaml.CollectionEndEvent):
            self.open.pop()
        elif isinstance(event, yaml.NodeEvent):
            self.take_node(event)

    def take_node(self, event: yaml.NodeEvent) -> None:
        parent = self.open[-1] if self.open else None
        place = self.place(event)
        if parent is not None and isinstance(parent.value, dict) and not parent.awaits_value:
            self.take_key(event, parent, place)
            return
        loc = self.next_loc(parent)
        self.document.values[loc] = place
        value = self.value(event, loc, place)
        self.put(parent, value)
        if isinstance(value, dict | list):
            if len(self.open) >= MAX_DEPTH:
                raise Unusable(place.problem(f"it is nested more than {MAX_DEPTH} levels deep"))
            self.open.append(_Open(loc, value))

    def next_loc(self, parent: _Open | None) -> Loc:
        if parent is None:
            return ()
        step = len(parent.value) if isinstance(parent.value, list) else parent.key
        return (*parent.loc, _DISCARDED if step is None else step)

    def put(self, parent: _Open | None, value: object) -> None:
        if parent is None:
            self.document.value = value
        elif isinstance(parent.value, list):
            parent.value.append(value)
        else:
            if parent.key is not None:
                parent.value[parent.key] = value
            parent.awaits_value = False

    def take_key(self, event: yaml.NodeEvent, parent: _Open, place: Place) -> None:
        """Take note of a key; that of a value that won't be kept is ``None``."""
        parent.awaits_value, parent.key = True, None
        message = self.key_problem(event, parent)
        if message is not None:
            self.document.spoil((*parent.loc, _DISCARDED), place, message)
        elif isinstance(event, yaml.ScalarEvent):
            parent.key = self.string(event)
            loc: Loc = (*parent.loc, parent.key)
            self.document.keys[loc] = place
        if isinstance(event, yaml.CollectionStartEvent):
            raise Unusable(place.problem(COMPLEX_KEY))

    def key_problem(self, event: yaml.NodeEvent, parent: _Open) -> str | None:
        markup = _markup(event)
        if markup is not None or not isinstance(event, yaml.ScalarEvent):
            return markup
        if _SURROGATE.search(self.string(event)):
            return SURROGATE
        if self.string(event) in parent.value:
            return f"the key {shown(self.string(event))} stands here twice"
        return None

    def string(self, event: yaml.ScalarEvent) -> str:
        """Give a scalar's text, with its question marks, and what JSON escapes in two halves in one."""
        text: str = event.value
        return _PAIR.sub(_joined, text.replace(self.stand_in, "?"))

    def value(self, event: yaml.NodeEvent, loc: Loc, place: Place) -> object:
        """Give the value that an event stands for or begins; ``None`` if it can't be used."""
        message = _markup(event)
        if message is not None:
            self.document.spoil(loc, place, message)
        if isinstance(event, yaml.MappingStartEvent):
            return {}
        if isinstance(event, yaml.SequenceStartEvent):
            return []
        return self.scalar(event, loc, place) if isinstance(event, yaml.ScalarEvent) else None

    def scalar(self, event: yaml.ScalarEvent, loc: Loc, place: Place) -> object:
        if _SURROGATE.search(self.string(event)):
            self.document.spoil(loc, place, SURROGATE)
            return None
        if not event.implicit[0]:
            return self.string(event)
        try:
            return scalar(self.string(event))
        except ValueError as error:
            self.document.spoil(loc, place, f"{error} can't stand in a rule set")
            return None


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


def _is_at_its_start(context: str, problem: str) -> bool:
    """Say whether a syntax error is to be shown where the construct begins, not where the parser gave up."""
    return "stream" in problem or any(word in context for word in ("alias", "anchor", "tag", "block scalar"))


def _markup(event: yaml.NodeEvent) -> str | None:
    """Explain why an alias, an anchor or a tag can't stand in a rule file."""
    if isinstance(event, yaml.AliasEvent):
        return ALIAS
    if event.anchor is not None:
        return ANCHOR
    tag = getattr(event, "tag", None)
    return None if tag is None else tag_trap(tag)
