"""From options to attributes and parameters, and what layers built of these bear."""

import math

import pytest
import torch
from torch import fx, nn
from torch.utils.checkpoint import checkpoint

from bioconvert.layers import YatConv2d, YatLinear, yat_attributes, yat_parameters


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"alpha": ((1,), 1.0)}),
        ({"alpha": "exponent"}, {"alpha": ((1,), 1.0)}),
        ({"per_unit": True, "offset": True}, {"alpha": ((5,), 1.0), "offset": ((5,), 0.0)}),
        ({"alpha": "none"}, {}),
        ({"alpha": 2.0}, {}),
    ],
)
def test_parameters_follow_from_the_options(options, expected):
    """Each option that is learnt has a parameter, of one number or one for each unit."""
    assert yat_parameters(5, **options) == expected
    layer = YatLinear(4, 5, **options)
    assert {
        name: tuple(p.shape) for name, p in layer.named_parameters() if name not in ("weight", "bias")
    } == {name: shape for name, (shape, _) in expected.items()}


def test_attributes_are_plain_values():
    """What an instance holds could be written as JSON."""
    assert all(isinstance(value, str | float | bool) for value in yat_attributes(alpha=2.0).values())


@pytest.mark.parametrize("epsilon", [1e-5, 1e-2, 3.0])
def test_learnable_epsilon_starts_from_the_number_given(epsilon):
    """The softplus of the parameter is that number."""
    (shape, value), *_ = (yat_parameters(3, learnable_epsilon=True, epsilon=epsilon)["raw_epsilon"],)
    assert shape == (1,)
    assert nn.functional.softplus(torch.tensor(value, dtype=torch.float64)).item() == pytest.approx(epsilon)


@pytest.mark.parametrize("shape", [(1,), (3,)])
def test_epsilon_may_be_a_buffer(shape):
    """A buffer of that name takes the place of the attribute."""
    layer, x = YatLinear(4, 3, epsilon=0.5), torch.randn(2, 4)
    expected = layer(x)
    del layer.epsilon
    layer.register_buffer("epsilon", torch.full(shape, 0.5))
    torch.testing.assert_close(layer(x), expected)


def test_the_exponent_is_that_of_the_first_generation():
    """(√K / ln(1 + K))ᵅ scales quotient and bias alike."""
    layer = YatLinear(4, 3, alpha="exponent", bias_mode="post", epsilon=1e-4)
    nn.init.constant_(layer.alpha, 0.7)
    x = torch.randn(5, 4)
    quotient = (x @ layer.weight.t()).square() / ((x[:, None] - layer.weight).square().sum(-1) + 1e-4)
    scale = (math.sqrt(3) / math.log(4)) ** 0.7
    torch.testing.assert_close(layer(x), scale * (quotient + layer.bias))


def test_a_checkpoint_without_the_weight_does_not_load():
    """Weight and bias are no additions."""
    with pytest.raises(RuntimeError, match=r'Missing key.*"weight"'):
        YatLinear(4, 3).load_state_dict({"bias": torch.zeros(3)})


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(YatLinear(4, 3, offset=True), (2, 5, 4)), (YatConv2d(4, 6, 3, padding="same"), (2, 4, 5, 5))],
    ids=["YatLinear", "YatConv2d"],
)
class TestInsideOtherMachinery:
    def test_a_users_own_trace_keeps_the_function_whole(self, layer, shape):
        """torch.fx's tracer sees one call, and the traced module computes the same."""
        x = torch.randn(shape)
        assert torch.equal(fx.symbolic_trace(layer)(x), layer(x))

    def test_checkpointing_gives_the_same_gradient(self, layer, shape):
        """Recomputation in backward changes nothing."""
        x = torch.randn(shape, requires_grad=True)
        found = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).sum(), x)[0]
        assert torch.equal(found, torch.autograd.grad(layer(x).sum(), x)[0])


def test_conv1d_of_transformers_is_a_linear_with_its_weight_transposed(transformers):
    """A Conv1D whose class changes computes what YatLinear computes of the transposed weight."""
    from transformers.pytorch_utils import Conv1D

    from bioconvert.layers.yat_conv1d import YatConv1D

    linear, layer = YatLinear(5, 3), Conv1D(3, 5)
    layer.weight.data, layer.bias.data = linear.weight.data.t().clone(), linear.bias.data
    layer.__class__ = YatConv1D
    vars(layer).update({k: v for k, v in vars(linear).items() if k not in vars(layer)})
    layer.alpha = linear.alpha
    x = torch.randn(2, 4, 5)
    torch.testing.assert_close(layer(x), linear(x))
