"""What was done to a model, as JSON, and doing it again."""

import json

import pytest
import torch
from small_models import Cnn, Mlp, Optional, OwnForward, Tied, seeded
from torch import nn

import bioconvert as bc
from bioconvert.surgery import added_tensors, describe, kept_originals, replay, restore_originals

ROWS = torch.linspace(-1, 1, 40).view(10, 4)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
TOKENS = torch.tensor([[1, 2, 3], [4, 5, 6]])
SUBCLASSES = {
    "version": 1,
    "rules": [{"match": {"type": "linear", "subclasses": True}, "replace": {"with": "YatLinear"}}],
}
MODELS = [
    pytest.param(Mlp, "yat", (ROWS,), id="Mlp"),
    pytest.param(Cnn, "yat", (IMAGES,), id="Cnn, rewritten"),
    pytest.param(Optional, "yat-all", (ROWS,), id="Optional"),
    pytest.param(Tied, "yat-all", (TOKENS,), id="Tied"),
    pytest.param(lambda: nn.Sequential(OwnForward(4, 4, bias=False)), SUBCLASSES, (ROWS,), id="composed"),
]


@pytest.mark.parametrize("with_data", [True, False])
@pytest.mark.parametrize(("make", "rules", "inputs"), MODELS)
class TestReplay:
    def test_gives_the_same_model(self, make, rules, inputs, with_data):
        """Repeated on another instance and loaded with the values, outputs are the same; reverted too."""
        model = bc.convert(seeded(make), rules, example_inputs=inputs if with_data else None).eval()
        description = json.loads(json.dumps(describe(model)))
        twin = seeded(make, seed=1)
        replay(twin, description)
        restore_originals(twin, kept_originals(model))
        twin.load_state_dict(model.state_dict(), strict=True)
        twin.eval()
        assert [type(m).__name__ for m in twin.modules()] == [type(m).__name__ for m in model.modules()]
        assert torch.equal(twin(*inputs), model(*inputs))
        bc.revert(twin)
        bc.revert(model)
        assert torch.equal(twin(*inputs), model(*inputs))

    def test_describing_again_says_the_same(self, make, rules, inputs, with_data):
        """A replayed model is described by the same document."""
        model = bc.convert(seeded(make), rules, example_inputs=inputs if with_data else None)
        description = describe(model)
        twin = seeded(make, seed=1)
        replay(twin, description)
        assert describe(twin) == description


def test_an_unconverted_model_has_nothing_to_tell():
    """No modules, no rules."""
    assert describe(Mlp()) == {"modules": [], "rules": [], "seed": 0}


def test_added_and_kept_tensors_are_named_as_in_the_state_dict():
    """A fitted layer adds alpha, offset and epsilon, and keeps its old bias."""
    model = bc.convert(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "yat-all", example_inputs=(ROWS,))
    assert added_tensors(model) == {"0.alpha", "0.offset", "0.epsilon"}
    assert kept_originals(model).keys() == {"0.bias"}
    assert added_tensors(model) <= model.state_dict().keys()


MISFITS = [
    pytest.param(lambda: nn.Sequential(nn.ReLU()), "'fc1': there is no such module", id="another model"),
    pytest.param(
        lambda: nn.ModuleDict({"fc1": nn.Conv1d(4, 4, 1), "fc2": nn.Linear(4, 4), "head": nn.Linear(4, 4)}),
        "'fc1' is a torch.nn.modules.conv.Conv1d and was a torch.nn.modules.linear.Linear",
        id="another class",
    ),
]


@pytest.mark.parametrize(("make", "message"), MISFITS)
def test_a_model_that_does_not_fit_is_left_alone(make, message):
    """Every misfit is named before anything is changed."""
    description = describe(bc.convert(Mlp(), "yat-all"))
    model = make()
    before = [type(module) for module in model.modules()]
    with pytest.raises(bc.ConversionError, match=message):
        replay(model, description)
    assert [type(module) for module in model.modules()] == before
