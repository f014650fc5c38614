"""Weights that settle: the reference's law, and what every law holds to on every kind of weight."""

import copy
import pickle

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.layers import YatLinear

X = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(1))


class Recurrent(nn.Module):
    """Gives the outputs of an LSTM alone."""

    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(8, 4, batch_first=True)

    def forward(self, x):
        return self.layer(x)[0]


class Attending(nn.Module):
    """Attends to its input."""

    def __init__(self):
        super().__init__()
        self.layer = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.layer(x, x, x, need_weights=False)[0]


class Looking(nn.Module):
    """Looks embeddings up."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Embedding(9, 4)

    def forward(self, x):
        return self.layer((x.abs() * 4).long().clamp(max=8))


def of(layer, view=lambda x: x):
    class Holding(nn.Module):
        """Holds one layer."""

        def __init__(self):
            super().__init__()
            self.layer = layer()

        def forward(self, x):
            return self.layer(view(x))

    return Holding


MODELS = [
    pytest.param(of(lambda: nn.Linear(8, 3)), "weight", id="Linear"),
    pytest.param(of(lambda: nn.Conv2d(1, 3, 3), lambda x: x[:, None]), "weight", id="Conv2d"),
    pytest.param(Looking, "weight", id="Embedding"),
    pytest.param(Recurrent, "weight_hh_l0", id="LSTM"),
    pytest.param(Attending, "in_proj_weight", id="MultiheadAttention"),
    pytest.param(of(lambda: YatLinear(8, 3)), "weight", id="YatLinear"),
]
OPTIMIZERS = [
    pytest.param(lambda p: torch.optim.SGD(p, lr=1e-2), id="SGD"),
    pytest.param(lambda p: torch.optim.Adam(p, lr=1e-2), id="Adam"),
    pytest.param(lambda p: torch.optim.Adam(p, lr=1e-2, fused=True), id="fused"),
]
LAWS = ("reference", "si", "ewc", "mas")


def attached(net, parameter="weight", **options):
    rule = {"match": {"parameter": f"**.{parameter}"}, "attach": [{"crystallize": options}]}
    return bc.convert(net, {"version": 1, "rules": [rule]})


def made(make, parameter, optimizer, **options):
    torch.manual_seed(0)
    net = attached(make(), parameter, **options)
    stepping = optimizer(net.parameters())
    return net, stepping, bc.Plasticity(net).bind(stepping)


def step(net, optimizer, x=X):
    optimizer.zero_grad()
    (net(x) - 1).square().mean().backward()
    optimizer.step()


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def single(weight, **options):
    """Give a bound layer of one row, and the function that steps with a given gradient."""
    net = nn.Linear(len(weight), 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([weight]))
    net = attached(net, **options)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    plasticity = bc.Plasticity(net).bind(optimizer)

    def stepped(gradient):
        before = net.weight.detach().clone()
        net.weight.grad = torch.tensor([gradient])
        optimizer.step()
        return (before - net.weight.detach()).squeeze(0)

    return net, plasticity, stepped


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("make", "parameter"), MODELS)
class TestEveryWeight:
    def test_reference_slows_what_settles(self, make, parameter, optimizer):
        """The rate follows the law, and each weight moves by its rate times what it would have moved by."""
        net, stepping, _ = made(make, parameter, optimizer, threshold=0.05)
        torch.manual_seed(0)
        twin = make()
        alone = optimizer(twin.parameters())
        weight = getattr(net.layer, parameter)
        before = weight.detach().clone()
        step(twin, alone)
        step(net, stepping)
        gradient = getattr(twin.layer, parameter).grad
        settled = (gradient.abs() <= 0.05 * before.abs()) | (gradient.abs() > before.abs().mean())
        rate = torch.where(settled, 0.6, 1.0)
        name = "crystallize_rate" if parameter == "weight" else f"crystallize_rate__{parameter}"
        assert torch.allclose(getattr(net.layer, name), rate)
        free = getattr(twin.layer, parameter).detach()
        assert torch.allclose(weight.detach() - before, rate * (free - before), atol=1e-6)

    @pytest.mark.parametrize("law", LAWS[1:])
    def test_a_huge_strength_freezes(self, make, parameter, optimizer, law):
        """However strong the pull, weights of some importance stay where they were, and all are finite."""
        net, stepping, plasticity = made(make, parameter, optimizer, law=law, strength=1e300)
        step(net, stepping)
        plasticity.consolidate([X])
        anchor = getattr(net.layer, parameter).detach().clone()
        suffix = "" if parameter == "weight" else f"__{parameter}"
        matters = getattr(net.layer, f"crystallize_importance{suffix}") > 1e-3
        for _ in range(3):
            step(net, stepping)
        weight = getattr(net.layer, parameter).detach()
        assert matters.any()
        assert torch.equal(weight[matters], anchor[matters])
        assert weight.isfinite().all()

    @pytest.mark.parametrize("law", LAWS)
    def test_goes_on_where_it_was(self, make, parameter, optimizer, law):
        """Model, optimizer and plasticity restored from their states go on bit for bit."""
        first, second = (made(make, parameter, optimizer, law=law) for _ in range(2))
        step(*first[:2])
        if law != "reference":
            first[2].consolidate([X])
        step(*first[:2])
        for each, other in zip(first, second, strict=True):
            other.load_state_dict(copy.deepcopy(each.state_dict()))
        for net, stepping, _ in (first, second):
            step(net, stepping)
        assert same(state(first[0]), state(second[0]))


@pytest.mark.parametrize("law", LAWS)
class TestEveryLaw:
    def test_attaching_changes_no_bit(self, law):
        """Outputs and parameters are those of the model without it; what it knows lies in buffers."""
        torch.manual_seed(0)
        net = attached(nn.Linear(8, 3), law=law)
        torch.manual_seed(0)
        twin = nn.Linear(8, 3)
        assert torch.equal(net(X), twin(X))
        assert dict(net.named_parameters()).keys() == dict(twin.named_parameters()).keys()
        assert any(name.startswith("crystallize_") for name, _ in net.named_buffers())

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
    def test_copies_live_on_their_own(self, law, duplicate):
        """A copied or unpickled model trains as the original does and leaves it alone."""
        net = attached(nn.Linear(8, 3), law=law)
        other = duplicate(net)
        kept = state(net)
        ends = []
        for each in (other, net):
            optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
            plasticity = bc.Plasticity(each).bind(optimizer)
            step(each, optimizer)
            if law != "reference":
                plasticity.consolidate([X])
            step(each, optimizer)
            ends.append(state(each))
            assert each is net or same(state(net), kept)
        assert same(*ends)

    @pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
    @pytest.mark.parametrize("make", [param.values[0] for param in OPTIMIZERS])
    def test_a_gradient_that_is_not_finite(self, law, wrong, make):
        """It is an error that names the weight, and nothing has changed, other weights included."""
        net = attached(nn.Sequential(nn.Linear(8, 3), nn.Linear(3, 2)), law=law)
        optimizer = make(net.parameters())
        bc.Plasticity(net).bind(optimizer)
        net(X).sum().backward()
        net[1].weight.grad[0, 0] = wrong
        before, gradient = state(net), net[0].weight.grad.clone()
        with pytest.raises(OptionError, match=r"gradient of '1\.weight' isn't finite"):
            optimizer.step()
        assert same(state(net), before)
        assert torch.equal(net[0].weight.grad, gradient)

    def test_a_weight_that_is_not_finite(self, law):
        """It is an error that names the weight."""
        net, _, stepped = single([1.0, float("nan")], law=law)
        del net
        with pytest.raises(OptionError, match="'weight' isn't finite"):
            stepped([0.1, 0.1])

    def test_half_precision(self, law):
        """In bf16 weights move and stay finite, while what is kept of them is in fp32."""
        net = attached(nn.Linear(8, 3).bfloat16(), law=law)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        plasticity = bc.Plasticity(net).bind(optimizer)
        before = net.weight.detach().clone()
        step(net, optimizer, X.bfloat16())
        if law != "reference":
            plasticity.consolidate([X.bfloat16()])
            step(net, optimizer, X.bfloat16())
        key = "rate" if law == "reference" else "importance"
        assert getattr(net, f"crystallize_{key}").dtype == torch.float32
        assert net.weight.isfinite().all()
        assert not torch.equal(net.weight, before)

    def test_reports_a_mean(self, law):
        """The history notes the mean of what settles the weights."""
        net = attached(nn.Linear(8, 3), law=law)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        plasticity = bc.Plasticity(net, history=1).bind(optimizer)
        step(net, optimizer)
        numbers = next(iter(plasticity.history)).numbers
        name, expected = ("mean rate", None) if law == "reference" else ("mean importance", 0)
        assert numbers[f"crystallize {name}"] == (
            expected if expected is not None else pytest.approx(1, abs=0.4)
        )


class TestReference:
    def test_a_dead_weight_settles(self):
        """A weight of 0 without a gradient counts as one with a small gradient."""
        net, _, stepped = single([0.0, 1.0])
        stepped([0.0, 0.1])
        assert net.crystallize_rate.tolist() == [[pytest.approx(0.6), 1.0]]

    def test_rates_shrink_no_further_than_the_floor(self):
        """At each step the rate is multiplied by the damping, down to the floor."""
        net, _, stepped = single([1.0, 1.0], floor=0.3)
        rates = []
        for _ in range(4):
            stepped([0.0, 0.1])
            rates.append(float(net.crystallize_rate[0, 0]))
        assert rates == pytest.approx([0.6, 0.36, 0.3, 0.3])

    def test_rates_recover(self):
        """What is missing to 1 shrinks by the recovery at each step."""
        net, _, stepped = single([1.0, 1.0], recovery=0.25)
        stepped([0.0, 0.1])
        missing = []
        for _ in range(3):
            stepped([0.1, 0.1])
            missing.append(1 - float(net.crystallize_rate[0, 0]))
        assert missing == pytest.approx([0.4 * 0.75, 0.4 * 0.75**2, 0.4 * 0.75**3])

    def test_compact_rates_are_nearly_the_full(self):
        """In a byte the rates are the same to 2 %, and recover on average as fast."""
        ends = []
        for storage in ("full", "compact"):
            torch.manual_seed(0)
            net = attached(nn.Linear(100, 300), storage=storage, recovery=0.002)
            optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)
            plasticity = bc.Plasticity(net, history=1).bind(optimizer)
            for gradient in [0.0] * 2 + [0.01] * 100:
                net.weight.grad = torch.full_like(net.weight, gradient)
                optimizer.step()
            ends.append(list(plasticity.history)[-1].numbers["crystallize mean rate"])
            assert net.crystallize_rate.dtype == (torch.uint8 if storage == "compact" else torch.float32)
        assert ends[1] == pytest.approx(ends[0], rel=0.01)
        assert ends[0] == pytest.approx(1 - 0.64 * 0.998**101, rel=0.01)

    def test_acts_when_it_is_due(self):
        """`every`, `start` and `stop` are honoured."""
        net, _, stepped = single([1.0, 1.0], every=2, start=1, stop=5)
        rates = []
        for _ in range(6):
            stepped([0.0, 0.1])
            rates.append(float(net.crystallize_rate[0, 0]))
        assert rates == pytest.approx([1, 1, 0.6, 0.6, 0.36, 0.36])

    def test_warms_up(self):
        """During the warm-up the update feels a part of the rate."""
        _, _, stepped = single([1.0, 1.0], warmup=1, threshold=1.0, damping=0.5)
        assert float(stepped([0.5, 0.5])[0]) == pytest.approx(0.5 * 0.75)

    def test_composes_with_fuzzy_rates(self):
        """The factors of both mechanisms multiply."""
        rule = {"match": {"type": "linear"}, "attach": [{"fuzzy_lr": {"nu": 0.3}}, {"crystallize": {}}]}
        net = bc.convert(nn.Linear(8, 3, bias=False), {"version": 1, "rules": [rule]})
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        bc.Plasticity(net).bind(optimizer)
        before = net.weight.detach().clone()
        net.weight.grad = torch.full((3, 8), 10.0)
        optimizer.step()
        assert torch.allclose(before - net.weight, 6 * net.fuzzy_lr_rate, rtol=1e-4)

    @pytest.mark.parametrize("law", LAWS[:3])
    def test_the_gradient_is_the_loss_s(self, law):
        """What another mechanism makes of the gradient doesn't count."""
        kept = []
        for other in (False, True):
            attach = [{"crystallize": {"law": law, "threshold": 0.9, "target": "update"}}]
            if other:
                attach.insert(0, {"fuzzy_lr": {"nu": 1.0, "bounds": [1e-6, 1e-5], "target": "gradient"}})
            torch.manual_seed(0)
            net = bc.convert(
                nn.Linear(8, 3), {"version": 1, "rules": [{"match": {"type": "linear"}, "attach": attach}]}
            )
            optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
            bc.Plasticity(net).bind(optimizer)
            net.weight.grad = torch.linspace(0.01, 0.3, 24).view(3, 8)
            moved = net.weight.detach().clone()
            optimizer.step()
            moved = net.weight.detach() - moved
            per_motion = -net.crystallize_trace / moved if law == "si" else None
            kept.append(
                net.crystallize_rate
                if law == "reference"
                else per_motion
                if law == "si"
                else net.crystallize_trace
            )
        if law == "si":
            # Single precision holds a motion as small as this to a few digits only.
            assert torch.allclose(kept[0], torch.linspace(0.01, 0.3, 24).view(3, 8), rtol=1e-2)
            moving = kept[1].isfinite()
            assert torch.allclose(kept[1][moving], kept[0][moving], rtol=1e-2)
        else:
            assert torch.equal(*kept)


REFUSED = [
    pytest.param({"storage": "compact", "floor": 0.0}, "`floor` must be above 0", id="no floor in a byte"),
    pytest.param({"law": "mas", "consolidate_every": 5}, "not for `mas`", id="mas without data"),
    pytest.param({"consolidate_every": 5}, "not for `reference`", id="no tasks"),
]


@pytest.mark.parametrize(("options", "reason"), REFUSED)
def test_options_that_do_not_go_together(options, reason):
    """The plan says why they are refused."""
    rule = {"match": {"type": "linear"}, "attach": [{"crystallize": options}]}
    plan = bc.plan(nn.Sequential(nn.Linear(2, 2)), {"version": 1, "rules": [rule]})
    assert [reason in skipped.reason for skipped in plan.skipped] == [True]
    assert not plan.applied


@pytest.mark.parametrize(
    "options",
    [{"law": "ewk"}, {"damping": 0.0}, {"floor": 1.0}, {"strength": -1.0}, {"consolidate_every": 0}],
)
def test_options_out_of_bounds(options):
    """They are mistakes in the rules, found before anything is changed."""
    with pytest.raises(bc.RuleError if hasattr(bc, "RuleError") else ValueError, match=next(iter(options))):
        attached(nn.Linear(2, 2), **options)
