"""The options of Yat layers: bounds, attributes, parameters, and checkpoints that lack them."""

import logging
import math

import pytest
import torch
from torch import nn

from bioconvert.layers import YatConv2d, YatLinear, yat_attributes, yat_parameters

WRONG = [
    (lambda: YatLinear(0, 3), "sizes must be positive, got 0 → 3"),
    (lambda: YatConv2d(2, 0, 3), "channels must be positive, got 2 → 0"),
    (lambda: YatLinear(4, 3, bias_mode="in"), "bias_mode must be .* got 'in'"),
    (lambda: YatLinear(4, 3, alpha="many"), "alpha must be .* got 'many'"),
    (lambda: YatLinear(4, 3, epsilon=0.0), r"epsilon must be positive, got 0\.0"),
    (lambda: YatLinear(4, 3, epsilon=math.nan), "epsilon must be positive, got nan"),
    (lambda: YatLinear(4, 3, drop_connect=1.0), r"drop_connect must be in \[0, 1\), got 1\.0"),
    (lambda: YatLinear(4, 3, alpha="none", per_unit=True), "per_unit must come with a learnable alpha"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_options_out_of_bounds_are_refused(make, message):
    """The error says what must hold and what was given."""
    with pytest.raises(ValueError, match=message):
        make()


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


def test_a_plain_checkpoint_loads_with_a_notice(caplog):
    """What the checkpoint lacks keeps its value, and the log says so."""
    model = nn.Sequential(YatLinear(4, 3, offset=True))
    nn.init.constant_(model[0].alpha, 1.5)
    plain = nn.Sequential(nn.Linear(4, 3)).state_dict()
    with caplog.at_level(logging.INFO, "bioconvert"):
        model.load_state_dict(plain)
    assert model[0].alpha.item() == 1.5
    assert torch.equal(model[0].weight, plain["0.weight"])
    assert "alpha, offset" in caplog.text
    assert set(plain) == {"0.weight", "0.bias"}


def test_a_checkpoint_without_the_weight_does_not_load():
    """Weight and bias are no additions."""
    with pytest.raises(RuntimeError, match=r'Missing key.*"weight"'):
        YatLinear(4, 3).load_state_dict({"bias": torch.zeros(3)})
