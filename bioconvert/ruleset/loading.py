"""Rule sets from files, with everything that they extend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bioconvert.core.errors import Problem, RuleError
from bioconvert.ruleset.document import Document, Place, document_of
from bioconvert.ruleset.origins import FileOrigin, Origin, extended_origin
from bioconvert.ruleset.reader import MAX_BYTES, read_bytes, read_text
from bioconvert.ruleset.rule import Rule
from bioconvert.ruleset.sheet import Sheet, read_sheet

_UNNAMED = "unnamed"


@dataclass
class Loader:
    """Reads rule files and what they extend, and collects the problems of all of them."""

    problems: list[Problem] = field(default_factory=list)
    _seen: set[Path] = field(default_factory=set)

    def load(self, document: Document, origin: Origin) -> tuple[Sheet, tuple[Rule, ...]] | None:
        """Check a document; give it and its rules, followed by those that it extends.

        ``None`` if it has problems, which are then in :attr:`problems`.
        """
        self._seen = {origin.real_path} if isinstance(origin, FileOrigin) else set()
        sheet = self._sheet(document, origin)
        rules = tuple(self._rules(sheet, document, (origin,)))
        return None if self.problems or sheet is None else (sheet, rules)

    def _sheet(self, document: Document, origin: Origin) -> Sheet | None:
        sheet = read_sheet(document, origin.name)
        self.problems += sorted(
            document.problems, key=lambda problem: (problem.line or 0, problem.column or 0)
        )
        return sheet

    def _rules(self, sheet: Sheet | None, document: Document, chain: tuple[Origin, ...]) -> Iterator[Rule]:
        yield from sheet.rules if sheet is not None else ()
        for i, name in _extended(document):
            place = document.place(("extends", i))
            try:
                origin = extended_origin(name, chain)
            except ValueError as error:
                self.problems.append(place.problem(f"extends: {error}"))
                continue
            # A file that several others extend counts once: without that, sixty files make 2⁶⁰ rules.
            if origin.real_path not in self._seen:
                self._seen.add(origin.real_path)
                below = read_file(origin)
                yield from self._rules(self._sheet(below, origin), below, (*chain, origin))


def _extended(document: Document) -> list[tuple[int, str]]:
    """Name what a document extends, as far as that can be read, so that a broken file hides no other."""
    content = document.value if isinstance(document.value, dict) else {}
    names = content.get("extends")
    if not isinstance(names, list):
        return []
    return [(i, name) for i, name in enumerate(names) if isinstance(name, str)]


def read_file(origin: FileOrigin) -> Document:
    """Read a rule file; problems, such as that it can't be read, are in the document that comes back."""
    path = origin.path
    try:
        # Opening a pipe would wait for its other end, reading a device would not end.
        if path.exists() and not path.is_file():
            raise OSError("it is a folder" if path.is_dir() else "it is no regular file")
        with path.open("rb") as file:
            return read_bytes(file.read(MAX_BYTES + 1), origin.source)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = Place(origin.source).problem(f"the file can't be read: {reason}")
        return Document(origin.source, problems=[problem])


def load_document(document: Document, origin: Origin) -> tuple[Sheet, tuple[Rule, ...]]:
    """Check a document and what it extends.

    Raises:
        RuleError: with every problem of all the files.
    """
    loader = Loader()
    found = loader.load(document, origin)
    if found is None:
        raise RuleError(loader.problems)
    return found


def load_file(origin: FileOrigin) -> tuple[Sheet, tuple[Rule, ...]]:
    """Read and check a rule file.

    Raises:
        RuleError: with every problem.
    """
    return load_document(read_file(origin), origin)


def load_text(text: str, source: str) -> tuple[Sheet, tuple[Rule, ...]]:
    """Check rule text that is in no file.

    Raises:
        RuleError: with every problem.
    """
    return load_document(read_text(text, source), Origin(source, _UNNAMED))


def load_mapping(content: Mapping[str, object], source: str) -> tuple[Sheet, tuple[Rule, ...]]:
    """Check rules given as a dict.

    Raises:
        RuleError: with every problem.
    """
    return load_document(document_of(content, source), Origin(source, _UNNAMED))
