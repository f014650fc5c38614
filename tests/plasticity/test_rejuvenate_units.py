"""Rejuvenation unit by unit: who takes the units' output, which units go, and what becomes of the rest."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.functional.own_step import own_step
from bioconvert.plasticity.unit_scores import shared


def rules(path="first", **options):
    options = {"law": "redo", "every": 4, "maturity": 1, **options}
    return {"version": 1, "rules": [{"match": {"path": path}, "attach": [{"rejuvenate": options}]}]}


class Between(nn.Module):
    """Two layers with something in between."""

    def __init__(self, first, second, between=None, function=None):
        super().__init__()
        self.first, self.second, self.between = first, second, between
        self.function = function

    def forward(self, x):
        h = self.first(x)
        h = self.between(h) if self.between is not None else h
        return self.second(self.function(h) if self.function is not None else h)


def mlp(**kwargs):
    torch.manual_seed(0)
    return Between(nn.Linear(6, 8), nn.Linear(8, 3), nn.ReLU(), **kwargs)


def cnn():
    torch.manual_seed(0)
    return Between(
        nn.Conv2d(2, 8, 3), nn.Linear(8 * 4, 3), nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3)),
        lambda h: torch.flatten(h, 1),
    )  # fmt: skip


def grouped():
    torch.manual_seed(0)
    return Between(nn.Conv1d(4, 8, 1, groups=2), nn.Conv1d(8, 4, 1, groups=4), nn.ReLU())


NETS = [
    pytest.param(mlp, (16, 6), id="Linear to Linear"),
    pytest.param(cnn, (16, 2, 8, 8), id="Conv to Linear"),
    pytest.param(grouped, (16, 4, 5), id="grouped Conv to grouped Conv"),
]


def kill(net, units):
    """Let units be 0 whatever comes in."""
    net.first.weight.data[units] = 0
    net.first.bias.data[units] = -1.0
    if isinstance(net.between, nn.Sequential):
        net.between[0].bias.data[units] = -9.0


def bound(net, make=torch.optim.Adam, lr=1e-3, **options):
    net = bc.convert(net, rules(**options))
    optimizer = make(net.parameters(), lr=lr)
    return net, optimizer, bc.Plasticity(net, seed=2).bind(optimizer)


def train(net, optimizer, shape, count, start=0):
    for i in range(start, start + count):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(i))
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()


FOUND = [
    pytest.param(lambda: Between(nn.Linear(4, 6), nn.Linear(6, 2)), id="directly"),
    pytest.param(lambda: Between(nn.Linear(4, 6), nn.Linear(6, 2), nn.Dropout(), F.gelu), id="functions"),
    pytest.param(lambda: Between(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 2, 3), nn.BatchNorm2d(6)), id="norm"),
    pytest.param(
        lambda: Between(
            nn.Conv2d(4, 6, 3), nn.Linear(24, 2), nn.AdaptiveAvgPool2d(2), lambda h: h.flatten(1)
        ),
        id="flatten, a method",
    ),
    pytest.param(
        lambda: Between(
            nn.Conv2d(4, 6, 3), nn.Linear(24, 2), None, lambda h: F.max_pool2d(h.relu(), 2).view(-1, 24)
        ),
        id="pooling and view",
    ),
    pytest.param(
        lambda: Between(nn.Conv2d(4, 6, 3), nn.Linear(6, 2), None, lambda h: h.mean((2, 3))), id="mean"
    ),
]


@pytest.mark.parametrize("make", FOUND)
def test_the_next_layer_is_found(make):
    """Through activations, norms, pooling and flattening, modules or functions, the next layer is found."""
    net = bc.convert(make(), rules())
    assert net.first.plasticity_rejuvenate__weight["outgoing"] == "second"
    norm = "between" if isinstance(net.between, nn.BatchNorm2d) else ""
    assert net.first.plasticity_rejuvenate__weight["norm"] == norm


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.second(self.first(x) + x)


class Twice(Residual):
    def forward(self, x):
        return self.second(self.second(self.first(x)))


REFUSED = [
    pytest.param(Residual, {}, "it is followed by add", id="sum"),
    pytest.param(Twice, {}, "takes other values too", id="shared"),
    pytest.param(Residual, {"path": "second"}, "followed by the model's end", id="last"),
    pytest.param(
        lambda: Between(nn.Embedding(4, 4), nn.Linear(4, 2)), {}, "replaces units of", id="Embedding"
    ),
    pytest.param(
        lambda: Between(nn.Conv2d(4, 6, 3), nn.Linear(6, 2)),
        {},
        "6 units aren't the inputs",
        id="unflattened",
    ),
]


@pytest.mark.parametrize(("make", "options", "reason"), REFUSED)
def test_what_can_not_be_found_is_refused(make, options, reason):
    """A layer whose output goes elsewhere is skipped, and the plan says why."""
    plan = bc.plan(make(), rules(**options))
    assert [reason in entry.reason for entry in plan.skipped] == [True]


def test_the_next_layer_can_be_named():
    """`outgoing` names it where it can't be found, and a wrong name is an error of `bind`."""
    net = bc.convert(Residual(), rules(outgoing="second"))
    bc.Plasticity(net).bind(torch.optim.SGD(net.parameters(), lr=0.1))
    net = bc.convert(Residual(), rules(outgoing="third"))
    with pytest.raises(OptionError, match=r"'first\.weight': the model has no layer 'third'"):
        bc.Plasticity(net).bind(torch.optim.SGD(net.parameters(), lr=0.1))


