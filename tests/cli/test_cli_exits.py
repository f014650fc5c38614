"""Which failure ends in which exit code."""

import errno

import pytest

from bioconvert.cli.exits import FAILURES, Exit, failure_of
from bioconvert.core import errors
from bioconvert.core.errors import (
    ArchitectureError,
    BioconvertError,
    CheckpointError,
    ConversionError,
    CorruptFileError,
    OptionError,
    Problem,
    ResourceError,
    RuleError,
    TargetError,
    UnsafeFileError,
)


def _full_disk():
    error = TargetError("out: no space left")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


ENDS = [
    pytest.param(RuleError([Problem("wrong")]), "rules", 2, id="rules"),
    pytest.param(OptionError("wrong"), "option", 2, id="an option"),
    pytest.param(ConversionError("failed"), "conversion", 2, id="a conversion"),
    pytest.param(ArchitectureError("unknown"), "architecture", 2, id="an architecture"),
    pytest.param(TargetError("not empty"), "target", 2, id="a target in use"),
    pytest.param(ResourceError("too little memory"), "resources", 4, id="too little memory or disk space"),
    pytest.param(_full_disk(), "io", 4, id="a full target"),
    pytest.param(FileNotFoundError(errno.ENOENT, "No such file"), "not-found", 2, id="no such file"),
    pytest.param(UnsafeFileError("runs code"), "unsafe", 3, id="an unsafe file"),
    pytest.param(CorruptFileError("damaged"), "corrupt", 3, id="a corrupt file"),
    pytest.param(CheckpointError("unusable"), "checkpoint", 3, id="no checkpoint"),
    pytest.param(BioconvertError("something"), "error", 2, id="anything on purpose"),
    pytest.param(PermissionError(errno.EACCES, "Permission denied"), "io", 4, id="not allowed"),
    pytest.param(OSError(errno.EIO, "Input/output error"), "io", 4, id="a broken disk"),
    pytest.param(MemoryError(), "memory", 4, id="no memory"),
    pytest.param(KeyboardInterrupt(), "interrupted", 130, id="Ctrl-C"),
    pytest.param(KeyError("x"), "bug", 101, id="a bug"),
    pytest.param(SystemExit(0), "bug", 101, id="code that ends the process"),
]


@pytest.mark.parametrize(("error", "kind", "code"), ENDS)
def test_failure_ends_in_its_code(error, kind, code):
    """Each exception has one word in JSON and one exit code."""
    failure = failure_of(error)
    assert (failure.kind, int(failure.code)) == (kind, code)


def test_every_error_of_the_package_has_a_row():
    """No exception of ours is left to the row of its base class."""
    ours = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.BioconvertError)
    }
    assert ours <= FAILURES.keys()


def test_codes_are_those_of_the_contract():
    """The numbers are part of what users script against."""
    assert {code.name: int(code) for code in Exit} == {
        "DONE": 0,
        "FINDINGS": 1,
        "USAGE": 2,
        "INPUT": 3,
        "RESOURCES": 4,
        "BUG": 101,
        "INTERRUPTED": 130,
    }
