"""Regular expressions from rule files."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioconvert.ruleset.expressions import compile_expression
from bioconvert.ruleset.globs import PatternError

MATCHES = [
    (r"layer[12]\..*", "layer1.conv", True),
    (r"layer[12]\..*", "xlayer1.conv", False),
    (r"layer[12]", "layer12", False),
    (r"(?i)FC", "fc", True),
    (r"a{2,3}", "aaa", True),
    (r".*(?<!bn)", "layer.bn", False),
    (r"", "", True),
]


@pytest.mark.parametrize(("text", "name", "expected"), MATCHES)
def test_the_whole_name_must_match(text, name, expected):
    """A regular expression is compared to the whole name."""
    assert compile_expression(text)(name, time.monotonic() + 1) is expected


PROBLEMS = [
    ("(", r"not a regular expression: missing \)"),
    ("a**", r"not a regular expression: multiple repeat"),
    (r"\p{Foo}", r"not a regular expression: unknown property"),
    ("(" * 450 + ")" * 450, r"too many nested groups"),
    ("a" * 1001, r"at most 1,000 characters, not 1,001"),
    ("a{99999999}", r"repeat counts as large as these"),
    ("((a{99}){99}){99}", r"repeat counts as large as these"),
    ("(?x)a{ 9999999 }", r"verbose mode"),
    ("(?R)|a", r"can't call itself"),
    ("(?<x>a(?&x))", r"can't call itself"),
]


@pytest.mark.parametrize(("text", "message"), PROBLEMS)
def test_problems(text, message):
    """What is no regular expression, or would compile to something huge, is refused."""
    with pytest.raises(PatternError, match=message):
        compile_expression(text)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["(?:.*,){40}P", "(?b)(a+b+c+){e<=50}"])
def test_gives_up_at_its_deadline(text):
    """An expression that backtracks without end gives up when it is told to."""
    matches = compile_expression(text)
    with pytest.raises(TimeoutError):
        matches("a,a" * 3000, time.monotonic() + 0.05)


def test_does_not_begin_after_its_deadline():
    """Once its time is used up an expression does not even begin."""
    with pytest.raises(TimeoutError):
        compile_expression("a")("a", time.monotonic() - 1)


@given(st.text(max_size=20) | st.text("()[]{}|*+?\\^$.,<>=!:&aPR0129 ", max_size=30))
def test_any_text_compiles_or_is_refused(text):
    """No text makes the compiler fail in any other way."""
    try:
        matches = compile_expression(text)
    except PatternError:
        return
    assert matches("a.b", time.monotonic() + 60) in (True, False)
