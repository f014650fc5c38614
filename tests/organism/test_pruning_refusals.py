"""Hidden units that can't go, and what is said of them."""

import pytest
import torch
from growing_models import wrapping
from small_models import seeded
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError

VECTORS = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))


def mlp():
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


def wrapped(make):
    """Give a model that is a node."""
    return bc.convert(seeded(make), wrapping(""))


class Residual(nn.Module):
    """Adds what came in."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(6, 6)
        self.two = nn.Linear(6, 3)

    def forward(self, x):
        """Add."""
        return self.two(x + self.one(x))


def tied():
    """Two layers with one weight."""
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[0].weight = model[2].weight
    return model


REFUSED = [
    pytest.param(lambda: nn.Sequential(nn.Linear(6, 3)), "followed by the model's end", id="one layer"),
    pytest.param(lambda: nn.Sequential(nn.ReLU()), "no Linear and no convolution", id="no layer"),
    pytest.param(Residual, "followed by", id="residual"),
    pytest.param(tied, "its weight, is used elsewhere", id="tied"),
    pytest.param(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)),
        "mixes its units",
        id="LayerNorm",
    ),
    pytest.param(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.PReLU(8), nn.Linear(8, 3)),
        "slope for each unit",
        id="PReLU",
    ),
    pytest.param(
        lambda: nn.Sequential(nn.Conv1d(6, 8, 1), nn.Conv1d(8, 8, 1, groups=8)), "with groups", id="depthwise"
    ),
]


class TestRefusals:
    @pytest.mark.parametrize(("make", "said"), REFUSED)
    def test_layers_that_can_not_be_pruned_are_named_with_the_reason(self, make, said):
        """Nothing is changed where units are needed by more than one layer."""
        model = bc.convert(make(), wrapping(""))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(OptionError, match=said):
            bc.Organism(model).prune_units("model", 0.5, by="random")
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_a_receiver_that_is_not_linear_is_refused(self):
        """A Yat layer behind units can't be refitted; without a refit the units go."""
        rules = {
            "version": 1,
            "rules": [
                {"match": {"path": "2"}, "replace": {"with": "YatLinear", "alpha": "none"}},
                {"match": {"path": ""}, "wrap": {}},
            ],
        }
        model = bc.convert(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), rules)
        organism = bc.Organism(model)
        with pytest.raises(OptionError, match="isn't linear in its input"):
            organism.prune_units("model", 0.5, refit=[VECTORS])
        assert len(model[0].weight) == 8

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({}, "either the fraction or the number"),
            ({"fraction": 0.5, "units": 2}, "either the fraction or the number"),
            ({"fraction": 1.0}, "between 0 and 1"),
            ({"units": 0}, "at least 1"),
            ({"fraction": 0.5, "by": "taste"}, "must be one of taylor"),
            ({"fraction": 0.5}, "needs samples"),
            ({"fraction": 0.5, "refit": []}, "holds no batch"),
        ],
    )
    def test_wrong_arguments_are_told(self, options, said):
        """Errors say what must hold."""
        with pytest.raises(OptionError, match=said):
            bc.Organism(wrapped(mlp)).prune_units("model", **options)

    def test_immortal_nodes_keep_their_units(self):
        """What is immortal isn't pruned."""
        model = bc.convert(mlp(), wrapping("", immortal=True))
        with pytest.raises(OptionError, match="is immortal"):
            bc.Organism(model).prune_units("model", 0.5, by="random")
