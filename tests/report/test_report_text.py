"""Names become harmless and numbers short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioconvert.report.text import amount, measure, one_line, plural, printable, shape, short, size

TEXTS = [
    pytest.param(printable, "naïve → ✓", "naïve → ✓", id="letters stay"),
    pytest.param(printable, "a\nb", "a\nb", id="our line breaks stay"),
    pytest.param(printable, "\x1b[31mred", r"\x1b[31mred", id="ESC"),
    pytest.param(printable, "a\u202eb", r"a\u202eb", id="direction mark"),
    pytest.param(printable, "a\udcffb", r"a\udcffb", id="a byte that is no text"),
    pytest.param(one_line, "a\nb\tc", r"a\nb\tc", id="one line"),
    pytest.param(one_line, "[red]x[/red]", "[red]x[/red]", id="markup is text"),
    pytest.param(short, "a" * 160, "a" * 160, id="a name of two lines"),
    pytest.param(short, "a" * 9 + "b" * 999, "a" * 9 + "b" * 70 + "…" + "b" * 79, id="an endless name"),
    pytest.param(size, 0, "0 B", id="no byte"),
    pytest.param(size, 1023, "1,023 B", id="bytes"),
    pytest.param(size, 1024, "1.0 KiB", id="KiB"),
    pytest.param(size, 46_830_571, "44.7 MiB", id="MiB"),
    pytest.param(size, 5 << 50, "5120.0 TiB", id="beyond the units"),
    pytest.param(amount, 999_999, "999,999", id="exact"),
    pytest.param(amount, 11_689_512, "11.69 M", id="millions"),
    pytest.param(amount, 7_000_000_000, "7.00 G", id="billions"),
    pytest.param(shape, (64, 3, 7, 7), "64×3×7×7", id="shape"),
    pytest.param(shape, (), "", id="scalar"),
    pytest.param(measure, 0.0, "0", id="zero"),
    pytest.param(measure, 0.123456, "0.123", id="three digits"),
    pytest.param(measure, float("nan"), "nan", id="NaN"),
    pytest.param(measure, float("inf"), "inf", id="infinity"),
]


@pytest.mark.parametrize(("say", "given_value", "expected"), TEXTS)
def test_value_is_said(say, given_value, expected):
    """Each kind of value has one text."""
    assert say(given_value) == expected


@pytest.mark.parametrize(("count", "expected"), [(0, "0 files"), (1, "1 file"), (1234, "1,234 files")])
def test_plural(count, expected):
    """One is singular, everything else plural, thousands are separated."""
    assert plural(count, "file") == expected


def test_irregular_plural():
    """A noun whose plural isn't made with s can say it."""
    assert plural(2, "entry", "entries") == "2 entries"


@given(st.text())
def test_nothing_a_terminal_acts_upon_is_left(text):
    """Whatever the name, its one-line text consists of printable characters."""
    assert one_line(text).isprintable()
