"""Layers that go with their activations, across the containers of other people's models."""

import warnings

import pytest

import bioconvert as bc
from bioconvert.ruleset import resolve_rules

from .entry import find
from .observation import MODES, Snapshot, prints
from .samples import sample

MODELS = {
    "torchvision/mobilenet_v3_small": 32,
    "timm/test_byobnet": 9,
    "timm/test_efficientnet": 10,
    "timm/test_nfnet": 4,
    "timm/test_resnet": 7,
    "timm/test_vit": 6,
    "timm/mobilevit_xxs": 33,
    "transformers/BertForMaskedLM": 3,
    "transformers/ViTForImageClassification": 2,
}
"""Each with the number of its layers that `yat` converts."""


@pytest.fixture
def subject(request):
    """Give a model of the zoo with its inputs."""
    request.getfixturevalue(request.param.partition("/")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        found = sample(find(request.param))
        yield found.make(), found.inputs, MODELS[request.param]


@pytest.mark.parametrize("data", [False, True], ids=["kept", "fitted"])
@pytest.mark.parametrize("subject", MODELS, indirect=True)
def test_morphing_chains_begin_as_the_original(subject, data):
    """At step 0 every bit of the outputs is the original's; a step later it isn't; reverting is exact."""
    model, inputs, converted = subject
    expected = {mode: prints(model, inputs, mode) for mode in MODES}
    before = Snapshot.of(model)
    report = bc.plan(model, morphing_yat(), example_inputs=inputs if data else None).apply()
    assert len(report.applied) == converted
    assert {mode: prints(model, inputs, mode) for mode in MODES} == expected
    bc.morph_step(model)
    assert prints(model, inputs, "eval") != expected["eval"]
    bc.finalize(model)
    assert prints(model, inputs, "eval") != expected["eval"]
    bc.revert(model)
    assert not before.differences(Snapshot.of(model))


def morphing_yat():
    """Give the rule set `yat`, with everything coming in gradually."""
    rules = resolve_rules("yat").to_dict()
    for rule in rules["rules"]:
        rule["replace"]["morph"] = {"steps": 100}
    return rules
