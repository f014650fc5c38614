"""Rule text becomes plain values, each with its place, or problems with theirs."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioconvert.ruleset.document import MAX_DEPTH, MAX_PROBLEMS
from bioconvert.ruleset.reader import MAX_BYTES, read_bytes, read_text

VALUES = [
    pytest.param("a: 1\nb: [x, yes]\n", {"a": 1, "b": ["x", "yes"]}, id="block and flow"),
    pytest.param(
        "a: \"1\"\nb: 'true'\nc: |\n  2\n", {"a": "1", "b": "true", "c": "2\n"}, id="quoted is text"
    ),
    pytest.param("\ufeffa: 1", {"a": 1}, id="byte order mark"),
    pytest.param("a: {q,k}", {"a": {"q": None, "k": None}}, id="braces are a mapping"),
    pytest.param("- a\n-\n- - b\n", ["a", None, ["b"]], id="lists"),
    pytest.param("1: x\ntrue: y\n", {"1": "x", "true": "y"}, id="keys are text"),
    pytest.param("%YAML 1.2\n---\na: 1\n...\n", {"a": 1}, id="directive and end"),
    pytest.param("a: 'it''s'\r\nb: 2", {"a": "it's", "b": 2}, id="carriage returns"),
    pytest.param("[a?, b|c?, d?e]", ["a?", "b|c?", "d?e"], id="question marks inside brackets"),
    pytest.param('{"a?": b?, \'c?\': "?"}', {"a?": "b?", "c?": "?"}, id="question marks in keys and quotes"),
    pytest.param("? a?\n: b?\n", {"a?": "b?"}, id="question mark of a key"),
    pytest.param("[\ue000?, \ue001]", ["\ue000?", "\ue001"], id="characters for private use"),
    pytest.param("[" * MAX_DEPTH + "]" * MAX_DEPTH, None, id="deep enough"),
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_values(text, expected):
    """A document has the values that YAML 1.2 gives it, and no problems."""
    document = read_text(text, "f")
    assert document.problems == []
    if expected is not None:
        assert document.value == expected


PROBLEMS = [
    ("a: *x", 1, 4, r"begins an alias in YAML.*put quotes around a glob.*\"\*\.conv\""),
    ("path: *.conv", 1, 7, r"begins an alias.*quotes around a glob"),
    ("path: **.conv", 1, 7, r"begins an alias"),
    ("path: [x, *]", 1, 11, r"begins an alias"),
    ("*a : b", 1, 1, r"begins an alias"),
    ("a: &x 1", 1, 4, r"begins an anchor"),
    ("a: & b", 1, 4, r"begins an anchor"),
    ("a: !!python/name:os.system x", 1, 4, r"`!` begins a tag.*python/name:os\.system"),
    ("a: !x {b: c}", 1, 4, r"begins a tag"),
    ("groups: !=1", 1, 9, r'quotes around a comparison: "!=16"'),
    ("{groups: !=1}", 1, 10, r'quotes around a comparison: "!=16"'),
    ("a: >=16", 1, 4, r'quotes around a comparison: ">=16"'),
    ("{a: >=16}", 1, 5, r'quotes around a comparison: ">=16"'),
    ("a: |x", 1, 4, r"text that begins with `\|` needs quotes"),
    ("a: `x`", 1, 4, r"text that begins with ``` needs quotes"),
    ("a: @x", 1, 4, r"text that begins with `@` needs quotes"),
    ("a: %x", 1, 4, r"text that begins with `%` needs quotes"),
    ("a: [layer[0-9].x]", 1, 10, r"inside `\[…\]` and `\{…\}`.*put quotes"),
    ("{a: b.{q,k}}", 1, 7, r"inside `\[…\]`"),
    ('path: "re:\\.x"', 1, 12, r"`\\` begins an escape.*use single quotes: 're:…\\\.'"),
    ("a:\n\t- b", 2, 1, r"a tab stands where YAML needs spaces"),
    ("a:\tb", 1, 3, r"a tab stands"),
    ("a: 1\na: 2", 2, 1, r"the key 'a' stands here twice"),
    ("a: {b: 1, 'b': 2}", 1, 11, r"the key 'b' stands here twice"),
    ("? [a]\n: b", 1, 3, r"a key must be text"),
    ("a: 1\n---\nb: 2", 2, 1, r"one YAML document, and `---` begins a second"),
    ("", 1, 1, r"the file is empty.*`version: 1`"),
    ("# nothing\n", 1, 1, r"the file is empty"),
    ("a: b: c", 1, 5, r"a second `: ` here"),
    ("a: 'x", 1, 4, r"a quote is opened and never closed"),
    ("a: 'it's'", 1, 8, r"doesn't fit what is above"),
    ("a: [b, c", 1, 4, r"a bracket is opened and never closed"),
    ("a:\n  - b\n c: d", 3, 2, r"doesn't fit what is above"),
    ("}", 1, 1, r"this is not YAML"),
    ("%YAML 2.0\n---\na", 1, 1, r"this is not YAML"),
    ("a: x\x1by", 1, 5, r"the character U\+001B"),
    ('a: "\\ud800"', 1, 4, r"half a character"),
    ('"\\ud800": a', 1, 1, r"half a character"),
    ('a: "\\U00110000"', 1, 7, r"stands for no character"),
    ('a: "\\UFFFFFFFF"', 1, 7, r"stands for no character"),
    ("a: " + "9" * 5000, 1, 4, r"a number of 5000 characters"),
    ("[" * 5000, 1, MAX_DEPTH + 1, r"nested more than 32 levels"),
    ("a: " + "{b: " * 5000, 1, 4 + 4 * (MAX_DEPTH - 1), r"nested more than 32 levels"),
    ("- " * 5000 + "a", 1, 2 * MAX_DEPTH + 1, r"nested more than 32 levels"),
    ("? " * 5000, 1, 3, r"a key must be text"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), PROBLEMS)
def test_problems(text, line, column, message):
    """What a rule file may not contain is explained at its line and column."""
    document = read_text(text, "f")
    problem = document.problems[0]
    assert (problem.source, problem.line, problem.column) == ("f", line, column)
    assert re.search(message, problem.message)


def test_billion_laughs_ends_at_its_first_anchor():
    """Aliases of aliases build nothing: each anchor and alias is a problem of its own, up to a hundred."""
    lines = ["a0: &a0 [lol]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    document = read_text("\n".join(lines), "f")
    assert document.problems[0].line == 1
    assert len(document.problems) == MAX_PROBLEMS
    assert document.value["a29"] == [None] * 10


def test_recursive_alias_is_a_problem():
    """A list that contains itself can't be written."""
    document = read_text("a: &a [*a]", "f")
    assert [problem.column for problem in document.problems] == [4, 8]


