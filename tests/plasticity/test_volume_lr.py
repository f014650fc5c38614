"""Rates by the size of a synapse: the laws, their mean, their noise."""

import copy
import math

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError, RuleError
from bioconvert.plasticity.volume_lr import SAMPLE

stats = pytest.importorskip("scipy.stats")


def layer(rows=300, columns=400, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(columns, rows, bias=False).to(dtype)


def volume(model, match=None, **options):
    match = match or {"type": ["linear", "conv"]}
    return bc.convert(model, {"version": 1, "rules": [{"match": match, "attach": [{"volume_lr": options}]}]})


def bound(net, make=lambda p: torch.optim.SGD(p, lr=1.0), **how):
    optimizer = make(net.parameters())
    return optimizer, bc.Plasticity(net, **how).bind(optimizer)


def factors(net, optimizer):
    """Give what a step of size 1 is multiplied by, for each weight, and put the weights back."""
    weight = net.weight
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 1.0)
    optimizer.step()
    found = (before - weight.detach()).double()
    weight.data.copy_(before)
    return found


def law(name, weight, base=0.1, stability=2.0):
    """Compute the rates without noise from their definition, in fp64."""
    size = weight.detach().double().abs()
    if name == "reference":
        return base * torch.exp(-stability * size / (size + 1))
    r = size / size.mean()
    shape = {"normalised": torch.exp(-stability * r / (r + 1)), "kasai": torch.exp(-stability * r)}
    found = shape.get(name, r)
    return found / found.mean()


LAWS = ["normalised", "reference", "kasai", "multiplicative"]


@pytest.mark.parametrize("name", LAWS)
class TestEveryLaw:
    @pytest.mark.parametrize("stability", [0.0, 2.0, 5.0])
    def test_is_the_one_defined(self, name, stability):
        """Without noise, the rate of each weight is that of the law's definition."""
        net = volume(layer(80, 100), law=name, stability=stability, variability=0.0, base=0.3)
        expected = law(name, net.weight, 0.3, stability)
        assert torch.allclose(factors(net, bound(net)[0]), expected, rtol=1e-3, atol=1e-6)

    @pytest.mark.parametrize("variability", [0.2, 1.5])
    def test_noise_is_that_of_a_folded_normal(self, name, variability):
        """Around the law the rates are |N(μ, (variability μ)²)|, for the normalised laws with mean 1."""
        net = volume(layer(80, 100), law=name, variability=variability)
        noise = factors(net, bound(net)[0]) / law(name, net.weight).clamp_min(1e-12)
        folded = stats.foldnorm(1 / variability, scale=variability)
        gain = 1 if name == "reference" else folded.mean()
        large = noise[net.weight.abs() > 1e-3] * gain
        assert stats.kstest(large.flatten().numpy(), folded.cdf).pvalue > 1e-3

    def test_mean_is_1(self, name):
        """The mean rate is 1, so that the learning rate means what it meant; the reference's is far lower."""
        net = volume(layer(), law=name)
        mean = float(factors(net, bound(net)[0]).mean())
        assert mean == pytest.approx(0.0948 if name == "reference" else 1, rel=0.01)

    def test_only_the_relative_size_counts(self, name):
        """Weights ten times as large have the same rates, but by the reference's law."""
        small, large = (volume(layer(20, 30), law=name) for _ in range(2))
        with torch.no_grad():
            large.weight.mul_(8)
        found = [factors(net, bound(net)[0]) for net in (small, large)]
        assert torch.allclose(*found, rtol=1e-3, atol=1e-4) == (name != "reference")

    def test_is_drawn_anew_at_every_step(self, name):
        """The noise is another at each step, and the same for the same seed and step."""
        net = volume(layer(20, 30), law=name)
        optimizer, plasticity = bound(net, seed=1)
        first, second = (factors(net, optimizer) for _ in range(2))
        assert not torch.equal(first, second)
        plasticity.unbind()
        again = volume(layer(20, 30), law=name)
        optimizer, _ = bound(again, seed=1)
        assert torch.equal(first, factors(again, optimizer))
        assert torch.equal(second, factors(again, optimizer))
        other = volume(layer(20, 30), law=name)
        assert not torch.equal(first, factors(other, bound(other, seed=2)[0]))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_other_types(self, name, dtype):
        """Rates are computed in fp32 whatever the weight's type."""
        net = volume(layer(40, 50, dtype), law=name, variability=0.0)
        net.weight.data.mul_(1e-2)
        expected = law(name, net.weight)
        before = net.weight.detach().clone()
        net.weight.grad = torch.full_like(net.weight, 1.0)
        bound(net, lambda p: torch.optim.SGD(p, lr=1.0))[0].step()
        limit = max(4 * torch.finfo(dtype).eps, 1e-5)
        assert torch.allclose((before - net.weight.detach()).double(), expected, rtol=limit, atol=limit)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    def test_noise_of_other_types(self, name, dtype):
        """The noise too is the same whatever the weight's type, up to its resolution."""
        nets = [volume(layer(40, 50).to(each), law=name) for each in (torch.float32, dtype)]
        for net in nets:
            net.weight.data.copy_(layer(40, 50).weight.to(torch.bfloat16))
        single, other = (factors(net, bound(net)[0]) for net in nets)
        assert torch.allclose(single, other, rtol=0.02, atol=0.02)

    def test_weights_of_zero(self, name):
        """A weight whose elements are all 0 has finite rates: those of size 0."""
        net = layer(10, 20)
        nn.init.zeros_(net.weight)
        expected = {"reference": 0.1, "multiplicative": 0.0}.get(name, 1.0)
        found = factors(volume(net, law=name, variability=0.0), bound(net)[0])
        assert torch.allclose(found, torch.full_like(found, expected), atol=1e-6)

    def test_goes_on_where_it_was(self, name):
        """Model, optimizer and plasticity restored from their states go on bit for bit."""
        data = torch.randn(6, 16, 5, generator=torch.Generator().manual_seed(0))

        def made():
            net = volume(layer(3, 5), law=name)
            return net, *bound(net, lambda p: torch.optim.AdamW(p, lr=0.1), seed=3)

        def train(net, optimizer, batches):
            for x in batches:
                optimizer.zero_grad()
                net(x).square().mean().backward()
                optimizer.step()

        first, second = made(), made()
        train(*first[:2], data[:3])
        for each, origin in zip(second, first, strict=True):
            each.load_state_dict(copy.deepcopy(origin.state_dict()))
        train(*first[:2], data[3:])
        train(*second[:2], data[3:])
        assert torch.equal(first[0].weight, second[0].weight)


