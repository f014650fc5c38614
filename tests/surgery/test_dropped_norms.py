"""Normalisations that go, or stay apart from the activation inside them."""

import copy

import pytest
import torch
from norms import (  # noqa: F401 - a fixture
    NormOfTwo,
    SameConv2d,
    SharedNorm,
    Tail,
    TwoNames,
    assert_same_state,
    rules,
    same_layers,
    state,
    trained,
)
from small_models import seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc

pytestmark = pytest.mark.usefixtures("same_layers")


class TestTheNormOfTimm:
    """timm's ``BatchNormAct2d`` computes the normalisation by a function, and an activation inside."""

    @staticmethod
    def make():
        from timm.layers import BatchNormAct2d

        return nn.Sequential(nn.Conv2d(3, 4, 3), trained(BatchNormAct2d(4))).double().eval()

    @torch.no_grad()
    @pytest.mark.parametrize("norm", ["keep", "fold", "drop"])
    @pytest.mark.parametrize("activation", ["keep", "drop"])
    def test_goes_or_stays_apart_from_its_activation(self, timm, norm, activation):
        """Each of the two goes where the rule says, and revert brings everything back."""
        model, x = seeded(self.make), torch.randn(2, 3, 6, 6, dtype=torch.float64)
        before, (conv, bn) = state(model), copy.deepcopy(model)
        expected = conv(x) if norm == "drop" else trained(nn.BatchNorm2d(4)).double().eval()(conv(x))
        expected = bn.act(expected) if activation == "keep" else expected
        bc.convert(model, rules(norm, links=("BatchNorm2d", "ReLU"), activation=activation))
        assert type(model[0]) is SameConv2d
        assert torch.allclose(model(x), expected, rtol=1e-12, atol=1e-12)
        assert_same_state(before, state(bc.revert(model)))


class TestADroppedNorm:
    def test_is_gone_and_nothing_else(self):
        """The layer's weight stays as it is, and its output goes on unnormalised."""
        model = seeded(Tail).eval()
        weight = model.conv.weight.clone()
        x = torch.randn(2, 4, 6, 6)
        report = bc.plan(model, rules("drop", links=("BatchNorm2d", "ReLU"))).apply()
        assert [entry.path for entry in report.applied] == ["conv"]
        assert torch.equal(model.conv.weight, weight)
        assert torch.equal(model(x), F.relu(model.conv(x)))
        assert type(bc.revert(model).bn) is nn.BatchNorm2d

    def test_takes_its_activation_along_where_the_rule_says(self):
        """With `activation: drop` nothing is left of the chain."""
        model = seeded(Tail).eval()
        x = torch.randn(2, 4, 6, 6)
        bc.convert(model, rules("drop", links=("BatchNorm2d", "ReLU"), activation="drop"))
        assert torch.equal(model(x), model.conv(x))

    @pytest.mark.parametrize("make", [SharedNorm, NormOfTwo, TwoNames])
    def test_is_left_where_others_use_it(self, make):
        """A norm that another path uses too is not dropped."""
        plan = bc.plan(seeded(make), rules("drop", links=("BatchNorm2d", "ReLU")))
        assert {entry.path for entry in plan.skipped} >= {"conv"}
        assert plan.applied == ()

    def test_needs_no_statistics(self):
        """Whatever normalises can be dropped."""
        model = bc.convert(Tail(nn.GroupNorm(2, 4)), rules("drop", links=("GroupNorm", "ReLU")))
        x = torch.randn(2, 4, 6, 6)
        assert torch.equal(model(x), F.relu(model.conv(x)))

    @torch.no_grad()
    @pytest.mark.parametrize("norm", ["drop", "fold"])
    def test_drift_compares_layer_with_block(self, norm):
        """The layer's point in the drift report is its own output against that of the whole old block."""
        model, x = seeded(Tail).eval(), torch.randn(2, 4, 6, 6)
        old = model(x)
        bc.convert(model, rules(norm, links=("BatchNorm2d", "ReLU"), activation="drop"))
        (point,) = bc.drift(model, (x,)).layers
        new = model.conv(x)
        assert point.path == "conv"
        assert point.relative == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-4)
        assert bc.drift(model, (x,)).output.relative == pytest.approx(point.relative, rel=1e-6)
