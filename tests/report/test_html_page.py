"""The numbers and words of a page, each from the evidence for it."""

import numpy as np
import pytest
from page_evidence import costs, page_evidence

from bioconvert.core.results import Applied, Outcomes, Skipped
from bioconvert.report.html.coverage import CELLS, coverage_of
from bioconvert.report.html.evidence import Evidence, Weights
from bioconvert.report.html.heat_map import STEPS, WEIGHTS, heat_maps_of
from bioconvert.report.html.histograms import BINS, histograms_of
from bioconvert.report.html.page import page_of
from bioconvert.report.html.sizes import ROWS, sizes_of
from bioconvert.report.html.structure import NODES, structure_of
from bioconvert.report.tree import TensorLine
from bioconvert.surgery.costs import CostChange

BLOCK = (("", "Bottleneck", 0), (".conv", "Conv2d", 9), (".bn", "BatchNorm2d", 2))


def blocks(count, kind="Conv2d"):
    inside = [(f"{i}{p}", kind if p == ".conv" else k, n) for i in range(count) for p, k, n in BLOCK]
    return costs(("", "Net", 0), *inside)


class TestStructure:
    def test_modules_that_are_alike_are_one(self):
        """Blocks of equal content are one line with their number, whose parameters are those of each."""
        root = structure_of(CostChange(blocks(3), blocks(3)), ()).root
        assert [(node.name, node.count, node.before) for node in root.children] == [("{0..2}", 3, 11)]
        assert root.before == 33

    def test_what_changed_is_marked_on_every_level(self):
        """A converted layer is changed, what it is in has changed inside, all else is the same."""
        after = costs(
            *[(m.path, "Yat" if m.path == "1.conv" else m.kind, m.parameters) for m in blocks(2).modules]
        )
        root = structure_of(CostChange(blocks(2), after), ()).root
        assert [(n.name, n.change) for n in root.children] == [("0", "same"), ("1", "inside")]
        assert [(n.was, n.now, n.change) for n in root.children[1].children] == [
            ("Conv2d", "Yat", "changed"),
            ("BatchNorm2d", "BatchNorm2d", "same"),
        ]

    def test_what_came_and_went_is_marked(self):
        """A module of one side only is new or gone."""
        before, after = costs(("", "Net", 0), ("a", "A", 1)), costs(("", "Net", 0), ("b", "B", 1))
        root = structure_of(CostChange(before, after), ()).root
        assert [(n.name, n.change) for n in root.children] == [("a", "removed"), ("b", "added")]

    def test_large_model_is_cut(self):
        """There are no more branches than a page can show, and the rest is counted."""
        many = costs(("", "Net", 0), *((f"m{i}x", f"K{i}", i) for i in range(NODES + 50)))
        structure = structure_of(CostChange(many, many), ())
        assert len(structure.root.children) + structure.left_out == NODES + 50
        assert len(structure.root.children) < NODES

    def test_ten_thousand_dots_are_no_depth(self):
        """A name of ten thousand segments is shown without exhausting the stack."""
        line = TensorLine(".".join("a" * 10_000), "F32", (1,))
        deep = costs(("", "", 0), (line.name, "", 1))
        assert structure_of(CostChange(deep, deep), [line]).root.before == 1


class TestCoverage:
    def test_strip_follows_the_model(self):
        """A cell for each module: changed, left, or not selected; what is in a container shares its fate."""
        outcomes = Outcomes([Applied("b", "r", "replace", "how"), Skipped("d", "r", "replace", "why")])
        (strip,) = coverage_of(outcomes, ["a", "b.x", "b.y", "c", "d"]).strips
        assert (strip.cells, strip.applied, strip.skipped) == (".aa.s", 1, 1)

    def test_long_model_shares_cells(self):
        """With more modules than cells, neighbours share one, in which the changed one shows."""
        paths = [str(i) for i in range(CELLS * 3)]
        outcomes = Outcomes([Applied("4", "r", "replace", "how")])
        (strip,) = coverage_of(outcomes, paths).strips
        assert len(strip.cells) == CELLS
        assert strip.cells.startswith(".a.")

    def test_modules_that_fared_alike_share_a_row(self):
        """Paths that differ in numbers are folded, with their number."""
        outcomes = Outcomes([Applied(f"layer{i}", "r", "replace", "how") for i in range(4)])
        (row,) = coverage_of(outcomes, []).applied
        assert (row.paths, row.count) == ("layer{0..3}", 4)


class TestSizes:
    def test_totals_and_rows(self):
        """A row has the sums of its modules, before and after; the totals are the model's."""
        sizes = sizes_of(CostChange(blocks(3), blocks(3, "Yat")))
        rows = {row.paths: (row.count, row.was, row.now, row.parameters) for row in sizes.rows}
        assert rows["{0..2}.conv"] == (3, "Conv2d", "Yat", (27, 27))
        assert sizes.parameters == (33, 33)

    def test_smallest_rows_go(self):
        """Of more rows than fit, those with most bytes stay, in the model's order."""
        many = costs(*((f"m{i}x", f"K{i}", i + 1) for i in range(ROWS + 10)))
        sizes = sizes_of(CostChange(many, many))
        assert sizes.left_out == 10
        assert [row.parameters[0] for row in sizes.rows] == list(range(11, ROWS + 11))

    def test_unknown_after_is_said(self):
        """Where the costs afterwards aren't known, that is said instead of shown as the same."""
        assert not sizes_of(CostChange(blocks(1), None)).after_known