def test_large_weights_are_sampled():
    """Of a large weight the law's mean comes from one weight in eight, and is right within 1 %."""
    net = volume(layer(1000, 300), law="kasai", variability=0.0)
    assert net.weight.numel() > 8 * SAMPLE
    found, expected = factors(net, bound(net)[0]), law("kasai", net.weight)
    gain = found / expected
    assert gain.max() - gain.min() < 1e-3 * gain.mean()
    assert float(gain.mean()) == pytest.approx(1, rel=0.01)


def test_exponentiated_gradient_keeps_zeros():
    """By the multiplicative law a weight of 0 stays 0."""
    net = volume(layer(10, 20), law="multiplicative")
    with torch.no_grad():
        net.weight[:, :10] = 0
    found = factors(net, bound(net)[0])
    assert (found[:, :10] == 0).all()
    assert (found[:, 10:] > 0).all()


CARRIERS = [
    pytest.param(
        lambda: nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last), "weight", id="channels_last"
    ),
    pytest.param(lambda: nn.ConvTranspose3d(4, 6, 3), "weight", id="ConvTranspose3d"),
    pytest.param(lambda: nn.Embedding(20, 6), "weight", id="Embedding"),
    pytest.param(lambda: nn.LSTM(4, 6), "weight_hh_l0", id="LSTM"),
    pytest.param(lambda: nn.MultiheadAttention(4, 2), "in_proj_weight", id="MultiheadAttention"),
]
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "Adam, foreach": lambda p: torch.optim.Adam(p, lr=1e-2, foreach=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("make", "parameter"), CARRIERS)
def test_each_weight_moves_by_its_rate(make, parameter, optimizer):
    """A weight moves by the law of its size before the step times the optimizer's own update."""
    torch.manual_seed(0)
    net = make()
    twin = copy.deepcopy(net)
    volume(net, match={"parameter": parameter}, variability=0.0)
    rate = law("normalised", twin.get_parameter(parameter))
    start = {name: p.detach().clone() for name, p in twin.named_parameters()}
    for each in (net, twin):
        generator = torch.Generator().manual_seed(1)
        for p in each.parameters():
            p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator))
    own, alone = (OPTIMIZERS[optimizer](each.parameters()) for each in (net, twin))
    bc.Plasticity(net).bind(own)
    own.step()
    alone.step()
    for (name, after), free in zip(net.named_parameters(), twin.parameters(), strict=True):
        factor = rate if name == parameter else 1
        assert torch.allclose(
            (after - start[name]).double(), factor * (free - start[name]).double(), atol=1e-6
        )


class TestMistakes:
    @pytest.mark.parametrize("name", ["normalised", "kasai", "multiplicative"])
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_weight_that_is_not_finite(self, name, value):
        """NaN is reported with the parameter's name, and nothing is changed."""
        net = volume(nn.Sequential(layer(3, 4), layer(2, 3)), law=name)
        optimizer, _ = bound(net)
        with torch.no_grad():
            net[1].weight[0, 0] = value
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        before = copy.deepcopy(net.state_dict())
        with pytest.raises(OptionError, match=r"'1\.weight' isn't finite"):
            optimizer.step()
        assert all(
            torch.equal(old.nan_to_num(), net.state_dict()[k].nan_to_num()) for k, old in before.items()
        )
        assert all((p.grad == 1).all() for p in net.parameters())

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"law": "kasay"}, r"volume_lr.law: must be .*'kasai'.*, not 'kasay'"),
            ({"base": 0.0}, r"volume_lr.base: must be greater than 0"),
            ({"stability": -1.0}, r"volume_lr.stability: must be at least 0"),
            ({"variability": -0.1}, r"volume_lr.variability: must be at least 0"),
        ],
    )
    def test_wrong_options(self, options, said):
        """A wrong option is told while the rules are read."""
        with pytest.raises(RuleError, match=said):
            volume(layer(2, 3), **options)

    def test_frozen_and_unused_weights_are_left_alone(self):
        """A weight that is frozen or has no gradient yet doesn't move, and no error is raised."""
        net = volume(nn.Sequential(layer(3, 4), layer(2, 3)))
        net[0].weight.requires_grad_(False)
        optimizer, _ = bound(net)
        before = [p.detach().clone() for p in net.parameters()]
        optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
        net(torch.randn(5, 4)).sum().backward()
        optimizer.step()
        assert torch.equal(before[0], net[0].weight)
        assert not torch.equal(before[1], net[1].weight)
