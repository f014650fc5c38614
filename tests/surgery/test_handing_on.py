"""Scale and offset of a fitted layer go into the linear layer behind it."""

import copy

import pytest
import torch
from torch import nn

import bioconvert as bc


def rules(path="0", **options):
    replace = {"with": "YatLinear", "activation": "drop", "hand_on": True, **options}
    return {
        "version": 1,
        "rules": [
            {"name": "r", "match": {"path": path, "followed_by": ["norm?", "ReLU?"]}, "replace": replace}
        ],
    }


def mlp(bias=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3, bias=bias))


X = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "data", [{"calibration": [X]}, {"example_inputs": (X,)}], ids=["calibrated", "closed"]
)
class TestHandingOn:
    def test_the_network_gives_the_same(self, bias, data):
        """With scale and offset in the next layer, the outputs are those of a layer that kept them."""
        folded = bc.convert(mlp(bias), rules(), **data)
        kept = bc.convert(mlp(bias), rules(hand_on=False), **data)
        assert torch.allclose(folded(X), kept(X), atol=1e-5)
        assert {name for name, _ in folded[0].named_parameters()} == {"weight", "bias"}
        assert {name for name, _ in kept[0].named_parameters()} == {"weight", "bias", "alpha", "offset"}

    def test_is_undone(self, bias, data):
        """Revert gives the next layer its old weight and bias, bit for bit."""
        model = bc.convert(mlp(bias), rules(), **data)
        bc.revert(model)
        assert torch.equal(model(X), mlp(bias)(X))
        assert model.state_dict().keys() == mlp(bias).state_dict().keys()

    def test_is_saved_and_copied(self, bias, data, tmp_path):
        """The converted model comes back from a folder and from a copy, and can be reverted there."""
        model = bc.convert(mlp(bias), rules(), **data)
        bc.save(model, tmp_path / "m")
        for twin in (bc.load(tmp_path / "m", factory=lambda: mlp(bias)), copy.deepcopy(model)):
            assert torch.equal(twin(X), model(X))
            assert torch.equal(bc.revert(twin)(X), mlp(bias)(X))


def test_transposed_receiver():
    """transformers' Conv1D takes scale and offset over like a Linear."""
    pytest.importorskip("transformers")
    from bioconvert.checkpoint.architectures.torchvision_ops import import_torchvision

    import_torchvision()
    from transformers.pytorch_utils import Conv1D

    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), Conv1D(3, 16))

    folded = bc.convert(make(), rules(), calibration=[X])
    kept = bc.convert(make(), rules(hand_on=False), calibration=[X])
    assert torch.allclose(folded(X), kept(X), atol=1e-5)


class Twice(nn.Module):
    """The layer behind is called twice."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.relu = nn.ReLU()
        self.b = nn.Linear(8, 8)

    def forward(self, x):
        return self.b(self.relu(self.a(x))) + self.b(x)


def normed():
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 3))


def both():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 2))


def tied():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 8))
    model[2].weight = model[3].weight
    return model


REFUSALS = [
    pytest.param(Twice, "a", {}, "other work", id="called twice"),
    pytest.param(tied, "0", {}, "other work", id="tied"),
    pytest.param(normed, "0", {}, "stays in between", id="a norm stays"),
    pytest.param(mlp, "0", {"activation": "keep"}, "stays in between", id="an activation stays"),
    pytest.param(mlp, "2", {}, "handed on to a Linear", id="nothing behind"),
    pytest.param(both, "re:0|2", {}, "is replaced, too", id="replaced itself"),
    pytest.param(mlp, "0", {"morph": {"steps": 3}}, "can't both be", id="morph"),
    pytest.param(mlp, "0", {"init": "keep"}, "nothing is fitted", id="not fitted"),
]


@pytest.mark.parametrize(("make", "path", "options", "reason"), REFUSALS)
def test_what_stands_in_the_way(make, path, options, reason):
    """Where the next layer can't take them over, the layer is left as it is and the reason is given."""
    plan = bc.plan(make(), rules(path, **options), calibration=[X])
    assert reason in plan.skipped[0].reason
