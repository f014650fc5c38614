"""Optimizers of layers that got new units: what stays, and how far the new weights move."""

import copy

import pytest
import torch
from torch import nn
from wide_models import grow, loss_of, wide

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.organism.width_state import BORN

OPTIMIZERS = [
    pytest.param(lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True), id="AdamW"),
    pytest.param(lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), foreach=False), id="tensor rate"),
    pytest.param(lambda p: torch.optim.NAdam(p, lr=0.01), id="NAdam"),
    pytest.param(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1), id="SGD"),
    pytest.param(lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True), id="RMSprop"),
    pytest.param(torch.optim.Adagrad, id="Adagrad"),
    pytest.param(torch.optim.Adadelta, id="Adadelta"),
    pytest.param(torch.optim.Adafactor, id="Adafactor"),
    pytest.param(torch.optim.Rprop, id="Rprop"),
    pytest.param(torch.optim.ASGD, id="ASGD"),
]


def step(model, given, optimizer, times=1, scheduler=None):
    """Do some steps."""
    for _ in range(times):
        optimizer.zero_grad()
        loss_of(model, given)().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def trained(make, times=4, name="MLP", dtype=torch.float64):
    """Build a model and train it a little, with an optimizer that is bound."""
    model, organism, given = wide(name, dtype)
    optimizer = make(model.parameters())
    organism.bind(optimizer)
    step(model, given, optimizer, times)
    return model, organism, given, optimizer


@pytest.mark.parametrize("make", OPTIMIZERS)
class TestEveryOptimizer:
    @pytest.mark.parametrize("by", ["zero", "net2wider"])
    def test_keeps_old_moments_bit_for_bit(self, make, by):
        """The numbers of old weights are those of before; groups and their members are the same objects."""
        _, organism, given, optimizer = trained(make)
        before = {p: copy.deepcopy(state) for p, state in optimizer.state.items()}
        members = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
        grow(organism, "MLP", by, given)
        assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == members
        for parameter, state in before.items():
            for name, value in state.items():
                now = torch.as_tensor(optimizer.state[parameter][name])
                value = torch.as_tensor(value)
                common = tuple(slice(size) for size in value.shape)
                assert torch.equal(now[common], value)
                assert now.shape == value.shape or now.dim() == parameter.dim()

    def test_goes_on(self, make):
        """After growth every weight moves by finite steps, old and new."""
        model, organism, given, optimizer = trained(make)
        grow(organism, "MLP", "paired", given)
        before = [p.detach().clone() for p in model.parameters()]
        step(model, given, optimizer, 3)
        for parameter, old in zip(model.parameters(), before, strict=True):
            assert parameter.isfinite().all()
            assert not torch.equal(parameter, old)

    def test_saved_state_fits_the_loaded_model(self, make, tmp_path):
        """Killed after growth and loaded, the next steps are the same to the last bit."""
        model, organism, given, optimizer = trained(make, dtype=torch.float32)
        grow(organism, "MLP", "net2wider", given)
        step(model, given, optimizer, 2)
        bc.save(model, tmp_path / "model")
        torch.save(optimizer.state_dict(), tmp_path / "state.pt")
        from wide_models import WIDE

        twin = bc.load(tmp_path / "model", factory=WIDE["MLP"].make)
        other = make(twin.parameters())
        bc.Organism(twin).bind(other)
        other.load_state_dict(torch.load(tmp_path / "state.pt"))
        step(model, given, optimizer, 3)
        step(twin, given, other, 3)
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


