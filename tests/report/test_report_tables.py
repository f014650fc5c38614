"""Plans, conversions and drifts as tables that fit a terminal."""

import shlex
from dataclasses import dataclass

import pytest
from rich.console import Console

from bioconvert.core.results import Applied, Outcomes, Skipped
from bioconvert.report.demo import accuracy_table, prompt
from bioconvert.report.drift import drift_line, drift_tables
from bioconvert.report.plan import plan_tables
from bioconvert.report.rules import rule_sets_table
from bioconvert.report.summary import Line, summary_lines, summary_table
from bioconvert.report.tables import facts

LONG = "skipped because " + "a very long reason " * 20
REPLACE = "Conv2d → YatConv2d"
BLOCKS = [
    Applied(f"layer{i}.{j}.conv{k}", "blocks", "replace", REPLACE)
    for i in (1, 2)
    for j in (0, 1)
    for k in (1, 2)
]
UNTRACEABLE = [
    Skipped(f"h.{i}.attn.q", "r", "replace", f"the container 'h.{i}.attn' can't be traced") for i in range(3)
]


@dataclass(frozen=True)
class Difference:
    """A stand-in for one entry of a drift."""

    path: str
    max_abs: float = 0.5
    relative: float = 0.0123
    cosine: float = 0.99994


def _cells(text):
    return [line.split() for line in text.splitlines()]


class TestPlan:
    def test_modules_that_fare_alike_share_a_row(self, rendered):
        """Paths that differ in numbers alone are one row, under the number of places."""
        assert rendered(*plan_tables(Outcomes(BLOCKS))).splitlines() == [
            "8 places to change",
            "path                        what     how or why",
            "layer{1,2}.{0,1}.conv{1,2}  replace  Conv2d → YatConv2d",
        ]

    def test_reasons_that_name_the_container_are_alike(self, rendered):
        """Modules whose reasons differ in their container's name alone share a row, which names them all."""
        text = rendered(*plan_tables(Outcomes(UNTRACEABLE)), width=120)
        assert "h.{0..2}.attn.q  replace  the container 'h.{0..2}.attn' can't be traced" in text

    def test_every_shows_each(self, rendered):
        """With every=True there is a row for each module."""
        text = rendered(*plan_tables(Outcomes(BLOCKS), every=True))
        assert all(outcome.path in text for outcome in BLOCKS)

    def test_rule_is_a_column_when_there_are_several(self, rendered):
        """The rule's name is shown where more than one rule acts."""
        outcomes = [Applied("a", "one", "replace", REPLACE), Skipped("b", "two", "replace", "no activation")]
        text = rendered(*plan_tables(Outcomes(outcomes)))
        assert _cells(text)[2][:3] == ["a", "one", "replace"]
        assert ["b", "two", "replace", "no", "activation"] in _cells(text)

    def test_long_table_ends_early(self, rendered):
        """A plan of many unlike rows says how many are left out and how to see them."""
        outcomes = [Skipped(f"m.{name}", "r", "replace", "why") for name in _letters(50)]
        text = rendered(*plan_tables(Outcomes(outcomes)))
        assert text.splitlines()[-1] == "… and 20 more rows (--all shows each)"
        assert "more rows" not in rendered(*plan_tables(Outcomes(outcomes), every=True))

    def test_warnings_come_last(self, rendered):
        """What to know before going on is said below the tables."""
        text = rendered(*plan_tables(Outcomes(BLOCKS, ["a bounded unit\x1b[0m"])))
        assert text.splitlines()[-1] == r"warning: a bounded unit\x1b[0m"

    def test_model_itself_has_a_name(self, rendered):
        """The empty path stands for the model."""
        assert "(the model)" in rendered(*plan_tables(Outcomes([Applied("", "r", "wrap", "wrapped")])))


