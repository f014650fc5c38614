"""``bioconvert version``: what is installed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from bioconvert.cli.command import Answer
from bioconvert.version import __version__


def version() -> Answer:
    """Print the versions of bioconvert, Python and torch."""
    versions = {"bioconvert": __version__, "python": platform.python_version(), "torch": _installed("torch")}
    return Answer(
        versions, lambda: [f"{name} {found or 'not installed'}" for name, found in versions.items()]
    )


def _installed(distribution: str) -> str | None:
    # From the metadata, not from the package: importing torch takes seconds.
    try:
        return installed_version(distribution)
    except PackageNotFoundError:
        return None