VALUES = [
    pytest.param(np.array([0.0, 0.0, 1.0]), {"zeros": 2 / 3, "mean": 1 / 3}, id="zeros"),
    pytest.param(np.array([np.nan, np.inf, 2.0, 4.0]), {"not_finite": 0.5, "mean": 3.0}, id="not finite"),
    pytest.param(np.array([5.0, 5.0]), {"deviation": 0.0}, id="constant"),
    pytest.param(np.array([]), {"mean": 0.0, "not_finite": 0.0}, id="empty"),
    pytest.param(np.array([np.nan]), {"not_finite": 1.0}, id="NaN alone"),
    pytest.param(np.array([1e-320, 3e-320]), {"zeros": 0.0}, id="denormal"),
]


@pytest.mark.parametrize(("values", "expected"), VALUES)
def test_histogram_of_any_values(values, expected):
    """Shares add up to one, and the moments are those of the finite values."""
    (found,) = histograms_of([Weights("m", "weight", values.size, values)])
    assert len(found.new) == BINS
    finite = np.isfinite(values).sum()
    assert sum(found.new) == pytest.approx(1.0 if finite else 0.0)
    assert {name: getattr(found.moments, name) for name in expected} == pytest.approx(expected)


def test_histograms_of_old_and_new_share_their_axis():
    """The original's values and the new ones lie in the same bins."""
    (found,) = histograms_of([Weights("m", "weight", 2, np.array([0.0, 1.0]), np.array([-1.0, 3.0]))])
    assert (found.low, found.high) == (-1.0, 3.0)
    assert (found.original[0], found.original[-1]) == (0.5, 0.5)


def _note(step, parameter, **numbers):
    return {"step": step, "parameter": parameter, "numbers": numbers}


class TestHeatMap:
    def test_rows_are_weights_and_columns_steps(self):
        """A value stands in the row of its weight and the column of its step; gaps stay empty."""
        (found,) = heat_maps_of([_note(1, "a", rank=3.0), _note(2, "a", rank=4.0), _note(2, "b", rank=9.0)])
        assert (found.weights, found.steps) == (("a", "b"), (1, 2))
        assert found.values == ((3.0, 4.0), (None, 9.0))
        assert (found.low, found.high) == (3.0, 9.0)

    def test_long_training_is_thinned(self):
        """Steps and weights are bounded; the first and the last step stay."""
        notes = [_note(step, f"w{w}", rank=float(step)) for step in range(500) for w in range(WEIGHTS + 5)]
        (found,) = heat_maps_of(notes)
        assert (found.steps[0], found.steps[-1], len(found.steps)) == (0, 499, STEPS)
        assert (len(found.weights), found.left_out) == (WEIGHTS, 5)

    def test_numbers_that_change_come_first(self):
        """A number that never changes stands behind those that do, whatever the order of the notes."""
        notes = [_note(1, "a", steady=0.0, rank=1.0), _note(2, "a", steady=0.0, rank=2.0)]
        assert [found.number for found in heat_maps_of(notes)] == ["rank", "steady"]

    def test_not_finite_is_a_gap(self):
        """NaN is no value."""
        (found,) = heat_maps_of([_note(1, "a", rank=float("nan")), _note(2, "a", rank=1.0)])
        assert found.steps == (2,)


LEADS = [
    pytest.param(
        page_evidence("net"),
        "The model net was converted by the rules net: 1 Conv2d became YatConv2d. "
        "It had 15 parameters and has 17 now; a call takes 1.5 times as many floating-point operations.",
        id="converted",
    ),
    pytest.param(
        Evidence("out", "plain", CostChange(blocks(1), blocks(1))),
        "This is the model Net as it was saved: nothing in it was converted. "
        "It has 11 parameters in 4 modules.",
        id="plain",
    ),
    pytest.param(
        Evidence("out", "planned", CostChange(blocks(1), blocks(1)), outcomes=Outcomes([])),
        "Nothing would be changed in the model Net. The number of its parameters stays the same, 11.",
        id="nothing to do",
    ),
]


@pytest.mark.parametrize(("evidence", "expected"), LEADS)
def test_lead_is_two_sentences(evidence, expected):
    """The first lines say what was done to what, and what it costs."""
    assert " ".join(page_of(evidence).lead) == expected


def test_drift_is_handed_on_as_it_was_measured():
    """Numbers of the drift are neither rounded nor worked out anew."""
    drift = page_of(page_evidence("net")).drift
    assert (drift.layers[0].relative, drift.layers[0].cosine, drift.layers[0].max_abs) == (0.25, 0.9, 0.5)
