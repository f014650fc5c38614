"""Rule sets from files, with everything that they extend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bioconvert.core.errors import Problem, RuleError
from bioconvert.core.suggest import hint
from bioconvert.ruleset.builtin import builtin_names, builtin_path
from bioconvert.ruleset.document import Document, Place, document_of
from bioconvert.ruleset.quoting import shown
from bioconvert.ruleset.reader import MAX_BYTES, read_bytes, read_text
from bioconvert.ruleset.rule import Rule
from bioconvert.ruleset.sheet import Sheet, read_sheet

MAX_LEVELS = 100
_UNNAMED = "unnamed"
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a rule set comes from.

    Args:
        source: what errors call it.
        name: its name, if it gives itself none.
    """

    source: str
    name: str


@dataclass(frozen=True, slots=True)
class FileOrigin(Origin):
    """A rule set that comes from a file.

    Args:
        path: the file.
    """

    path: Path

    @property
    def real_path(self) -> Path:
        """The file that all symbolic links lead to, as far as that can be told."""
        try:
            return self.path.resolve()
        except (OSError, RuntimeError, ValueError):
            return self.path


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
                origin = _extended_origin(name, chain)
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
    return (
        [(i, name) for i, name in enumerate(names) if isinstance(name, str)]
        if isinstance(names, list)
        else []
    )


def _extended_origin(name: str, chain: tuple[Origin, ...]) -> FileOrigin:
    """Find what a rule file extends.

    Raises:
        ValueError: it may not be extended; the text says why.
    """
    origin = _named_origin(name, chain[-1])
    if origin.real_path in [above.real_path for above in chain if isinstance(above, FileOrigin)]:
        circle = [*(above.source for above in chain), origin.source]
        raise ValueError(f"the files extend each other in a circle: {' → '.join(circle[-6:])}")
    if len(chain) > MAX_LEVELS:
        raise ValueError(f"there are more than {MAX_LEVELS} levels of files that extend one another")
    return origin


def _named_origin(name: str, above: Origin) -> FileOrigin:
    found = builtin_origin(name)
    if found is not None:
        return found
    if not looks_like_path(name):
        raise ValueError(f"there is no rule set named {shown(name)}. {hint(name, builtin_names())}")
    if not isinstance(above, FileOrigin):
        raise ValueError(f"{shown(name)} is a path, and only a file has a folder; name a built-in rule set")
    if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name or "\0" in name:
        raise ValueError(f"{shown(name)} must be a relative path inside the folder of the file, without `..`")
    folder = above.path.parent
    origin = file_origin(folder / name)
    if not origin.real_path.is_relative_to(file_origin(folder).real_path):
        raise ValueError(f"{shown(name)} leads out of the folder of the file by a symbolic link")
    if not exists(origin.path):
        raise ValueError(f"there is no file {shown(str(origin.path))}")
    return origin


def looks_like_path(text: str) -> bool:
    """Say whether a text is meant as a path rather than as a built-in name."""
    return "/" in text or "\\" in text or text.endswith(_SUFFIXES)


def exists(path: Path) -> bool:
    """Say whether there is something at a path, which may be no path at all."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def builtin_origin(name: str) -> FileOrigin | None:
    """Give the origin of a built-in rule set; ``None`` if there is none of that name."""
    path = builtin_path(name)
    return None if path is None else FileOrigin(f"<built-in {name}>", name, path)


def file_origin(path: Path) -> FileOrigin:
    """Give the origin of a rule file."""
    return FileOrigin(str(path), path.stem, path)


def read_file(origin: FileOrigin) -> Document:
    """Read a rule file; problems, such as that it can't be read, are in the document that comes back."""
    path = origin.path
    try:
        # Opening a pipe would wait for its other end, reading a device would not end.
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")
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
