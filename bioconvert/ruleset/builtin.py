"""The rule sets that come with the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def builtin_names() -> tuple[str, ...]:
    """Name the built-in rule sets."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def builtin_path(name: str) -> Path | None:
    """Give the file of a built-in rule set; ``None`` if there is none of that name."""
    return _folder() / f"{name}.yaml" if name in builtin_names() else None


def _folder() -> Path:
    """Give the folder in the installed package, or the one beside the package in a checkout."""
    installed = _PACKAGE / "_rules"
    return installed if installed.is_dir() else _PACKAGE.parent / "rules"