@pytest.mark.parametrize(("make", "shape"), NETS)
class TestDormantUnits:
    def test_dead_units_begin_anew(self, make, shape):
        """Dead units get fresh incoming weights and outgoing weights of 0; the others are left alone."""
        net = make()
        kill(net, [1, 6])
        net, optimizer, _ = bound(net, lr=0.0, tau=0.01)
        before = copy.deepcopy(net.state_dict())
        train(net, optimizer, shape, 4)
        weight, others = net.first.weight.detach(), [0, 2, 3, 4, 5, 7]
        bound_ = weight[0].numel() ** -0.5
        assert torch.equal(weight[others], before["first.weight"][others])
        assert float(weight[[1, 6]].abs().min()) > 0
        assert float(weight[[1, 6]].abs().max()) <= bound_
        assert float(net.first.bias[[1, 6]].abs().max().detach()) <= bound_
        assert net.first.rejuvenate_age.tolist()[1] == net.first.rejuvenate_age.tolist()[6] == 0
        assert net.first.rejuvenate_seen.tolist() == [4, 0, 4, 4, 4, 4, 0, 4]

    def test_the_function_stays(self, make, shape):
        """Where only dead units are replaced, the network computes what it did."""
        net = make()
        kill(net, [1, 6])
        net, optimizer, _ = bound(net, lr=0.0, tau=0.0)
        net.eval()
        x = torch.randn(shape)
        net.train()
        train(net, optimizer, shape, 3)
        expected = copy.deepcopy(net).eval()(x)
        # BatchNorm's running statistics go on; those of the function before are taken.
        buffers = {name: b.clone() for name, b in net.named_buffers() if "running" in name}
        train(net, optimizer, shape, 1, start=3)
        for name, kept in buffers.items():
            fresh = net.first.rejuvenate_age == 0
            dict(net.named_buffers())[name][~fresh] = kept[~fresh]
        assert net.first.rejuvenate_age.eq(0).sum() == 2
        assert torch.allclose(net.eval()(x), expected, atol=1e-6)

    def test_moments_are_cleared_for_them_alone(self, make, shape):
        """The optimizer forgets the weights into and out of renewed units, and nothing else."""
        net = make()
        kill(net, [1, 6])
        net, optimizer, _ = bound(net, tau=0.01)
        twin = make()
        kill(twin, [1, 6])
        alone = torch.optim.Adam(twin.parameters(), lr=1e-3)
        train(net, optimizer, shape, 4)
        train(twin, alone, shape, 4)
        own, free = optimizer.state[net.first.weight], alone.state[twin.first.weight]
        others = [0, 2, 3, 4, 5, 7]
        for name in ("exp_avg", "exp_avg_sq"):
            assert float(own[name][[1, 6]].abs().max()) == 0
            assert torch.equal(own[name][others], free[name][others])
        outgoing = optimizer.state[net.second.weight]["exp_avg"]
        cleared = (outgoing == 0) & (net.second.weight == 0)
        assert int(cleared.sum()) == net.second.weight.numel() // 4


def test_only_units_of_little_activity_go():
    """A unit goes where E|h| is at most τ times the layer's mean."""
    net = Between(nn.Linear(1, 3, bias=False), nn.Linear(3, 1))
    net.first.weight.data = torch.tensor([[1.0], [0.11], [0.02]])
    net, optimizer, _ = bound(net, lr=0.0, tau=0.1)
    train(net, optimizer, (64, 1), 4)
    assert net.first.rejuvenate_age.eq(0).tolist() == [False, False, True]