def test_all_problems_that_end_nothing_are_collected():
    """Aliases, tags and duplicate keys are reported together; reading goes on behind them."""
    document = read_text("a: *x\nb: !t 1\nb: 2\nc: 3\n", "f")
    assert [problem.line for problem in document.problems] == [1, 2, 3]
    assert document.value == {"a": None, "b": "1", "c": 3}


def test_the_value_of_a_second_key_is_dropped():
    """Of two values for a key the first one stays, and what is inside the second is not confused with it."""
    document = read_text("a: {x: 1}\na: {x: [2]}\nb: 3", "f")
    assert document.value == {"a": {"x": 1}, "b": 3}
    assert document.place(("a", "x")).line == 1


def test_places_of_keys_and_values():
    """Every value and every key knows where it stands; what has no place of its own takes its owner's."""
    document = read_text("a: 1\nrules:\n  - {match: x, b: [c, 4]}\n", "f")
    places = [
        document.place(("rules", 0, "match"), key=True),
        document.place(("rules", 0, "match")),
        document.place(("rules", 0, "b", 1)),
        document.place(("rules", 0, "b", 7)),
        document.place(("rules", 3)),
    ]
    assert [(place.line, place.column) for place in places] == [(3, 6), (3, 13), (3, 23), (3, 19), (3, 3)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: " + b"x" * MAX_BYTES, r"at most 1 MiB"),
        (b"a: [" + b"b," * 101_000 + b"]", r"more than 100,000 values"),
        (b"version: 1\nname: \xff\n", r"f:2:7: the file is not UTF-8"),
        ("a: 1".encode("utf-16"), r"f:1:1: the file is not UTF-8"),
        (b"PK\x03\x04\0\0\xff", r"a rule file is text in YAML, this one is binary"),
    ],
)
def test_files_that_are_none(data, message):
    """Too much text and other encodings are problems."""
    (problem,) = read_bytes(data, "f").problems
    assert re.search(message, str(problem))


def test_the_excerpt_shows_nothing_a_terminal_would_act_on():
    """Unprintable characters are blanked one for one, so that the caret stays below its column."""
    (problem,) = read_text("a: '\x85x' *", "f").problems
    assert str(problem).splitlines()[-1].index("^") == 4 + problem.column - 1
    assert all(line.isprintable() for line in str(problem).splitlines())


# A key within braces may have 1,024 characters, escapes counted.
TEXTS = st.text(max_size=80)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=10)


@given(TREES)
def test_json_reads_back(value):
    """JSON is YAML: any tree of plain values reads back as it was written."""
    document = read_text(json.dumps(value), "f")
    assert document.problems == []
    assert document.value == value
