"""Gated perceptrons in width: layers whose units are multiplied one by one grow together, or not at all."""

import copy

import pytest
import torch
from growing_models import wrapping
from small_models import seeded
from torch import nn
from wide_models import Gated

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.organism.growth_size import added_parameters
from bioconvert.organism.seats import seat_of

X = torch.randn(9, 5, generator=torch.Generator().manual_seed(3))


def gated(make=Gated):
    """Give a model that is a node in a container, and its organism."""
    model = bc.convert(seeded(lambda: nn.Sequential(make())), wrapping("0"))
    return model, bc.Organism(model)


class UsedTwice(Gated):
    """Gives what the second layer gives back, too."""

    def forward(self, x):
        """Add a mean of the second layer's units."""
        up = self.up_proj(x)
        return self.down_proj(self.act_fn(self.gate_proj(x)) * up) + up.mean(-1, keepdim=True)


class OneForAll(Gated):
    """Lets all units through as far as one says."""

    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(5, 1)


class Halved(Gated):
    """Multiplies by what no layer gives."""

    def forward(self, x):
        """Leave the gate out."""
        return self.down_proj(self.up_proj(x) * torch.ones(6))


class Normalised(Gated):
    """Has a norm before the product."""

    def __init__(self):
        super().__init__()
        self.act_fn = nn.BatchNorm1d(6)


class NormalisedAfterwards(Gated):
    """Has a norm behind the product."""

    def __init__(self):
        super().__init__()
        self.down_proj = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 4))


REFUSED = [
    pytest.param(UsedTwice, "followed by mean", id="used twice"),
    pytest.param(OneForAll, "its 1 units aren't the inputs of the Linear", id="one for all"),
    pytest.param(Halved, "followed by mul", id="no layer"),
    pytest.param(Normalised, "followed by mul", id="norm"),
]


class TestGatedUnits:
    @pytest.mark.parametrize("by", ["zero", "paired"])
    def test_are_drawn_for_each_layer(self, by):
        """Both layers have the new units, and these don't take the same."""
        model, organism = gated()
        organism.grow("0", "width", by=by, units=4)
        gate, up = model[0].gate_proj, model[0].up_proj
        assert gate.weight.shape == up.weight.shape == (10, 5)
        assert (up.out_features, model[0].down_proj.in_features) == (10, 10)
        assert not torch.allclose(gate.weight[6:] / gate.weight.norm(), up.weight[6:] / up.weight.norm())

    def test_are_copies_of_the_same_units_in_both_layers(self):
        """What is copied for net2wider is a unit with what it is multiplied by."""
        model, organism = gated()
        organism.grow("0", "width", by="net2wider", units=4)
        rows = torch.cat([model[0].gate_proj.weight, model[0].up_proj.weight], 1)
        assert all((rows[:6] == new).all(1).any() for new in rows[6:])

    @pytest.mark.parametrize("by", ["zero", "paired", "net2wider"])
    def test_pass_a_norm_behind_the_product_as_copies(self, by):
        """A LayerNorm takes all units together: new ones are copies in both layers, and the output stays."""
        model, organism = gated(NormalisedAfterwards)
        model, x = model.double(), X.double()
        before = model(x)
        organism.grow("0", "width", by=by, units=12)
        assert torch.allclose(model(x), before, rtol=1e-12, atol=1e-12)
        rows = torch.cat([model[0].gate_proj.weight, model[0].up_proj.weight], 1)
        assert all((rows[:6] == new).all(1).any() for new in rows[6:])

    def test_are_counted_before(self):
        """The caps know how much a birth adds."""
        model, organism = gated()
        added = added_parameters(seat_of(organism.seats, "0"), model, "width", 3)
        before = sum(p.numel() for p in model.parameters())
        organism.grow("0", "width", units=3)
        assert sum(p.numel() for p in model.parameters()) == before + added

    def test_keep_the_moments_of_the_old_ones(self):
        """The optimizer follows in both layers, and goes on."""
        model, organism = gated()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        organism.bind(optimizer)
        model(X).square().mean().backward()
        optimizer.step()
        moments = [copy.deepcopy(optimizer.state[p]["exp_avg"]) for p in (model[0].up_proj.weight,)]
        organism.grow("0", "width", units=4)
        assert torch.equal(optimizer.state[model[0].up_proj.weight]["exp_avg"][:6], moments[0])
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()

    def test_have_no_directions_of_their_own(self):
        """By gradmax a unit begins without input, and so would its product."""
        model, organism = gated()
        with pytest.raises(OptionError, match="multiplied by those of another layer"):
            organism.grow("0", "width", by="gradmax", loss=lambda: model(X).square().mean())


@pytest.mark.parametrize(("make", "said"), REFUSED)
def test_other_products_are_refused(make, said):
    """Where the units don't meet one by one in a single place, the reason is told and nothing has changed."""
    model, organism = gated(make)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(OptionError, match=said):
        organism.grow("0", "width", units=4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
