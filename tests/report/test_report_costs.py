"""Costs before and after in a terminal."""

import pytest
from page_evidence import costs

from bioconvert.core.results import Applied, Outcomes
from bioconvert.report.costs import change, costs_table
from bioconvert.report.plan import plan_tables
from bioconvert.surgery.costs import CostChange

BEFORE = costs(("", "Net", 0), ("a", "A", 1_000), ("a.b", "B", 500), flops=2_000_000)
AFTER = costs(("", "Net", 0), ("a", "A", 1_000), ("a.b", "Yat", 508), flops=3_000_000)

CHANGES = [
    pytest.param(100, 100, "same", id="same"),
    pytest.param(0, 5, "new", id="from nothing"),
    pytest.param(100, 110, "+10.00%", id="more"),
    pytest.param(100, 90, "-10.00%", id="less"),
    pytest.param(100, 400, "4.0×", id="much more"),
    pytest.param(10**9, 10**9 + 1, "+0.01% or less", id="hardly more"),
]


@pytest.mark.parametrize(("before", "after", "expected"), CHANGES)
def test_change_in_words(before, after, expected):
    """A change is a percentage, or a factor where it is much; a tiny one isn't said to be none."""
    assert change(before, after) == expected


def test_totals_of_the_model(rendered):
    """Parameters, memory and operations have a row each."""
    cells = [line.split() for line in rendered(*costs_table(CostChange(BEFORE, AFTER))).splitlines()]
    assert cells[1:] == [
        ["parameters", "1,500", "1,508", "+0.53%"],
        ["memory", "5.9", "KiB", "5.9", "KiB", "+0.53%"],
        ["FLOPs", "of", "a", "call", "2.00", "M", "3.00", "M", "+50.00%"],
    ]


def test_unknown_operations_have_a_reason(rendered):
    """Without operations, the line below the table says why."""
    unknown = costs(("", "Net", 3), unknown="give inputs")
    assert rendered(*costs_table(CostChange(unknown, unknown))).endswith("FLOPs of a call: give inputs\n")


def test_unknown_costs_afterwards(rendered):
    """What can't be known before it is done is said to be unknown."""
    assert "not known" in rendered(*costs_table(CostChange(BEFORE, None))).splitlines()[1]


def test_row_of_a_plan_counts_what_is_inside(rendered):
    """A module's parameters are those of all modules in it, with what comes on top."""
    outcomes = Outcomes([Applied("a", "r", "wrap", "wrapped"), Applied("a.b", "r", "replace", "B → Yat")])
    rows = rendered(*plan_tables(outcomes, costs=CostChange(BEFORE, AFTER))).splitlines()
    assert rows[2].split()[2:4] == ["1,500", "+8"]
    assert rows[3].split()[2:4] == ["500", "+8"]
