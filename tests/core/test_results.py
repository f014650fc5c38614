"""Outcomes as values, text and JSON; errors and suggestions."""

import json

import pytest
from torch import nn

from bioconvert.core.classes import import_class, loaded_class, qualified_name
from bioconvert.core.errors import Problem, RuleError
from bioconvert.core.families import family_of, family_root
from bioconvert.core.results import Applied, Outcomes, Skipped
from bioconvert.core.suggest import hint, nearest

OUTCOMES = Outcomes(
    [
        Applied("0", "linears", "replace", "Linear → YatLinear"),
        Skipped("", "linears", "replace", "has a forward of its own"),
    ],
    ["mind the gap"],
)


def test_outcomes_are_told_apart():
    """Applied and skipped entries keep their order and fields."""
    assert [entry.path for entry in OUTCOMES.applied] == ["0"]
    assert [entry.reason for entry in OUTCOMES.skipped] == ["has a forward of its own"]


def test_text_has_a_line_for_each_outcome():
    """The text counts, lists and warns; the root has a name that can be read."""
    lines = str(OUTCOMES).splitlines()
    assert lines[0] == "1 applied, 1 skipped"
    assert lines[2].split() == ["applied", "0", "linears", "replace", "Linear", "→", "YatLinear"]
    assert "(the model)" in lines[3]
    assert lines[-1] == "warning: mind the gap"


def test_text_without_outcomes_is_one_line():
    """Nothing to list, nothing listed."""
    assert str(Outcomes([])) == "0 applied, 0 skipped"


def test_json_holds_everything():
    """The dict survives JSON."""
    document = json.loads(json.dumps(OUTCOMES.to_dict()))
    assert document["applied"][0] == {
        "path": "0",
        "rule": "linears",
        "action": "replace",
        "reason": "Linear → YatLinear",
    }
    assert document["warnings"] == ["mind the gap"]


def test_a_problem_points_at_its_place():
    """File, line and column come first, then the line itself with a caret."""
    problem = Problem("unknown key 'a'", "mine.yaml", 7, 3, "  a: 1")
    assert str(problem) == "mine.yaml:7:3: unknown key 'a'\n      a: 1\n      ^"


def test_a_rule_error_tells_every_problem():
    """The text of the error holds all of them."""
    error = RuleError([Problem("one"), Problem("two", "x.yaml", 1, 1)])
    assert str(error) == "<rules>: one\nx.yaml:1:1: two"
    assert len(error.problems) == 2


def test_suggestions():
    """The nearest name is suggested whatever its case; nothing where nothing is near."""
    assert nearest("yatconv2D", ["YatConv2d", "YatLinear"]) == "YatConv2d"
    assert nearest("zzz", ["YatConv2d"]) is None
    assert hint("replce", ["replace", "wrap"]) == "Did you mean 'replace'? Known: replace, wrap."
    assert hint("x", []) == "Known: none."


FAMILIES = [
    pytest.param(nn.Linear, "linear", nn.Linear, id="Linear"),
    pytest.param(nn.Conv2d, "conv", nn.Conv2d, id="Conv2d"),
    pytest.param(nn.ConvTranspose1d, "conv", nn.ConvTranspose1d, id="ConvTranspose1d"),
    pytest.param(nn.LSTM, "recurrent", nn.LSTM, id="LSTM"),
    pytest.param(nn.GRUCell, "recurrent", nn.GRUCell, id="GRUCell"),
    pytest.param(nn.MultiheadAttention, "attention", nn.MultiheadAttention, id="MultiheadAttention"),
    pytest.param(nn.ReLU, None, None, id="ReLU"),
]


@pytest.mark.parametrize(("cls", "family", "root"), FAMILIES)
def test_families(cls, family, root):
    """A class belongs to the family of its base, whose public class owns the forward."""
    assert family_of(cls) == family
    if family is not None:
        assert family_root(cls, family) is root
        assert family_root(type("Sub", (cls,), {}), family) is root


def test_classes_by_name():
    """Public and defining names lead to the class; an unknown one is an ImportError."""
    assert loaded_class("torch.nn.Linear") is nn.Linear
    assert loaded_class("not.imported.Class") is None
    assert import_class(qualified_name(nn.Linear)) is nn.Linear
    with pytest.raises(ImportError, match=r"no class 'torch\.nn\.Linnear'"):
        import_class("torch.nn.Linnear")
