"""Tensors that get other sizes in place: what stays, what is noted, and how it is repeated and undone."""

import copy

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import CheckpointError, ConversionError
from bioconvert.graph.resizing import fit_state, fitted, resize
from bioconvert.surgery import describe, replay

ROWS = torch.linspace(-1, 1, 12).view(3, 4)


def layers():
    """Give a model of two layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def widen(model, units=5):
    """Give the hidden layer another number of units."""
    with torch.no_grad():
        rows = fitted(model[0].weight, (units, 4), 0.25)
        resize(model[0], {"weight": rows, "bias": fitted(model[0].bias, (units,))}, {"out_features": units})
        norm = {name: fitted(getattr(model[1], name), (units,), 1.0) for name in ("weight", "bias")}
        stats = {
            name: fitted(getattr(model[1], name), (units,), 1.0) for name in ("running_mean", "running_var")
        }
        resize(model[1], {**norm, **stats}, {"num_features": units})
        resize(model[3], {"weight": fitted(model[3].weight, (2, units), 0.5)}, {"in_features": units})
    return model


class TestAResizedParameter:
    def test_stays_the_object_that_it_is(self):
        """Ties, optimizers and hooks that hold it keep hold of it, and the gradient of old shape is gone."""
        model, seen = layers(), []
        weight = model[0].weight
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        weight.register_hook(lambda gradient: seen.append(tuple(gradient.shape)))
        weight.register_post_accumulate_grad_hook(lambda p: seen.append(tuple(p.grad.shape)))
        last = model(ROWS).sum()
        last.backward()
        widen(model)
        assert model[0].weight is weight
        assert weight.grad is None
        model(ROWS).square().sum().backward()
        optimizer.step()
        assert seen == [(3, 4), (3, 4), (5, 4), (5, 4)]

    def test_learns_though_the_graph_of_the_last_loss_is_still_there(self):
        """Growing between two steps works while the loop still holds the loss of the one before."""
        model = layers()
        loss = model(ROWS).sum()
        loss.backward()
        widen(model)
        model(ROWS).sum().backward()
        assert model[3].weight.grad.shape == (2, 5)
        assert loss.isfinite()

    def test_keeps_format_and_trainability(self):
        """Number format and requires_grad are those of before, whatever the value given."""
        layer = nn.Linear(2, 2).to(torch.bfloat16).requires_grad_(False)
        resize(layer, {"weight": torch.ones(3, 2, dtype=torch.float64)}, {"out_features": 3})
        assert layer.weight.dtype == torch.bfloat16
        assert not layer.weight.requires_grad


def test_what_the_module_lacks_is_named():
    """A tensor that isn't the module's own can't be resized, and nothing changes then."""
    layer = nn.Linear(2, 2, bias=False)
    with pytest.raises(KeyError, match="bias"):
        resize(layer, {"weight": torch.ones(3, 2), "bias": torch.ones(3)})
    assert layer.weight.shape == (2, 2)


class TestTheRecord:
    def test_repeats_the_sizes_on_a_fresh_model(self):
        """describe() tells what replay() needs, in plain values, and nothing where nothing was resized."""
        model = widen(layers())
        told = describe(model)
        fresh = layers()
        replay(fresh, told)
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(fresh(ROWS), model(ROWS))
        assert (fresh[0].out_features, fresh[1].num_features, fresh[3].in_features) == (5, 5, 5)
        assert describe(fresh) == told
        assert "resized" not in describe(layers())

    def test_goes_back_to_the_first_sizes(self):
        """However often a layer was resized, revert gives it the sizes that it was built with."""
        model = layers()
        old = copy.deepcopy(model.state_dict())
        bc.revert(widen(widen(model), 7))
        assert all(torch.equal(value, old[name]) for name, value in model.state_dict().items())
        assert str(model) == str(layers())
        assert describe(model) == describe(layers())

    def test_fills_lacking_units_with_ones_that_give_nothing(self):
        """Of a model that lost units, revert keeps the function: the others' weights are zero."""
        model = layers().eval()
        widen(model, 2)
        expected = model(ROWS)
        assert torch.equal(bc.revert(model)(ROWS), expected)
        assert model[0].weight.shape == (3, 4)

    def test_follows_copies_and_files(self, tmp_path):
        """A resized model is copied, pickled, saved and loaded."""
        model = widen(layers())
        torch.save(model, tmp_path / "whole.pt")
        pickled = torch.load(tmp_path / "whole.pt", weights_only=False)
        bc.save(model, tmp_path / "folder")
        loaded = bc.load(tmp_path / "folder", factory=layers)
        for twin in (copy.deepcopy(model), pickled, loaded):
            assert torch.equal(twin(ROWS), model(ROWS))
            assert describe(twin) == describe(model)

    def test_refuses_another_model(self):
        """A model of other sizes than the first one had is named, and left as it is."""
        told, other = describe(widen(layers())), nn.Sequential(nn.Linear(4, 9), nn.ReLU())
        with pytest.raises(ConversionError, match=r"weight is \[9, 4\] and was \[3, 4\]"):
            replay(other, told)
        assert other[0].weight.shape == (9, 4)

    def test_is_undone_by_the_model_only(self, tmp_path):
        """A folder of a resized model isn't reverted without torch; the text says what to do."""
        bc.save(widen(layers()), tmp_path / "folder")
        from bioconvert.checkpoint.models.reverting import revert_folder

        with pytest.raises(CheckpointError, match="load it, revert it"):
            revert_folder(tmp_path / "folder", tmp_path / "target")


def test_reverting_fits_the_optimizer():
    """Moments of a widened parameter are cut with it, and the next step works."""
    model = widen(layers())
    optimizer = torch.optim.AdamW(model.parameters())
    model(ROWS).square().sum().backward()
    optimizer.step()
    moment = optimizer.state[model[0].weight]["exp_avg"].clone()
    bc.revert(model, optimizer=optimizer)
    assert torch.equal(optimizer.state[model[0].weight]["exp_avg"], moment[:3])
    model(ROWS).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, amsgrad=True),
        lambda p: torch.optim.SGD(p, momentum=0.9),
        torch.optim.Adafactor,
        torch.optim.Adagrad,
    ],
    ids=["Adam", "SGD", "Adafactor", "Adagrad"],
)
def test_state_of_every_kind_grows(make):
    """Old numbers keep every bit, new ones are zero, rows and columns of a factored moment included."""
    model = layers()
    optimizer = make(model.parameters())
    model(ROWS).square().sum().backward()
    optimizer.step()
    weight = model[0].weight
    before = {key: value.clone() for key, value in optimizer.state[weight].items()}
    widen(model)
    fit_state(optimizer, weight, (3, 4))
    for key, old in before.items():
        new = optimizer.state[weight][key]
        assert torch.equal(fitted(new, old.shape), old)
        assert new.sum() == pytest.approx(float(old.sum()), rel=1e-6)
