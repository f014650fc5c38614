"""Parameters that a replacement trains no more: until it is undone, in memory, in copies and in files."""

import copy

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.surgery.step import steps_of

CASES = [
    pytest.param({"freeze_kernel": True}, ("weight",), id="a frozen kernel"),
    pytest.param({"constant_bias": 0.5}, ("bias",), id="a constant bias"),
    pytest.param({"freeze_kernel": True, "constant_bias": 0.5}, ("weight", "bias"), id="both"),
]


def rules(**options):
    replace = {"with": "YatLinear", "init": "keep", **options}
    return {"version": 1, "rules": [{"match": {"path": "0"}, "replace": replace}]}


def build():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


def trained(layer):
    return {name for name, parameter in layer.named_parameters() if parameter.requires_grad}


X = torch.linspace(-1, 1, 12).view(3, 4)


@pytest.mark.parametrize(("options", "frozen"), CASES)
class TestFrozenParameters:
    def test_get_no_gradient_while_others_do(self, options, frozen):
        """What is frozen has no gradient; what else the layer has, alpha too, does."""
        model = bc.convert(build(), rules(**options), example_inputs=(X,))
        model(X).sum().backward()
        found = {name for name, parameter in model[0].named_parameters() if parameter.grad is not None}
        assert found == {"weight", "bias", "alpha"} - set(frozen)

    def test_are_trained_again_after_revert(self, options, frozen):
        """Revert gives back what was before; another layer's parameters were never touched."""
        model = bc.convert(build(), rules(**options))
        assert trained(model[0]) == {"weight", "bias", "alpha"} - set(frozen)
        assert trained(model[2]) == {"weight", "bias"}
        bc.revert(model)
        assert trained(model[0]) == {"weight", "bias"}

    def test_survive_proof_of_use(self, options, frozen):
        """A layer whose kernel is frozen is proven by the gradient that it would get, and stays frozen."""
        plan = bc.plan(build(), rules(**options), example_inputs=(X,))
        assert [outcome.path for outcome in plan.apply(strict=True).applied] == ["0"]

    def test_survive_a_file(self, options, frozen, tmp_path):
        """A loaded model computes the same, is frozen in the same places, and can be reverted."""
        model = bc.convert(build(), rules(**options))
        bc.save(model, tmp_path / "saved")
        loaded = bc.load(tmp_path / "saved", factory=build)
        assert torch.equal(loaded(X), model(X))
        assert trained(loaded) == trained(model)
        assert steps_of(loaded[0])[0].frozen == frozen
        assert trained(bc.revert(loaded)[0]) == {"weight", "bias"}

    def test_survive_a_copy(self, options, frozen):
        """A deep copy is frozen in the same places and reverted on its own."""
        model = bc.convert(build(), rules(**options))
        twin = copy.deepcopy(model)
        assert trained(bc.revert(twin)[0]) == {"weight", "bias"}
        assert trained(model[0]) == {"weight", "bias", "alpha"} - set(frozen)

    def test_stay_frozen_at_the_end_of_a_morph(self, options, frozen):
        """Finalising changes nothing in what is frozen, and revert trains it again."""
        wished = rules(**options)
        wished["rules"][0]["replace"]["morph"] = {"steps": 2}
        model = bc.finalize(bc.convert(build(), wished))
        assert trained(model[0]) == {"weight", "bias", "alpha"} - set(frozen)
        assert trained(bc.revert(model)[0]) == {"weight", "bias"}

    def test_are_named_in_the_plan(self, options, frozen):
        """The plan says what will stop training, and planning stops nothing."""
        model = build()
        plan = bc.plan(model, rules(**options))
        assert f"{', '.join(frozen)} frozen" in str(plan)
        assert trained(model[0]) == {"weight", "bias"}


def test_what_was_frozen_before_stays_frozen_after():
    """Revert doesn't train what the user had frozen."""
    model = build()
    model[0].weight.requires_grad_(False)
    bc.revert(bc.convert(model, rules(freeze_kernel=True)))
    assert trained(model[0]) == {"bias"}


def test_a_tied_weight_is_not_frozen():
    """A layer whose weight another one trains is left alone, and the names are said."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    (skipped,) = bc.plan(model, rules(freeze_kernel=True)).skipped
    assert "its weight would stop training and is tied: '0.weight', '1.weight'" in skipped.reason


class _Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        return self.used(x)


def test_a_failed_conversion_leaves_nothing_frozen():
    """What is rolled back, one layer or all of them, is trained as before."""
    rule = {"match": {"type": "linear"}, "replace": {"with": "YatLinear", "freeze_kernel": True}}
    plan = bc.plan(model := _Unused(), {"version": 1, "rules": [rule]}, example_inputs=(X,))
    with pytest.raises(bc.ConversionError, match="not every layer could be replaced: 'unused'"):
        plan.apply(strict=True)
    assert trained(model.used) == trained(model.unused) == {"weight", "bias"}
    plan.apply()
    assert trained(model.used) == {"bias", "alpha"}
    assert trained(model.unused) == {"weight", "bias"}


class _Raw(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(5, 4))

    def forward(self, x):
        return nn.functional.linear(x, self.w)


def test_a_weight_that_a_container_keeps_is_not_frozen():
    """A layer that stands for a call of a function doesn't stop its container's parameter."""
    rule = {"match": {"parameter": "w"}, "replace": {"with": "YatLinear", "freeze_kernel": True}}
    (skipped,) = bc.plan(_Raw(), {"version": 1, "rules": [rule]}, example_inputs=(X,)).skipped
    assert skipped.reason == "its container keeps the weights, which would stop training"


def test_a_layer_without_bias_has_none_to_freeze():
    """A constant bias stands alone there."""
    model = bc.convert(nn.Sequential(nn.Linear(4, 5, bias=False)), rules(constant_bias=0.5, epsilon=0.1))
    weight = model[0].weight
    expected = (X @ weight.t() + 0.5).square() / ((X[:, None] - weight).square().sum(-1) + 0.1)
    torch.testing.assert_close(model(X), expected)
    assert trained(model[0]) == {"weight", "alpha"}
