"""Conditions on attributes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioconvert.ruleset.comparison import Comparison, comparisons, comparisons_to_plain

HOLDS = [
    (1, 1, True),
    (1, 2, False),
    (1, 1.0, True),
    (1, True, False),
    (1, "1", False),
    ("1", "1", True),
    ("1", 1, False),
    ("same", "same", True),
    ("same", (1, 1), False),
    (3, (3, 3), True),
    (3, (3, 1), False),
    (3, (), False),
    ([3, 1], (3, 1), True),
    ([3, 1], (3, 1, 1), False),
    ([3, 1], 3, False),
    ([[0, 1], [2, 3]], ((0, 1), (2, 3)), True),
    (True, True, True),
    (True, 1, False),
    (True, object(), True),
    (True, None, False),
    (False, None, True),
    (False, object(), False),
    (False, "", False),
    (None, None, True),
    (None, 0, False),
    (">=16", 16, True),
    (">=16", 15, False),
    (">=16", "16", False),
    (">=16", None, False),
    (">=16", True, False),
    (">1", (3, 3), True),
    (">1", (3, 1), False),
    (">1", (), False),
    ("<=8", 8, True),
    ("< 8", 8, False),
    ("!=1", 2, True),
    ("!=1", 1, False),
    ("!=1", (1, 1), False),
    ("!=1", (1, 2), True),
    ("!=zeros", "reflect", True),
    ("!=zeros", "zeros", False),
    ("!=null", None, False),
    ("!=null", object(), True),
    ("==16", 16, True),
    ("==zeros", "zeros", True),
    (">2, <=64", 64, True),
    (">2, <=64", 2, False),
    (">=1e-5", 0.1, True),
    ("<.inf", 5, True),
]


@pytest.mark.parametrize(("given_value", "actual", "expected"), HOLDS)
def test_holds(given_value, actual, expected):
    """Types count; a number is compared to every entry of a tuple; true and false ask for presence."""
    assert all(comparison.holds(actual) for comparison in comparisons(given_value)) is expected


PROBLEMS = [
    (">", r"'>' is no comparison; write \">=16\""),
    ("=16", r"'=16' is no comparison"),
    (">=16, 32", r"'32' is no comparison"),
    (">2,", r"'' is no comparison"),
    (">a", r"'a' can't be compared to with >: it is no number"),
    (">=true", r"'true' can't be compared to with >="),
    ("!=.nan", r"'.nan' can't be compared to"),
    (">" + "9" * 500, r"a number of 500 characters"),
    (float("nan"), r"nothing is equal to .nan"),
    ({"a": 1}, r"not to a mapping"),
    ([">=16", "<3"], r"a list stands for a value as a whole"),
    ([[float("nan")]], r"nothing is equal to .nan"),
]


@pytest.mark.parametrize(("given_value", "message"), PROBLEMS)
def test_problems(given_value, message):
    """What is neither a value nor a comparison is refused, with what to write."""
    with pytest.raises(ValueError, match=message):
        comparisons(given_value)


@pytest.mark.timeout(10)
def test_long_texts_take_no_time():
    """Blanks in a comparison of half a million characters don't multiply."""
    with pytest.raises(ValueError, match="is no number"):
        comparisons(">a" + " " * 500_000 + "b")


def test_comparisons_are_values():
    """A condition is an operator and a value."""
    expected = (Comparison(op=">", value=2), Comparison(op="<=", value=64))
    assert comparisons(">2,<= 64") == expected


NUMBERS = st.integers() | st.floats(allow_nan=False)
LITERALS = st.none() | st.booleans() | NUMBERS | st.text("abc 1.,-eE", max_size=5)
ORDERED = st.tuples(st.sampled_from(["<", "<=", ">", ">=", "!=", "=="]), NUMBERS).map(
    lambda pair: f"{pair[0]}{pair[1]}"
)
GIVEN = st.recursive(LITERALS, lambda inner: st.lists(inner, max_size=3), max_leaves=5) | st.lists(
    ORDERED.filter(lambda text: "inf" not in text), min_size=1, max_size=3
).map(", ".join)


@given(GIVEN)
def test_written_conditions_read_back(value):
    """What is written of conditions reads back as the same conditions."""
    conditions = comparisons(value)
    assert comparisons(comparisons_to_plain(conditions)) == conditions
