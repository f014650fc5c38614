"""Optimizers of a model that grows: new groups, their rates, and everything that must not change."""

import copy

import pytest
import torch
from growing_models import ROWS, growing, train

import bioconvert as bc
from bioconvert.core.errors import OptionError

OPTIMIZERS = [
    pytest.param(lambda p: torch.optim.AdamW(p, lr=0.01), id="AdamW"),
    pytest.param(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1), id="SGD"),
    pytest.param(lambda p: torch.optim.RMSprop(p, lr=0.01), id="RMSprop"),
    pytest.param(
        lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), capturable=False, foreach=False),
        id="tensor rate",
    ),
]
SCHEDULERS = [
    pytest.param(lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5), id="StepLR"),
    pytest.param(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20), id="CosineAnnealingLR"),
    pytest.param(lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.9**step), id="LambdaLR"),
    pytest.param(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=40), id="OneCycleLR"),
    pytest.param(
        lambda o: torch.optim.lr_scheduler.SequentialLR(
            o,
            [
                torch.optim.lr_scheduler.LinearLR(o, total_iters=3),
                torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
            ],
            [5],
        ),
        id="SequentialLR",
    ),
]


def snapshot(optimizer):
    """Copy what the optimizer keeps of each parameter."""
    return {p: copy.deepcopy(state) for p, state in optimizer.state.items()}


def grown(make=OPTIMIZERS[0].values[0], steps=4, before=3):
    """Train a model a little and let it grow."""
    model = growing()
    optimizer = make(model.parameters())
    organism = bc.Organism(model, stabilization_steps=steps).bind(optimizer)
    train(model, optimizer, before)
    return model, optimizer, organism


def named(optimizer, name):
    """Give the group of a name."""
    (group,) = [group for group in optimizer.param_groups if group.get("name") == name]
    return group


@pytest.mark.parametrize("make", OPTIMIZERS)
class TestEveryOptimizer:
    def test_growth_leaves_old_moments_as_they_are(self, make):
        """Groups and state of the parameters that were there keep every bit."""
        _, optimizer, organism = grown(make)
        before, group = snapshot(optimizer), dict(optimizer.param_groups[0])
        organism.grow("block")
        assert snapshot(optimizer).keys() == before.keys()
        for parameter, state in before.items():
            for name, value in state.items():
                assert torch.equal(torch.as_tensor(optimizer.state[parameter][name]), torch.as_tensor(value))
        assert {**group, "params": 0} == {**optimizer.param_groups[0], "params": 0}

    def test_every_new_parameter_is_in_one_group(self, make):
        """The groups hold all parameters once, and those of the branch in groups of its name."""
        model, optimizer, organism = grown(make)
        node = organism.grow("block")
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in model.parameters())
        own = {id(p) for p in named(optimizer, node.dynamic_id)["params"]}
        assert {id(p) for p in node.parameters()} <= own

    def test_new_rates_begin_tenfold_and_come_down(self, make):
        """The rate of the new group falls on a line from 10 times the base rate to it."""
        model, optimizer, organism = grown(make)
        group = named(optimizer, organism.grow("block").dynamic_id)
        seen = [float(group["lr"])]
        for _ in range(6):
            train(model, optimizer, 1)
            seen.append(float(group["lr"]))
        assert seen == pytest.approx([0.1, 0.1, 0.0775, 0.055, 0.0325, 0.01, 0.01])
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.01)

    def test_pruning_takes_parameters_and_state_away(self, make):
        """Nothing of the branch is left in groups and state, and the rest goes on as before."""
        model, optimizer, organism = grown(make)
        node = organism.grow("block")
        train(model, optimizer, 1)
        gone = {id(p) for p in model.block.grown.parameters()}
        organism.prune(node)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert not (held | {id(p) for p in optimizer.state}) & gone
        assert held == {id(p) for p in model.parameters()}
        train(model, optimizer, 1)


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_schedulers_go_on(schedule):
    """A scheduler from before the birth gives the old groups what it would, and treats the new one alike."""
    rates = []
    for grows in (False, True):
        model, optimizer, organism = grown(before=0)
        scheduler = schedule(optimizer)
        train(model, optimizer, 2, scheduler)
        if grows:
            group = named(optimizer, organism.grow("block").dynamic_id)
        seen = []
        for _ in range(10):
            train(model, optimizer, 1, scheduler)
            seen.append(optimizer.param_groups[0]["lr"])
        rates.append(seen)
    assert rates[0] == rates[1]
    assert group["lr"] == pytest.approx(rates[1][-1])
    assert len(scheduler.get_last_lr()) == len(optimizer.param_groups)