def test_evaluation_is_not_watched():
    """Forward passes in evaluation, or without gradients, leave no trace."""
    net, _, plasticity = bound(mlp())
    x = torch.randn(4, 6)
    net.eval()(x)
    with torch.no_grad():
        net.train()(x)
    assert net.first.rejuvenate_seen.tolist() == [0] * 8
    net(x)
    assert net.first.rejuvenate_seen.tolist() == [1] * 8
    plasticity.unbind()
    net(x)
    assert net.first.rejuvenate_seen.tolist() == [1] * 8


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_of_a_bound_model_are_not_bound(copied):
    """A copy has the averages, but looks at nothing until it is bound itself."""
    net, _, _ = bound(mlp())
    net(torch.randn(4, 6))
    other = copied(net)
    other(torch.randn(4, 6))
    assert other.first.rejuvenate_seen.tolist() == [1] * 8
    bc.Plasticity(other).bind(torch.optim.SGD(other.parameters(), lr=0.1))
    other(torch.randn(4, 6))
    assert other.first.rejuvenate_seen.tolist() == [2] * 8
    assert net.first.rejuvenate_seen.tolist() == [1] * 8


def test_activity_that_is_not_finite_is_reported():
    """NaN in what units give is an error that names the layer."""
    net, optimizer, _ = bound(mlp(), lr=0.0, every=1)
    net.first.bias.data[2] = float("nan")
    with pytest.raises(OptionError, match=r"units of 'first\.weight' isn't finite"):
        train(net, optimizer, (4, 6), 1)


CBP = {"law": "continual_backprop", "every": 1, "maturity": 20}


class TestContinualBackprop:
    def test_replaces_at_its_rate(self):
        """`rate` of the mature units are replaced at each step, on average."""
        net, optimizer, _ = bound(mlp(), lr=0.0, **{**CBP, "rate": 0.02, "maturity": 0})
        renewed = 0
        for i in range(300):
            train(net, optimizer, (4, 6), 1, start=i)
            renewed += int(net.first.rejuvenate_age.eq(0).sum())
        assert renewed == pytest.approx(0.02 * 8 * 300, abs=4 * (0.02 * 8 * 300) ** 0.5)

    def test_units_are_left_to_mature(self):
        """No unit is replaced before it has been seen so often."""
        net, optimizer, _ = bound(mlp(), lr=0.0, **CBP, rate=1.0)
        train(net, optimizer, (4, 6), 19)
        assert int(net.first.rejuvenate_age.min()) > 1000
        train(net, optimizer, (4, 6), 1, start=19)
        assert net.first.rejuvenate_age.tolist() == [0] * 8

    def test_the_least_useful_go(self):
        """Utility is E|h − mean h| Σ|w_out| / mean |w_in|: the unit of the least goes."""
        net = Between(nn.Linear(1, 3, bias=False), nn.Linear(3, 2))
        net.first.weight.data = torch.tensor([[1.0], [9.0], [1.0]])
        net.second.weight.data = torch.tensor([[1.0, 0.5, 0.6], [1.0, 0.5, -0.6]])
        net, optimizer, _ = bound(net, lr=0.0, **{**CBP, "rate": 1 / 3 + 1e-6})
        train(net, optimizer, (64, 1), 20)
        assert net.first.rejuvenate_age.eq(0).tolist() == [False, True, False]

    def test_the_mean_output_goes_to_the_bias(self):
        """What a constant unit gave is taken over by the next layer's bias."""
        net = Between(nn.Linear(6, 8), nn.Linear(8, 3), nn.Tanh())
        net.first.weight.data[3], net.first.bias.data[3] = 0.0, 2.0
        net, optimizer, _ = bound(net, lr=0.0, **{**CBP, "rate": 1 / 8 + 1e-6})
        x = torch.randn(5, 6)
        expected = net.eval()(x).detach()
        net.train()
        train(net, optimizer, (4, 6), 20)
        assert int(net.first.rejuvenate_age.argmin()) == 3
        assert torch.allclose(net(x), expected, atol=1e-5)

    def test_groups_are_layers_of_their_own(self):
        """In a grouped convolution each group gives up a share of its own units."""
        net, optimizer, _ = bound(grouped(), lr=0.0, **{**CBP, "rate": 1 / 4 + 1e-6})
        net.first.weight.data[4:] *= 100
        train(net, optimizer, (8, 4, 5), 20)
        assert net.first.rejuvenate_age.eq(0).view(2, 4).sum(1).tolist() == [1, 1]


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW])
def test_young_units_move_as_by_an_optimizer_of_their_own(make):
    """After a unit is renewed, its weights move as if the optimizer had begun then."""
    net = mlp()
    kill(net, [1])
    net, optimizer, _ = bound(net, make=lambda p, lr: make(p, lr=lr, weight_decay=0.0), every=30, tau=0.01)
    train(net, optimizer, (16, 6), 30)
    assert net.first.rejuvenate_age.eq(0).tolist() == [i == 1 for i in range(8)]
    twin = copy.deepcopy(net)
    fresh = make(twin.parameters(), lr=1e-3, weight_decay=0.0)
    for i in range(5):
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1000 + i))
        net.zero_grad()
        net(x).square().sum().backward()
        for p, q in zip(net.parameters(), twin.parameters(), strict=True):
            q.grad = p.grad.clone()
        optimizer.step()
        fresh.step()
    # Steps are of 1e-3; where a gradient is as small as 1e-5, the optimizer's eps isn't corrected for.
    start = twin.first.weight[1].detach()
    assert torch.allclose(net.first.weight[1], start, atol=1e-5)
    assert torch.allclose(net.second.weight[:, 1], twin.second.weight[:, 1], atol=1e-5)
    assert not torch.allclose(net.first.weight[0], twin.first.weight[0], atol=1e-4)


