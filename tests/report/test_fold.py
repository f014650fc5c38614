"""Names that differ in numbers alone become one."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioconvert.report.fold import fold, numbers

FOLDED = [
    pytest.param([], [], id="nothing"),
    pytest.param(["fc"], ["fc"], id="no number"),
    pytest.param(["conv1"], ["conv1"], id="one number"),
    pytest.param(["h.0", "h.1"], ["h.{0,1}"], id="two"),
    pytest.param([f"h.{i}.mlp" for i in range(12)], ["h.{0..11}.mlp"], id="a range"),
    pytest.param(["h.0", "h.2", "h.5", "h.6", "h.7"], ["h.{0,2,5..7}"], id="gaps"),
    pytest.param(
        [f"layer{i}.{j}.conv1" for i in range(1, 5) for j in range(2)],
        ["layer{1..4}.{0,1}.conv1"],
        id="a product",
    ),
    pytest.param(["a.0.x", "a.1.y"], ["a.0.x", "a.1.y"], id="other words"),
    pytest.param(["a07", "a08"], ["a07", "a08"], id="leading zeros are a name"),
    pytest.param(["a1", "a1"], ["a1"], id="twice the same"),
    pytest.param(["b.1", "a", "b.0"], ["b.{0,1}", "a"], id="in order of appearance"),
]


@pytest.mark.parametrize(("names", "expected"), FOLDED)
def test_names_fold_into_patterns(names, expected):
    """Names that differ in numbers alone share a pattern with the numbers in braces."""
    assert [folded.text for folded in fold(names)] == expected


@given(st.lists(st.from_regex(r"[ab]{0,2}[0-9]{0,2}\.[ab][0-9]{0,2}", fullmatch=True), max_size=40))
def test_a_pattern_stands_for_exactly_its_names(names):
    """What the patterns spell out is what was folded: nothing lost, nothing added, nothing twice."""
    folded = fold(names)
    spelled = [name for pattern in folded for name in _spelled(pattern.text)]
    assert sorted(spelled) == sorted(set(names))
    assert [sorted(pattern.names) for pattern in folded] == [sorted(_spelled(p.text)) for p in folded]


def test_a_single_number_has_no_braces():
    """One value is written as it is."""
    assert numbers([7]) == "7"


def _spelled(pattern):
    parts = [
        _values(part[1:-1]) if part.startswith("{") else [part] for part in re.split(r"(\{.*?\})", pattern)
    ]
    return ["".join(choice) for choice in product(*parts)]


def _values(text):
    found = []
    for item in text.split(","):
        first, _, last = item.partition("..")
        found += [str(value) for value in range(int(first), int(last or first) + 1)]
    return found
