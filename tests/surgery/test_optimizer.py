"""An optimizer that was made before stays valid."""

import pytest
import torch
from small_models import Mlp, seeded
from torch import nn

import bioconvert as bc

ROWS = torch.linspace(-1, 1, 12).view(3, 4)


def step(model, optimizer):
    optimizer.zero_grad()
    model(ROWS).square().sum().backward()
    optimizer.step()


def groups_of(model, optimizer):
    """Name the parameters of each group."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]


@pytest.fixture
def model():
    return seeded(Mlp)


def test_state_of_surviving_parameters_is_bit_equal(model):
    """Adam's moments and steps are the very same tensors; training goes on."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    step(model, optimizer)
    before = {p: {k: v.clone() for k, v in s.items()} for p, s in optimizer.state.items()}
    bc.convert(model, "yat-all", optimizer=optimizer)
    for parameter, state in before.items():
        assert all(torch.equal(value, optimizer.state[parameter][key]) for key, value in state.items())
    alpha = model.fc1.alpha.clone()
    step(model, optimizer)
    assert not torch.equal(alpha, model.fc1.alpha)


def test_new_parameters_join_an_undecayed_group_of_their_layer(model):
    """With decay on weights and none on biases, the scalars go with the biases."""
    weights = [p for n, p in model.named_parameters() if n.endswith("weight")]
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    )
    bc.convert(model, "yat-all", optimizer=optimizer)
    first, second = groups_of(model, optimizer)
    assert all(name.endswith("weight") for name in first)
    assert [name for name in second if name.endswith("alpha")] == ["fc1.alpha", "fc2.alpha", "head.alpha"]


def test_where_everything_decays_a_group_without_decay_is_made(model):
    """It has the learning rate of the layer's own group, and one group serves all."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    bc.convert(model, "yat-all", optimizer=optimizer)
    assert groups_of(model, optimizer)[1] == ["fc1.alpha", "fc2.alpha", "head.alpha"]
    assert optimizer.param_groups[1]["weight_decay"] == 0
    assert optimizer.param_groups[1]["lr"] == 0.05
    step(model, optimizer)


def test_each_layer_keeps_its_own_learning_rate(model):
    """A layer in a group of its own brings its additions there."""
    optimizer = torch.optim.SGD(
        [{"params": model.fc1.parameters(), "lr": 0.1}, {"params": model.fc2.parameters(), "lr": 0.2}], lr=0.3
    )
    bc.convert(model, "yat-all", optimizer=optimizer)
    assert groups_of(model, optimizer) == [
        ["fc1.weight", "fc1.bias", "fc1.alpha"],
        ["fc2.weight", "fc2.bias", "fc2.alpha"],
    ]


def test_a_scheduler_goes_on(model):
    """A scheduler made before still steps every group it knows."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    bc.convert(model, "yat-all", optimizer=optimizer)
    step(model, optimizer)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]


def test_names_of_parameters_are_kept(model):
    """An optimizer that knows its parameters by name learns the new names."""
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    bc.convert(model, "yat-all", optimizer=optimizer)
    assert optimizer.param_groups[0]["param_names"][-3:] == ["fc1.alpha", "fc2.alpha", "head.alpha"]


def test_revert_takes_them_out_again(model):
    """With the optimizer given, revert leaves no parameter in it that isn't the model's."""
    optimizer = torch.optim.Adam(model.parameters())
    bc.convert(model, "yat-all", optimizer=optimizer)
    step(model, optimizer)
    bc.revert(model, optimizer=optimizer)
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}
    assert {id(p) for p in optimizer.state} == {id(p) for p in model.parameters()}
    step(model, optimizer)


def test_frozen_layers_bring_nothing(model):
    """A layer that the optimizer doesn't train brings no parameter into it."""
    optimizer = torch.optim.SGD(model.fc2.parameters(), lr=0.1)
    bc.convert(model, "yat-all", optimizer=optimizer)
    assert groups_of(model, optimizer) == [["fc2.weight", "fc2.bias", "fc2.alpha"]]


def test_a_single_layer_as_the_model():
    """The root itself may be what is converted."""
    layer = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    bc.convert(layer, "yat-all", optimizer=optimizer)
    assert groups_of(layer, optimizer) == [["weight", "bias", "alpha"]]