def test_young_weights_between_two_layers_are_corrected_once():
    """A weight that is young for both of its ends moves as the younger end asks."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    net, optimizer, _ = bound(net, path="re:[02]", every=1000)
    train(net, optimizer, (16, 6), 30)
    with torch.no_grad():
        for layer, age in ((net[0], 3), (net[2], 9)):
            layer.rejuvenate_age.fill_(age)
    before = net[2].weight.detach().clone()
    plain = copy.deepcopy(net)
    alone = torch.optim.Adam(plain.parameters(), lr=1e-3)
    alone.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(net, optimizer, (16, 6), 1, start=50)
    train(plain, alone, (16, 6), 1, start=50)
    factor = own_step(torch.tensor([4]), optimizer.state[net[2].weight], optimizer.param_groups[0])
    expected = before + factor.float() * (plain[2].weight.detach() - before)
    assert torch.allclose(net[2].weight, expected, atol=1e-7)


def test_own_step_is_one_for_what_is_as_old_as_the_optimizer():
    """Where the moments are as old as the count of steps, nothing is corrected; SGD needs no correction."""
    state = {"exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1), "step": torch.tensor(5000.0)}
    group = {"betas": (0.9, 0.999)}
    factor = own_step(torch.tensor([1, 5000, 9999]), state, group)
    assert factor[1:].tolist() == [1.0, 1.0]
    assert float(factor[0]) < 0.4
    assert own_step(torch.tensor([1]), {"momentum_buffer": torch.zeros(1)}, {"lr": 1}) is None


@pytest.mark.parametrize("options", [{"tau": 0.5}, {**CBP, "rate": 0.05, "maturity": 2}])
def test_goes_on_where_it_was(options):
    """Restored from their states, model, optimizer and plasticity go on bit for bit."""
    one, other = bound(mlp(), **options), bound(mlp(), **options)
    train(*one[:2], (8, 6), 9)
    for each, state in zip(other, [copy.deepcopy(part.state_dict()) for part in one], strict=True):
        each.load_state_dict(state)
    train(*one[:2], (8, 6), 9, start=9)
    train(*other[:2], (8, 6), 9, start=9)
    expected, found = one[0].state_dict(), other[0].state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert int((one[0].first.rejuvenate_age < 18).sum()) > 0


def test_attaching_changes_no_bit():
    """Outputs are those of the model alone, before and after it is bound."""
    net, _, _ = bound(cnn())
    x = torch.randn(4, 2, 8, 8)
    assert torch.equal(net(x), cnn()(x))


def test_processes_agree_on_scores(monkeypatch):
    """Scores are averaged over the processes that train together."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.add_(torch.tensor([3.0, 1.0])))
    assert shared(torch.tensor([1.0, 2.0])).tolist() == [2.0, 1.5]