class TestYoungWeights:
    @pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
    def test_move_as_by_an_optimizer_of_their_own(self, kind):
        """Behind a long history of the layer, new weights move as with an Adam that starts with them."""

        def make(parameters):
            return kind(parameters, lr=0.01, weight_decay=0, eps=1e-14)

        model, organism, given, optimizer = trained(make, 60)
        grow(organism, "MLP", "zero", given)
        twin = copy.deepcopy(model)
        fresh = make(twin.parameters())
        for _ in range(4):
            step(model, given, optimizer)
            step(twin, given, fresh)
            for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
                assert mine.shape == theirs.shape
            new, expected = model[0][2].weight[:, 6:], twin[0][2].weight[:, 6:]
            assert torch.allclose(new, expected, rtol=1e-4)
            twin.load_state_dict(model.state_dict())  # the old weights move otherwise

    def test_do_not_move_too_far(self):
        """The first step is no longer than the rate; by the count of the others it would be 1.6 times it."""
        for bound, low, high in ((True, 0.99, 1.01), (False, 1.55, 1.65)):
            model, organism, given = wide("MLP")
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            organism.bind(optimizer)
            step(model, given, optimizer, 300)
            grow(organism, "MLP", "paired", given)
            if not bound:
                organism.unbind()
            before = model[0][2].weight.detach().clone()
            step(model, given, optimizer)
            moved = (model[0][2].weight - before)[:, 6:].abs()
            assert low < moved.median().item() / 1e-3 < high

    def test_old_weights_move_as_they_would(self):
        """The correction leaves every bit of the others' steps."""
        moved = []
        for bound in (True, False):
            model, organism, given, optimizer = trained(torch.optim.Adam, 20)
            grow(organism, "MLP", "zero", given)
            if not bound:
                organism.unbind()
            step(model, given, optimizer)
            moved.append(model[0][2].weight.detach()[:, :6].clone())
        assert torch.equal(*moved)

    def test_come_of_age(self):
        """When their moments have warmed up nothing is kept about them."""

        def make(parameters):
            return torch.optim.Adam(parameters, lr=0.01, betas=(0.5, 0.6))

        model, organism, given, optimizer = trained(make)
        grow(organism, "MLP", "zero", given)
        assert optimizer.state[model[0][0].weight][BORN] == {"0": [0] * 6 + [4] * 4}
        step(model, given, optimizer, 12)
        assert all(BORN not in state for state in optimizer.state.values())

    def test_of_two_births_are_told_apart(self):
        """Rows and columns keep the counts of their own births."""
        model, organism, given, optimizer = trained(torch.optim.Adam, 3, "two hidden layers")
        grow(organism, "two hidden layers", "zero", given)
        step(model, given, optimizer, 2)
        grow(organism, "two hidden layers", "zero", given)
        state = optimizer.state[model[0][2].weight]
        assert state[BORN] == {"1": [0] * 6 + [3] * 4 + [5] * 4, "0": [0] * 4 + [3] * 4 + [5] * 4}
        step(model, given, optimizer, 2)

    def test_keep_their_births_where_others_are_pruned(self):
        """Rows and columns that are left are still as old as they are."""
        model, organism, given, optimizer = trained(torch.optim.Adam, 3)
        grow(organism, "MLP", "zero", given)
        step(model, given, optimizer, 2)
        (done,) = organism.prune_units("0", units=5, by="magnitude")
        expected = [3 if place >= 6 else 0 for place in done.kept]
        assert 0 < sum(expected) < 3 * len(expected)
        assert optimizer.state[model[0][0].weight][BORN] == {"0": expected}
        assert optimizer.state[model[0][2].weight][BORN] == {"1": expected}
        step(model, given, optimizer, 2)


def test_schedulers_go_on():
    """A scheduler from before goes on as if nothing had been: there is no new group."""
    model, organism, given, optimizer = trained(torch.optim.Adam)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    step(model, given, optimizer, 2, scheduler)
    grow(organism, "MLP", "zero", given)
    step(model, given, optimizer, 2, scheduler)
    assert [group["lr"] for group in optimizer.param_groups] == [0.00025]


def test_an_optimizer_may_be_given():
    """One that isn't bound is by growing with it."""
    model, organism, given = wide("MLP")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step(model, given, optimizer, 2)
    grow(organism, "MLP", "zero", given, optimizer=optimizer)
    step(model, given, optimizer, 2)
    assert organism.step == 2
    assert optimizer.state[model[0][0].weight]["momentum_buffer"].shape == (10, 5)


def test_a_state_of_another_shape_is_refused():
    """What an optimizer keeps that can't grow is named, and nothing has changed."""
    model, organism, _, optimizer = trained(torch.optim.Adam)
    optimizer.state[model[0][2].weight]["preconditioner"] = torch.eye(7)
    with pytest.raises(OptionError, match=r"'preconditioner' of shape \[7, 7\]"):
        organism.grow("0", "width", units=4)
    assert model[0][0].weight.shape == (6, 5)
    assert organism.history == ()


def test_reverting_cuts_the_moments():
    """After revert the optimizer goes on with the first units' numbers, old marks and all."""
    model, organism, given, optimizer = trained(torch.optim.Adam)
    grow(organism, "MLP", "zero", given)
    step(model, given, optimizer, 2)
    moment = optimizer.state[model[0][0].weight]["exp_avg"][:6].clone()
    bc.revert(model, optimizer=optimizer)
    assert torch.equal(optimizer.state[model[0][0].weight]["exp_avg"], moment)
    step(model, given, optimizer, 2)
    assert isinstance(model[0][0], nn.Linear)
