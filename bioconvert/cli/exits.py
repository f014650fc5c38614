"""The exit codes, and which failure ends in which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from bioconvert.core.errors import (
    ArchitectureError,
    BioconvertError,
    CheckpointError,
    ConversionError,
    CorruptFileError,
    OptionError,
    ResourceError,
    RuleError,
    TargetError,
    UnsafeFileError,
)


class Exit(IntEnum):
    """What the exit code of ``bioconvert`` says."""

    DONE = 0
    FINDINGS = 1
    """The command worked and found something: ``verify``, ``diff``, ``doctor``."""
    USAGE = 2
    """The request can't be met: arguments, rules, architecture, a missing file, a target in use."""
    INPUT = 3
    """The input is unsafe to read, or corrupt."""
    RESOURCES = 4
    """Reading, writing, memory or disk space failed."""
    BUG = 101
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Failure:
    """How a kind of exception ends.

    Args:
        kind: the word for it in a ``--json`` document.
        code: the exit code.
    """

    kind: str
    code: Exit


USAGE = Failure("usage", Exit.USAGE)
"""Arguments that the parser of the command line refuses."""

FAILURES: Mapping[type[BaseException], Failure] = {
    RuleError: Failure("rules", Exit.USAGE),
    OptionError: Failure("option", Exit.USAGE),
    ConversionError: Failure("conversion", Exit.USAGE),
    ArchitectureError: Failure("architecture", Exit.USAGE),
    TargetError: Failure("target", Exit.USAGE),
    ResourceError: Failure("resources", Exit.RESOURCES),
    UnsafeFileError: Failure("unsafe", Exit.INPUT),
    CorruptFileError: Failure("corrupt", Exit.INPUT),
    CheckpointError: Failure("checkpoint", Exit.INPUT),
    BioconvertError: Failure("error", Exit.USAGE),
    FileNotFoundError: Failure("not-found", Exit.USAGE),
    OSError: Failure("io", Exit.RESOURCES),
    MemoryError: Failure("memory", Exit.RESOURCES),
    KeyboardInterrupt: Failure("interrupted", Exit.INTERRUPTED),
    BaseException: Failure("bug", Exit.BUG),
}


def failure_of(error: BaseException) -> Failure:
    """Find how an exception ends: by its class, or by the nearest class above it that the table has.

    A target that can't be written to, or a checkpoint that can't be read, because the system refused is a
    matter of resources, not of usage or of what the checkpoint holds.
    """
    if isinstance(error, (TargetError, CheckpointError)) and isinstance(error.__cause__, OSError):
        return FAILURES[OSError]
    return next(FAILURES[cls] for cls in type(error).__mro__ if cls in FAILURES)