def test_a_gate_is_not_decayed():
    """With weight decay the gate has a group without it."""
    model, optimizer, organism = grown()
    organism.grow("block")
    (group,) = [
        g for g in optimizer.param_groups if any(p is model.block.grown["1"].gate for p in g["params"])
    ]
    assert group["weight_decay"] == 0
    assert group["name"] == "block+1/1"


def test_new_parameters_follow_the_groups_of_what_they_are_copies_of():
    """Where biases have a group of their own, those of the branch get its settings, and so does the gate."""
    model = growing()
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 0.1}, {"params": biases, "lr": 0.5}], lr=0.01, momentum=0.9
    )
    bc.Organism(model).grow("block", optimizer=optimizer)
    fresh = optimizer.param_groups[2:]
    assert [(group["lr"], group["weight_decay"], len(group["params"])) for group in fresh] == [
        (0.1, 0.1, 2),
        (5.0, 0, 3),
    ]


def test_the_noise_of_a_clone_is_that_of_adam():
    """Clones differ from their block by a tenth of the root of the second moment, times normal numbers."""
    model, optimizer, organism = grown()
    node = organism.grow("block")
    old, new = model.block[1].weight, node[1].weight
    moment = optimizer.state[old]["exp_avg_sq"]
    size = ((new - old) / (0.1 * moment.sqrt()))[moment > 0]
    assert 0.5 < size.std() < 1.6
    assert torch.equal(new[moment == 0], old[moment == 0])
    other = grown()[2].grow("block")
    assert torch.equal(other[1].weight, new)


def test_the_noise_without_moments_is_a_share_of_the_deviation():
    """Without an optimizer it is one hundredth of the deviation in the tensor."""
    model = growing()
    node = bc.Organism(model).grow("block")
    size = (node[1].weight - model.block[1].weight) / model.block[1].weight.std(correction=0)
    assert 0.005 < size.std() < 0.016


def test_another_seed_gives_other_noise():
    """The seed decides, with the name of the branch."""
    clones = [bc.Organism(growing(), seed=seed).grow("block")[1].weight for seed in (1, 1, 2)]
    assert torch.equal(clones[0], clones[1])
    assert not torch.equal(clones[0], clones[2])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: torch.optim.LBFGS(p), "one group of parameters"),
        (lambda p: "adam", "torch.optim.Optimizer, not str"),
    ],
)
def test_what_can_not_follow_is_refused(make, reason):
    """Optimizers without groups are refused before anything grows."""
    model = growing()
    with pytest.raises(OptionError, match=reason):
        bc.Organism(model).grow("block", optimizer=make(model.parameters()))
    assert "grown" not in model.block._modules


def test_unbound_optimizers_step_alone():
    """After unbind() steps aren't counted."""
    model, optimizer, organism = grown()
    assert organism.step == 3
    organism.unbind()
    train(model, optimizer, 1)
    assert organism.step == 3


def test_reverting_lets_the_optimizer_forget():
    """Revert takes the parameters of branches from the optimizer."""
    model, optimizer, organism = grown()
    organism.grow("block")
    train(model, optimizer, 1)
    bc.revert(model, optimizer=optimizer)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert {id(p) for p in optimizer.state} == held
    assert model(ROWS).shape == (3, 2)
