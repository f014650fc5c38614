"""Globs over dotted names."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioconvert.ruleset.globs import PatternError, check_glob, compile_glob

MATCHES = [
    ("layer1", "layer1", True),
    ("layer1", "layer1.0", False),
    ("layer1", "xlayer1", False),
    ("layer*", "layer1", True),
    ("layer*", "layer", True),
    ("layer*", "layer1.0", False),
    ("layer*.**", "layer1", True),
    ("layer*.**", "layer1.0.conv", True),
    ("layer*.**", "stem.layer1", False),
    ("**", "", True),
    ("**", "a.b", True),
    ("*", "a", True),
    ("*", "", False),
    ("*", "a.b", False),
    ("", "", True),
    ("", "a", False),
    ("fc?", "fc1", True),
    ("fc?", "fc", False),
    ("fc?", "fc12", False),
    ("a?b", "a.b", False),
    ("**.downsample.*", "downsample.0", True),
    ("**.downsample.*", "layer2.0.downsample.0", True),
    ("**.downsample.*", "layer2.0.downsample", False),
    ("a.**.b", "a.b", True),
    ("a.**.b", "a.x.y.b", True),
    ("a.**.b.**.c", "a.b.b.x.c", True),
    ("*.b*.*", "a.bb.c", True),
    ("conv+", "conv+", True),
    ("conv+", "convv", False),
    ("a-b", "a-b", True),
    ("größe", "größe", True),
]


@pytest.mark.parametrize(("glob", "name", "expected"), MATCHES)
def test_matches(glob, name, expected):
    """``*`` and ``?`` stay within a segment, ``**`` is any number of them, the empty name is the model's."""
    assert compile_glob(glob)(name) is expected


PROBLEMS = [
    ("layer[12]", r"no `\[…\]` or `\{…\}`.*'re:layer\[0-9\]\\\.conv'"),
    ("{q,k}", r"no `\[…\]` or `\{…\}`; list the alternatives"),
    ("0-9", r"`\[0-9\]` is a list.*'re:\[0-9\]'"),
    ("a..b", r"nothing between two dots"),
    (".a", r"nothing between two dots, or beside the first"),
    ("a.", r"nothing between two dots"),
    ("a**", r"`\*\*` stands for whole segments"),
    ("a.***", r"`\*\*` stands for whole segments"),
]


@pytest.mark.parametrize(("glob", "message"), PROBLEMS)
def test_problems(glob, message):
    """A glob that another tool would understand differently is refused, with what to write instead."""
    with pytest.raises(PatternError, match=message):
        check_glob(glob)


def matches(glob, name):
    """Match by the definition: try everything that a wildcard may stand for."""
    return _any_match(
        tuple(glob.split(".")) if glob else (),
        tuple(name.split(".")) if name else (),
        lambda segment: segment == "**",
        lambda segment, part: _any_match(segment, part, lambda c: c == "*", lambda c, d: c in ("?", d)),
    )


def _any_match(pattern, text, is_any, is_one):
    @cache
    def from_here(i, j):
        if i == len(pattern):
            return j == len(text)
        if is_any(pattern[i]):
            return from_here(i + 1, j) or (j < len(text) and from_here(i, j + 1))
        return j < len(text) and is_one(pattern[i], text[j]) and from_here(i + 1, j + 1)

    return from_here(0, 0)


SEGMENTS = st.text("ab*?", min_size=1, max_size=5).filter(lambda segment: "**" not in segment)
GLOBS = st.lists(st.just("**") | SEGMENTS, max_size=5).map(".".join)
NAMES = st.lists(st.text("ab", min_size=1, max_size=4), max_size=5).map(".".join)


@given(GLOBS, NAMES)
def test_agrees_with_the_definition(glob, name):
    """Matching without backtracking finds what trying everything finds."""
    assert compile_glob(glob)(name) is matches(glob, name)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("glob", ["**." * 200 + "x", "*a" * 500 + "*b", "**.*a*." * 100 + "q"])
def test_wildcards_do_not_multiply(glob):
    """A glob with hundreds of wildcards is done with a name of 9,000 characters at once."""
    assert not any(map(compile_glob(glob), ["a" * 9000, "aa." * 3000 + "z"]))
