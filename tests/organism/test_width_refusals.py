"""What can't get more units, and the reason that is told; nothing has changed then."""

import copy

import pytest
import torch
from growing_models import wrapping
from small_models import seeded
from torch import nn
from torch.nn import functional as F
from wide_models import loss_of, wide

import bioconvert as bc
from bioconvert.core.errors import OptionError


class Depthwise(nn.Module):
    """A convolution before one with a group for each channel."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 4, 3, groups=4)
        self.third = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        """Run them."""
        return self.third(F.relu(self.second(F.relu(self.first(x)))))


class Literal(nn.Module):
    """A flattening that has the number of features in it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Linear(16, 2)

    def forward(self, x):
        """Run them."""
        return self.second(torch.relu(self.first(x)).view(-1, 16))


class Residual(nn.Module):
    """A layer whose output something is added to."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, x):
        """Run them."""
        return self.second(self.first(x) + x)


class Tied(nn.Module):
    """An encoder and a decoder with one weight."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        """Run them."""
        return self.decoder(torch.relu(self.encoder(x)))


class Twice(nn.Module):
    """A layer that two values go through."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        """Run them."""
        return self.second(torch.relu(self.first(x))) + self.second(x)


class Standardised(nn.Linear):
    """A layer with a forward of its own."""

    def forward(self, x):
        """Use a weight whose rows have mean zero."""
        return F.linear(x, self.weight - self.weight.mean(1, keepdim=True), self.bias)


def parametrized():
    """Give a layer whose weight is computed."""
    return nn.utils.parametrizations.weight_norm(nn.Linear(4, 6))


def between(*modules):
    """Build a model with something between two layers."""
    return lambda: nn.Sequential(
        nn.Sequential(nn.Linear(4, 6), *(copy.deepcopy(m) for m in modules), nn.Linear(6, 2))
    )


def inside(make):
    """Build a model that holds one."""
    return lambda: nn.Sequential(make())


REFUSED = [
    pytest.param(inside(Depthwise), "0", "'0.second' has 4 groups, one for each channel", id="depthwise"),
    pytest.param(
        inside(Literal), "0", r"view\(-1, 16\) behind it has the number of units", id="literal view"
    ),
    pytest.param(inside(Residual), "0", "it is followed by add", id="residual"),
    pytest.param(inside(Tied), "0", "'0.encoder.weight' and '0.decoder.weight' are one parameter", id="tied"),
    pytest.param(inside(Twice), "0", "takes other values too", id="receiver used twice"),
    pytest.param(between(nn.Softmax(-1)), "0", "it is followed by Softmax", id="softmax"),
    pytest.param(between(nn.PReLU(6)), "0", "PReLU behind it has parameters for each unit", id="PReLU"),
    pytest.param(between(nn.LayerNorm(6), nn.BatchNorm1d(6)), "0", "several normalisations", id="two norms"),
    pytest.param(between(nn.LocalResponseNorm(2)), "0", "normalises otherwise than by unit", id="LRN"),
    pytest.param(
        inside(lambda: nn.Sequential(Standardised(4, 6), nn.Linear(6, 2))),
        "0",
        "Standardised is no plain Linear",
        id="subclass",
    ),
    pytest.param(
        inside(lambda: nn.Sequential(parametrized(), nn.Linear(6, 2))),
        "0",
        "is no plain Linear|is computed",
        id="parametrized",
    ),
    pytest.param(inside(nn.Tanh), "0", "it has no Linear or Conv layer of its own", id="no layer"),
    pytest.param(
        lambda: nn.Sequential(nn.Linear(4, 2)), "0", "followed by the model's end", id="the last layer"
    ),
    pytest.param(
        inside(lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.ReLU(), nn.Conv2d(4, 2, 1))),
        "0",
        "works the other way round",
        id="transposed",
    ),
]


@pytest.mark.parametrize(("make", "node", "reason"), REFUSED)
def test_what_can_not_get_units_is_refused(make, node, reason):
    """The reason names what stands in the way, and the model is as it was."""
    model = bc.convert(seeded(make), wrapping(node))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(OptionError, match=reason):
        bc.Organism(model).grow(node, "width", units=4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


CONVERTED = [
    pytest.param({"replace": {"with": "YatLinear"}}, "was changed .*YatLinear", id="Yat"),
    pytest.param({"attach": [{"crystallize": {}}]}, "was changed .*crystallize", id="plasticity"),
    pytest.param({"attach": [{"dale": {}}]}, "was changed .*dale", id="Dale"),
]


@pytest.mark.parametrize(("action", "reason"), CONVERTED)
def test_converted_layers_are_refused_by_what_was_done(action, reason):
    """What conversion added to a layer fits its old size; the text says what that was."""
    rules = wrapping("0")
    rules["rules"].insert(0, {"name": "first", "match": {"path": "0.0"}, **action})
    model = bc.convert(seeded(between(nn.ReLU())), rules)
    with pytest.raises(OptionError, match=reason):
        bc.Organism(model).grow("0", "width", units=4)


OPTIONS = [
    pytest.param({"by": "clone"}, "no way 'clone' for units to arise", id="clone"),
    pytest.param({"by": "net2widder"}, "Did you mean 'net2wider'", id="typo"),
    pytest.param({"units": 0}, "units must be a positive number, not 0", id="no units"),
    pytest.param({"units": True}, "not True", id="bool"),
    pytest.param({"units": 3, "by": "paired"}, "by a multiple of 2", id="odd pairs"),
    pytest.param({"by": "gradmax"}, "gradmax needs loss=", id="gradmax without loss"),
    pytest.param({"loss": lambda: None}, "loss= is for gradmax", id="loss for others"),
    pytest.param({"by": "gradmax", "loss": lambda: 3}, "loss must give one number", id="no tensor"),
    pytest.param(
        {"by": "gradmax", "loss": lambda: torch.zeros(())}, "no gradient of the loss", id="constant"
    ),
    pytest.param({"tag": "expert"}, "tag is for a new branch", id="tag"),
]


@pytest.mark.parametrize(("options", "reason"), OPTIONS)
def test_options_that_do_not_fit_are_refused(options, reason):
    """The text says what must hold and what was given."""
    model, organism, _ = wide("MLP")
    with pytest.raises(OptionError, match=reason):
        organism.grow("0", "width", **options)
    assert model[0][0].weight.shape == (6, 5)
    assert organism.history == ()


NUMBERS = [
    pytest.param("LayerNorm", "zero", 4, "zero by a multiple of 6, since LayerNorm", id="LayerNorm"),
    pytest.param("LayerNorm", "paired", 6, "paired by a multiple of 12", id="LayerNorm, paired"),
    pytest.param("GroupNorm", "net2wider", 4, "by a multiple of 3, since GroupNorm", id="GroupNorm"),
    pytest.param("BatchNorm", "gradmax", 4, "can't grow by gradmax, since BatchNorm1d", id="BatchNorm"),
]


@pytest.mark.parametrize(("name", "by", "units", "reason"), NUMBERS)
def test_norms_say_how_many_units_they_take(name, by, units, reason):
    """Where other numbers would change what the old units give, these are refused."""
    model, organism, given = wide(name)
    loss = {"loss": loss_of(model, given)} if by == "gradmax" else {}
    with pytest.raises(OptionError, match=reason):
        organism.grow("0", "width", by=by, units=units, **loss)
    assert model[0][0].weight.shape == (6, 5)


def test_branches_take_no_units():
    """Units and loss are for width only."""
    _, organism, _ = wide("MLP")
    with pytest.raises(OptionError, match="'branch' by 'clone', without units"):
        organism.grow("0", units=4)
    with pytest.raises(OptionError, match="not a 'depth' by 'clone'"):
        organism.grow("0", "depth")


def test_gradmax_needs_a_bias_behind_relu():
    """Without one no gradient would reach its units, which is said."""
    make = inside(lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 2)))
    model = bc.convert(seeded(make), wrapping("0"))
    with pytest.raises(OptionError, match="has no bias"):
        bc.Organism(model).grow(
            "0", "width", by="gradmax", units=2, loss=lambda: model(torch.ones(3, 4)).square().sum()
        )
