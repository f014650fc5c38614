"""Measuring how far a converted model is from its original."""

import json
import math

import pytest
import torch
from small_models import Cnn, Mlp, SharedLayer, seeded
from torch import nn

import bioconvert as bc

ROWS = torch.linspace(-1, 1, 40).view(10, 4)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
DROPPING = {
    "version": 1,
    "rules": [
        {
            "match": {"type": "conv", "followed_by": ["BatchNorm2d?", "ReLU"]},
            "replace": {"with": "YatConv2d", "activation": "drop"},
        }
    ],
}


def test_an_unconverted_model_has_no_drift():
    """There is nothing to compare and no difference."""
    drift = bc.drift(Mlp(), example_inputs=(ROWS,))
    assert drift.layers == ()
    assert (drift.output.max_abs, drift.output.relative, drift.output.cosine) == (0.0, 0.0, 1.0)


def test_identity_has_no_drift():
    """Empty rules change nothing that can be measured."""
    assert bc.drift(bc.convert(Mlp(), "identity"), example_inputs=(ROWS,)).output.max_abs == 0


def test_figures_are_those_of_the_two_models():
    """End to end, the figures are computed from the original's outputs and the converted model's."""
    original = seeded(Mlp).eval()
    converted = bc.convert(seeded(Mlp), "yat-all").eval()
    with torch.no_grad():
        y, z = original(ROWS).double().flatten(), converted(ROWS).double().flatten()
    output = bc.drift(converted, example_inputs=(ROWS,)).output
    assert math.isclose(output.max_abs, float((z - y).abs().max()), rel_tol=1e-6)
    assert math.isclose(output.relative, float((z - y).norm() / y.norm()), rel_tol=1e-6)
    assert math.isclose(output.cosine, float(y @ z / (y.norm() * z.norm())), rel_tol=1e-6)


def test_layers_come_in_the_order_of_the_model():
    """One line for each replaced layer."""
    drift = bc.drift(bc.convert(Mlp(), "yat-all"), example_inputs=(ROWS,))
    assert [layer.path for layer in drift.layers] == ["fc1", "fc2", "head"]


def test_a_layer_without_its_activation_is_compared_with_both():
    """A fitted Conv–BN–ReLU is close to what the ReLU gave, not to what the convolution gave."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2)
    )
    model(torch.randn(32, 3, 8, 8))
    x = torch.randn(32, 3, 8, 8)
    bc.convert(model, DROPPING, example_inputs=(x,))
    (layer,) = bc.drift(model, example_inputs=(x,)).layers
    assert layer.relative < 0.4
    assert layer.cosine > 0.95


@pytest.mark.parametrize(("make", "inputs"), [(Mlp, (ROWS,)), (Cnn, (IMAGES,)), (SharedLayer, (ROWS,))])
def test_nothing_changes(make, inputs):
    """Measuring leaves parameters, buffers, classes, flags and the random state as they were."""
    model = bc.convert(seeded(make), "yat-all", example_inputs=inputs).train()
    before = ({k: v.clone() for k, v in model.state_dict().items()}, [type(m) for m in model.modules()])
    random_state = torch.random.get_rng_state()
    bc.drift(model, example_inputs=inputs)
    assert all(torch.equal(v, before[0][k]) for k, v in model.state_dict().items())
    assert [type(m) for m in model.modules()] == before[1]
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_text_and_json():
    """The text has a line for each layer and the output; the dict survives JSON."""
    drift = bc.drift(bc.convert(Mlp(), "yat-all"), example_inputs=(ROWS,))
    assert [line.split()[0] for line in str(drift).splitlines()[1:]] == ["fc1", "fc2", "head", "(output)"]
    assert json.loads(json.dumps(drift.to_dict()))["output"]["path"] == ""


BAD_INPUTS = [
    pytest.param((torch.ones(2, 5),), "fails on the example inputs", id="wrong shape"),
    pytest.param(None, "needs example_inputs", id="none"),
    pytest.param(3, "tuple of positional", id="a number"),
]


@pytest.mark.parametrize(("inputs", "message"), BAD_INPUTS)
def test_inputs_that_do_not_fit(inputs, message):
    """The error says what is wrong; the model is still converted."""
    model = bc.convert(Mlp(), "yat-all")
    with pytest.raises(bc.BioconvertError, match=message):
        bc.drift(model, example_inputs=inputs)
    assert type(model.fc1).__name__ == "YatLinear"


def test_keyword_inputs():
    """A dict gives keyword arguments."""
    drift = bc.drift(bc.convert(Mlp(), "yat-all"), example_inputs={"x": ROWS})
    assert len(drift.layers) == 3