def _letters(count):
    return [chr(97 + i // 26) + chr(97 + i % 26) for i in range(count)]


class TestSummary:
    def test_counts_what_became_of_the_modules(self):
        """Modules of one class that fared alike are one line: replaced, given something, or left alone."""
        outcomes = [
            *BLOCKS[:2],
            Applied("fc", "plastic", "attach fuzzy_lr", "rates drawn"),
            Skipped("fc", "linears", "replace", "the last layer"),
            Skipped("m:relu_1", "calls", "drop", "used twice"),
        ]
        before = {outcome.path: "Conv2d" for outcome in BLOCKS} | {"fc": "Linear"}
        after = {outcome.path: "YatConv2d" for outcome in BLOCKS} | {"fc": "Linear"}
        assert summary_lines(Outcomes(outcomes), before, after) == (
            Line(2, "Conv2d", "YatConv2d"),
            Line(1, "Linear", "attach fuzzy_lr"),
            Line(1, "Linear", "left as it is", "the last layer"),
            Line(1, "(a call)", "no drop", "used twice"),
        )

    def test_reasons_that_name_the_container_are_alike(self):
        """Modules left alone because of their containers are one line, which names the containers."""
        (line,) = summary_lines(
            Outcomes(UNTRACEABLE), dict.fromkeys((o.path for o in UNTRACEABLE), "Linear"), {}
        )
        assert line == Line(3, "Linear", "left as it is", "the container 'h.{0..2}.attn' can't be traced")

    def test_table_has_reasons_only_where_there_are_any(self, rendered):
        """The column of reasons is there for what was left alone."""
        applied = Line(1234, "Conv2d", "YatConv2d")
        assert _cells(rendered(summary_table((applied,)))) == [
            ["class", "becomes"],
            ["1,234", "Conv2d", "YatConv2d"],
        ]
        both = rendered(summary_table((applied, Line(1, "Linear", "left as it is", "the last"))))
        assert _cells(both)[0] == ["class", "becomes", "because"]


class TestDrift:
    def test_layers_then_the_output(self, rendered):
        """Each layer is a row in the model's order, the model's output the last."""
        text = rendered(*drift_tables([Difference("b"), Difference("a")], Difference("", cosine=1.0)))
        assert [cells[0] for cells in _cells(text) if cells] == ["layer", "b", "a", "the"]
        assert ["b", "0.0123", "0.99994", "0.5"] in _cells(text)

    def test_many_layers_end_early(self, rendered):
        """Without every=True, forty layers are thirty and a remark."""
        layers = [Difference(f"h.{i}") for i in range(40)]
        assert "and 10 more layers" in rendered(*drift_tables(layers, Difference("")))
        assert "h.39" in rendered(*drift_tables(layers, Difference(""), every=True))

    def test_one_line(self):
        """The output's drift fits a sentence."""
        assert (
            drift_line(Difference("")) == "drift of the output: 0.0123 relative, cosine 0.99994, at most 0.5"
        )


HOSTILE = "[red]a[/red]\x1b[31m:smile:\n"
SHOWN = r"[red]a[/red]\x1b[31m:smile:\n"

TABLES = [
    pytest.param(lambda name: plan_tables(Outcomes([Applied(name, "r", "replace", LONG)])), id="plan"),
    pytest.param(lambda name: plan_tables(Outcomes([Applied(name, "r", "a", LONG)]), every=True), id="all"),
    pytest.param(lambda name: [summary_table((Line(1, name, "YatConv2d", LONG),))], id="summary"),
    pytest.param(lambda name: drift_tables([Difference(name)], Difference("")), id="drift"),
    pytest.param(lambda name: [rule_sets_table({name: LONG})], id="rules"),
    pytest.param(lambda name: [facts({"file": name, "why": LONG})], id="facts"),
]


@pytest.mark.parametrize("tables", TABLES)
class TestEveryTable:
    def test_fits_80_columns(self, rendered, tables):
        """However long names and reasons are, no line is longer than the terminal, and nothing is cut off."""
        name = ".".join(["features", "block", "attention"] * 4)
        text = rendered(*tables(name))
        assert max(map(len, text.splitlines())) <= 80
        assert text.count("reason") in (0, 20)

    def test_names_are_text(self, rendered, tables):
        """Markup, emoji codes, ESC and line breaks in a name are shown, not acted upon."""
        assert SHOWN in rendered(*tables(HOSTILE), width=200)


def test_terminal_gets_colours_unless_it_wants_none(monkeypatch):
    """NO_COLOR takes the colours out of every table."""
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(force_terminal=True, width=80, record=True, color_system="standard")
    with console.capture() as captured:
        console.print(rule_sets_table({"yat": "Yat"}))
    assert "\x1b[36m" not in captured.get()


def test_command_line_is_continued(rendered):
    """A long command is wrapped as a shell reads it, within the terminal."""
    words = ["bioconvert", "convert", *(w for i in range(12) for w in (f"--option-{i}", "a value"))]
    lines = rendered(prompt(words)).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert all(line.startswith("    --") for line in lines[1:])
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == ["$", *words]


def test_accuracy_is_a_percentage(rendered):
    """Each network has its share of right answers."""
    assert _cells(rendered(accuracy_table({"converted": 0.9781}, 497)))[1] == ["converted", "97.8%"]
