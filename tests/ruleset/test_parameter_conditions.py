"""Conditions on the parameters themselves, in rules that select by parameter."""

import pytest
import torch
from torch import nn

import bioconvert as bc


def model():
    """Two layers of different shapes, one of them frozen."""
    made = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2).double())
    made[1].bias.requires_grad_(False)
    return made


def rules(where, parameter="**"):
    """One rule that attaches to parameters."""
    return {
        "version": 1,
        "rules": [{"match": {"parameter": parameter, "where": where}, "attach": ["fuzzy_lr"]}],
    }


@pytest.mark.parametrize(
    ("where", "selected"),
    [
        pytest.param({"shape": [8, 4]}, {"0.weight"}, id="shape"),
        pytest.param({"ndim": 2}, {"0.weight", "1.weight"}, id="number of dimensions"),
        pytest.param({"dtype": "float32"}, {"0.weight", "0.bias"}, id="number format"),
        pytest.param({"numel": ">=8, <32"}, {"0.bias", "1.weight"}, id="number of values"),
        pytest.param({"requires_grad": True, "dtype": "float64"}, {"1.weight"}, id="two at once"),
        pytest.param({"in_features": 8}, {"1.weight", "1.bias"}, id="an attribute of the module"),
    ],
)
def test_conditions_select_parameters(where, selected):
    """Facts of a parameter are asked of the parameter, other attributes of the module that holds it."""
    plan = bc.plan(model(), rules(where))
    assert {entry.path for entry in (*plan.applied, *plan.skipped)} == selected


def test_conditions_that_none_meets_name_what_there_is():
    """Where parameters of the name exist, but none meets the condition, their values are shown."""
    with pytest.raises(
        bc.RuleError, match=r"named '\*\*.weight' meets the conditions; found: shape \[8, 4\]"
    ):
        bc.plan(model(), rules({"shape": [3, 3]}, "**.weight"))


def test_facts_work_without_values():
    """A model on the meta device has shapes and formats too."""
    with torch.device("meta"):
        made = nn.Linear(3, 5)
    assert [entry.path for entry in bc.plan(made, rules({"numel": 15})).applied] == ["weight"]
