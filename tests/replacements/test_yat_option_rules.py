"""The options of a Yat layer as options of a rule: on the tensors that a trained layer has."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.core.errors import OptionError

KINDS = [
    pytest.param(lambda: nn.Linear(4, 6), (5, 4), "YatLinear", id="Linear"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5), "YatConv2d", id="Conv2d"),
    pytest.param(
        lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2),
        (2, 4, 3, 3),
        "YatConvTranspose2d",
        id="ConvTranspose2d",
    ),
]


def converted(model, name, **options):
    rule = {"match": {"path": ""}, "replace": {"with": name, "init": "keep", "epsilon": 0.1, **options}}
    return bc.convert(model, {"version": 1, "rules": [rule]})


def with_bias(layer, value):
    """Give a copy of a layer with another bias."""
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.bias.copy_(value.expand(6))
    return twin


@pytest.mark.parametrize(("make", "shape", "name"), KINDS)
class TestEveryKind:
    @pytest.mark.parametrize(
        ("options", "bias"),
        [
            ({"softplus_bias": True}, F.softplus),
            ({"scalar_bias": True}, lambda bias: bias.mean()),
            ({"softplus_bias": True, "scalar_bias": True}, lambda bias: F.softplus(bias.mean())),
            ({"constant_bias": 0.3}, lambda bias: bias.new_tensor(0.3)),
            ({"constant_bias": 0}, lambda bias: bias.new_tensor(0.0)),
        ],
        ids=["softplus", "scalar", "softplus of the mean", "constant", "zero"],
    )
    @pytest.mark.parametrize("mode", ["pre", "post"])
    def test_the_bias_is_what_the_option_makes_of_it(self, make, shape, name, options, bias, mode):
        """The same Parameter stays, and the layer computes with what the option makes of it."""
        layer, x = make(), torch.randn(shape)
        expected = converted(with_bias(layer, bias(layer.bias.detach())), name, bias_mode=mode)(x)
        parameter = layer.bias
        converted(layer, name, bias_mode=mode, **options)
        assert layer.bias is parameter
        torch.testing.assert_close(layer(x), expected)

    def test_pruned_weights_stay_pruned(self, make, shape, name):
        """Weights that are zero are zero after training with weight decay, too; revert takes the mask."""
        layer, x = make(), torch.randn(shape)
        zeros = torch.rand_like(layer.weight) < 0.5
        with torch.no_grad():
            layer.weight[zeros] = 0
        converted(layer, name, mask="nonzero")
        assert torch.equal(layer.mask, ~zeros)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
        for _ in range(3):
            layer(x).sub(1).square().mean().backward()
            optimizer.step()
        assert layer.weight[zeros].abs().max() == 0
        assert layer.weight[~zeros].abs().min() > 0
        assert not hasattr(bc.revert(layer), "mask")

    def test_epsilon_may_be_one_for_each_unit(self, make, shape, name):
        """With `per_unit` and `learnable_epsilon` each unit learns its own."""
        layer = converted(make(), name, per_unit=True, learnable_epsilon=True)
        layer(torch.randn(shape)).sum().backward()
        assert layer.raw_epsilon.shape == (6,)
        assert layer.raw_epsilon.grad.unique().numel() > 1

    def test_a_layer_without_bias_is_skipped(self, make, shape, name):
        """What is made of the bias needs one."""
        layer = make()
        layer.bias = None
        rule = {"match": {"path": ""}, "replace": {"with": name, "softplus_bias": True}}
        (skipped,) = bc.plan(layer, {"version": 1, "rules": [rule]}).skipped
        assert skipped.reason == "`softplus_bias` needs a bias, and the layer has none"

    def test_options_that_contradict_each_other_are_refused(self, make, shape, name):
        """The error says which; the layer is as it was."""
        layer = make()
        with pytest.raises(OptionError, match="constant_bias takes the bias's place"):
            converted(layer, name, constant_bias=0.1, scalar_bias=True)
        assert type(layer).__module__.startswith("torch.nn")

    def test_the_options_survive_a_file(self, make, shape, name, tmp_path):
        """A loaded model computes the same."""
        layer, x = make(), torch.randn(shape)
        with torch.no_grad():
            layer.weight[0] = 0
        converted(layer, name, mask="nonzero", scalar_bias=True, softplus_bias=True, freeze_kernel=True)
        bc.save(layer, tmp_path / "saved")
        assert torch.equal(bc.load(tmp_path / "saved", factory=make)(x), layer(x))


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_constant_bias_is_not_fitted(value):
    """With example inputs, a layer whose bias is a number keeps weight and bias, and epsilon is measured."""
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(64, 4)
    bias = model[0].bias.detach().clone()
    rule = {"match": {"path": "0"}, "replace": {"with": "YatLinear", "constant_bias": value}}
    bc.convert(model, {"version": 1, "rules": [rule]}, example_inputs=(x,))
    assert torch.equal(model[0].bias, bias)
    torch.testing.assert_close(model[0].epsilon, 0.1 * x.square().sum(1).mean().view(1))


def test_transformers_conv1d_has_the_options_too(transformers):
    """Its weight is transposed: units are its columns."""
    from transformers.pytorch_utils import Conv1D

    linear, layer, x = nn.Linear(4, 6), Conv1D(6, 4), torch.randn(5, 4)
    with torch.no_grad():
        linear.weight[1, 2] = 0
        layer.weight.copy_(linear.weight.t())
        layer.bias.copy_(linear.bias)
    options = {"mask": "nonzero", "weight_normalized": True, "scalar_bias": True}
    for each in (linear, layer):
        converted(each, "YatLinear", **options)
    torch.testing.assert_close(layer(x), linear(x))
