"""The exceptions of the package: bad input, bad outcome and refusal are different types."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class BioconvertError(Exception):
    """Whatever bioconvert raises on purpose; its text says what must hold, what was given and what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a rule set, with its place where there is one.

    Args:
        message: what is wrong and what to write instead.
        source: the file's name, or what stands for it (``<dict>``).
        line: line, counted from 1; ``None`` where the rules did not come from text.
        column: column, counted from 1.
        excerpt: the line of text the problem lies in.
    """

    message: str
    source: str = "<rules>"
    line: int | None = None
    column: int | None = None
    excerpt: str | None = None

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"
        text = f"{place}: {self.message}"
        if self.excerpt is None or self.column is None:
            return text
        return f"{text}\n    {self.excerpt}\n    {' ' * (self.column - 1)}^"


class RuleError(BioconvertError, ValueError):
    """A rule set that can't be used; every problem found in it is in :attr:`problems`."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class OptionError(BioconvertError, ValueError):
    """An argument of the API that can't be used: a wrong type, a wrong value, inputs that don't fit."""


class ConversionError(BioconvertError, RuntimeError):
    """A conversion that could not be carried out; the model is exactly as it was before."""


class CheckpointError(BioconvertError):
    """A file or folder that is no usable checkpoint."""


class UnsafeFileError(CheckpointError):
    """A file that would run code when loaded, or that asks for absurd amounts of memory."""


class CorruptFileError(CheckpointError):
    """A file that is damaged: truncated, changed since it was written, or no checkpoint at all."""


class ArchitectureError(CheckpointError, ValueError):
    """The architecture of a checkpoint is unknown, can't be built, or doesn't fit the tensors."""


class TargetError(BioconvertError, OSError):
    """The place to write to can't be used: it isn't empty, isn't writable, or is full."""


class ResourceError(BioconvertError):
    """The machine has too little memory or disk space, which was found out before anything was written."""


def first_line(error: BaseException) -> str:
    """Give the first line of an error's text, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Refused(Exception):  # noqa: N818 - ordinary control flow, named for what it says
    """Raised by a builder that won't touch a module; the plan turns it into ``Skipped``."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)
