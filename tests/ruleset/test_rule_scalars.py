"""Plain scalars of the YAML 1.2 core schema."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioconvert.ruleset.scalars import scalar, scalar_text

SCALARS = [
    ("", None),
    ("~", None),
    ("null", None),
    ("nULL", "nULL"),
    ("true", True),
    ("FALSE", False),
    ("yes", "yes"),
    ("no", "no"),
    ("on", "on"),
    ("off", "off"),
    ("12", 12),
    ("-3", -3),
    ("+3", 3),
    ("0x1F", 31),
    ("0o17", 15),
    ("017", 17),
    ("0b1", "0b1"),
    ("1_000", "1_000"),
    ("1:30", "1:30"),
    ("1e-5", 1e-5),
    ("1.", 1.0),
    (".5", 0.5),
    ("-.5E+2", -50.0),
    (".", "."),
    ("1.2.3", "1.2.3"),
    ("-.inf", -math.inf),
    ("inf", "inf"),
    ("١", "١"),
    ("2024-01-01", "2024-01-01"),
]


@pytest.mark.parametrize(("text", "expected"), SCALARS)
def test_core_schema(text, expected):
    """An unquoted scalar has the value, of the type, that YAML 1.2's core schema gives it."""
    value = scalar(text)
    assert value == expected
    assert type(value) is type(expected)


def test_not_a_number():
    """``.nan`` is the one value that is unequal to itself."""
    assert math.isnan(scalar(".nan"))


@pytest.mark.parametrize("text", ["9" * 401, "-" + "1" * 5000, "0x" + "f" * 500])
def test_endless_numbers_are_refused(text):
    """A number of more than 400 characters is an error, not a stalled or failing conversion."""
    with pytest.raises(ValueError, match=r"a number of [0-9]+ characters"):
        scalar(text)


@given(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False))
def test_written_scalars_read_back(value):
    """What is written of a scalar reads back as the same value of the same type."""
    back = scalar(scalar_text(value))
    assert (back, type(back)) == (value, type(value))
