"""Where rule sets come from: built-in names, files, and what a file may extend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bioconvert.core.suggest import hint
from bioconvert.ruleset.builtin import builtin_names, builtin_path
from bioconvert.ruleset.quoting import printable, shown

MAX_LEVELS = 100
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


def extended_origin(name: str, chain: tuple[Origin, ...]) -> FileOrigin:
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
        raise ValueError(f"there is no file {shown(name)} in the folder of this one")
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
    return FileOrigin(printable(str(path)), path.stem, path)
