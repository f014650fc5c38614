"""Fuzzy learning rates: their distributions, how they are kept, and what becomes of the weights."""

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from fuzzy_rates import bound, factors, fuzzy, linear
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError, RuleError
from bioconvert.core.random import CHUNK, Stream
from bioconvert.layers import YatLinear
from bioconvert.plasticity.distributions import Draw, rates
from bioconvert.plasticity.rates import decode

stats = pytest.importorskip("scipy.stats")

NU = 0.16
WIDE = [1e-6, 1e6]
DISTRIBUTIONS = ["baseline", "uniform", "normal", "lognormal", "gamma", "beta"]
ADAPTIVE = ["layer_adaptive", "weight_adaptive", "temporal", "activity"]
ALL = DISTRIBUTIONS + ADAPTIVE


NAMED = [
    pytest.param("uniform", stats.uniform(1 - NU, 2 * NU), id="uniform"),
    pytest.param("normal", stats.norm(1, NU), id="normal"),
    pytest.param("lognormal", stats.lognorm(NU, scale=math.exp(-(NU**2) / 2)), id="lognormal"),
    pytest.param("gamma", stats.gamma(1 / NU, scale=NU), id="gamma"),
    pytest.param("beta", stats.beta(1 / NU, 1 / NU, loc=1 - NU, scale=2 * NU), id="beta"),
    pytest.param("layer_adaptive", stats.uniform(1 - NU, 2 * NU), id="layer_adaptive, drawn"),
    pytest.param("temporal", stats.uniform(1 - NU, 2 * NU), id="temporal, drawn"),
    pytest.param("activity", stats.uniform(1 - NU, 2 * NU), id="activity, drawn"),
]


@pytest.mark.parametrize(("distribution", "expected"), NAMED)
class TestDistribution:
    def test_is_the_one_named(self, distribution, expected):
        """A Kolmogorov–Smirnov test doesn't tell the rates from the named distribution."""
        drawn = fuzzy(linear(), distribution=distribution, bounds=WIDE).fuzzy_lr_rate
        assert stats.kstest(drawn.flatten().numpy(), expected.cdf).pvalue > 1e-3

    def test_has_mean_1(self, distribution, expected):
        """The mean over many weights is 1 within five standard errors."""
        drawn = fuzzy(linear(), distribution=distribution, bounds=WIDE).fuzzy_lr_rate.double()
        assert expected.mean() == pytest.approx(1)
        assert abs(drawn.mean() - 1) < 5 * expected.std() / math.sqrt(drawn.numel())
        assert float(drawn.std()) == pytest.approx(expected.std(), rel=0.02)


@pytest.mark.parametrize("distribution", ALL)
class TestEveryDistribution:
    def test_stays_within_bounds(self, distribution):
        """No rate lies beyond the bounds, whatever the spread, and some lie on them."""
        drawn = fuzzy(linear(), distribution=distribution, nu=0.9, bounds=[0.8, 1.1]).fuzzy_lr_rate
        assert drawn.min() >= 0.8
        assert drawn.max() <= 1.1
        assert (distribution == "baseline") or {0.8, 1.1} <= {round(v, 6) for v in drawn.flatten().tolist()}

    def test_without_spread_nothing_changes(self, distribution):
        """At ν = 0 every rate is 1, and training is that of the optimizer alone."""
        net, twin = fuzzy(linear(4, 6), distribution=distribution, nu=0.0), linear(4, 6)
        assert torch.equal(net.fuzzy_lr_rate, torch.ones(4, 6))
        optimizer, _ = bound(net)
        assert torch.equal(factors(net, optimizer), factors(twin, torch.optim.SGD(twin.parameters(), lr=1.0)))

    def test_depends_on_seed_and_name_alone(self, distribution):
        """A seed gives the same rates whatever was drawn before, another seed or name gives others."""

        def drawn(seed, *names):
            net = nn.ModuleDict({name: linear(8, 6) for name in names})
            found = fuzzy(net, seed=seed, distribution=distribution)
            return [found[name].fuzzy_lr_rate for name in names]

        (alone,) = drawn(1, "a")
        torch.rand(7)
        other, again = drawn(1, "b", "a")
        assert torch.equal(alone, again)
        if distribution != "baseline":
            assert not torch.equal(alone, other)
            assert not torch.equal(alone, drawn(2, "a")[0])

    def test_compact_is_the_same_in_a_byte(self, distribution):
        """Compact storage draws the same rates and keeps each in a byte, within half a step of the scale."""
        full = fuzzy(linear(), distribution=distribution)
        compact = fuzzy(linear(), distribution=distribution, storage="compact")
        assert compact.fuzzy_lr_rate.dtype is torch.uint8
        found = decode(compact.fuzzy_lr_rate, (0.5, 2.0))
        assert (found / full.fuzzy_lr_rate - 1).abs().max() < math.log(4) / 508 + 1e-5
        optimizers = [bound(net)[0] for net in (full, compact)]
        assert torch.allclose(factors(compact, optimizers[1]), factors(full, optimizers[0]), rtol=0.01)

    @pytest.mark.parametrize("storage", ["full", "compact"])
    def test_goes_on_where_it_was(self, distribution, storage):
        """Model, optimizer and plasticity restored from their states go on bit for bit."""
        options = {"decay_every": 1, "noise_every": 2} if distribution == "temporal" else {}
        data = torch.randn(6, 16, 5, generator=torch.Generator().manual_seed(0))

        def made():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
            fuzzy(net, distribution=distribution, storage=storage, **options)
            optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
            return net, optimizer, bc.Plasticity(net, seed=3).bind(optimizer)

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
        expected, found = first[0].state_dict(), second[0].state_dict()
        assert all(torch.equal(expected[name], found[name]) for name in expected)

    def test_works_on_the_meta_device(self, distribution):
        """A model without memory can be converted: the rates have their shape."""
        net = fuzzy(nn.Linear(4, 3, device="meta"), distribution=distribution)
        assert net.fuzzy_lr_rate.shape == (3, 4)
        assert net.fuzzy_lr_rate.is_meta


AT_WORK = [
    pytest.param("baseline", {}, 0.0, id="baseline"),
    pytest.param("layer_adaptive", {"layer_index": 1, "total_layers": 2}, 0.75, id="layer_adaptive"),
    pytest.param("temporal", {"decay": 0.5, "decay_every": 1}, 0.5, id="temporal"),
    pytest.param("activity", {}, 1.0, id="activity, nothing seen"),
]


@pytest.mark.parametrize(("distribution", "options", "spread"), AT_WORK)
def test_rates_at_work_are_as_named(distribution, options, spread):
    """At the second step updates are multiplied by uniform rates of the spread that is due, or by 1."""
    net = fuzzy(linear(), distribution=distribution, bounds=WIDE, **options)
    optimizer, _ = bound(net)
    _, found = factors(net, optimizer), factors(net, optimizer)
    if spread:
        expected = stats.uniform(1 - NU * spread, 2 * NU * spread)
        assert stats.kstest(found.flatten().numpy(), expected.cdf).pvalue > 1e-3
    else:
        assert (found - 1).abs().max() < 1e-6


def test_gamma_rates_have_mean_1_within_the_default_bounds():
    """The default bounds cut both tails of the gamma distribution and move its mean by less than 1 %."""
    assert abs(fuzzy(linear(), distribution="gamma").fuzzy_lr_rate.mean() - 1) < 0.01


def test_another_process_draws_the_same():
    """Rates don't depend on the process, also across the edge of a chunk."""
    code = (
        "from bioconvert.core.random import Stream, CHUNK;"
        "print(float(Stream(5, 'a').gamma('p', (CHUNK + 9,), 6.25).double().sum()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(ran.stdout) == float(Stream(5, "a").gamma("p", (CHUNK + 9,), 6.25).double().sum())


def test_gamma_numbers_leave_the_global_generator_alone():
    """Drawing gamma numbers doesn't advance torch's random state, and a chunk doesn't depend on the next."""
    before = torch.random.get_rng_state()
    long = Stream(0, "w").gamma("p", (CHUNK + 3,), 2.0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(long[:CHUNK], Stream(0, "w").gamma("p", (CHUNK,), 2.0))


class TestWeightAdaptive:
    def test_small_weights_vary_most(self):
        """The spread falls with the size of the weight, from 1.5 ν to ν/2."""
        net = linear()
        with torch.no_grad():
            net.weight[:100] *= 20
        fuzzy(net, distribution="weight_adaptive")
        away = (net.fuzzy_lr_rate - 1).abs()
        ratio = net.weight.detach().abs() / net.weight.detach().abs().mean()
        spread = NU * (2 - ratio).clamp(0.5, 1.5)
        assert (away <= spread + 1e-6).all()
        assert stats.kstest((away / spread).flatten().numpy(), stats.uniform(0, 1).cdf).pvalue > 1e-3

    def test_equal_weights_have_equal_spread(self):
        """Weights that are all 0 are drawn without an error."""
        net = linear()
        nn.init.zeros_(net.weight)
        assert fuzzy(net, distribution="weight_adaptive").fuzzy_lr_rate.isfinite().all()

    def test_weights_that_are_not_finite_are_refused(self):
        """Where sizes can't be told, the plan says so and names the parameter."""
        net = linear()
        with torch.no_grad():
            net.weight[0, 0] = math.nan
        rules = {
            "version": 1,
            "rules": [
                {"match": {"type": "linear"}, "attach": [{"fuzzy_lr": {"distribution": "weight_adaptive"}}]}
            ],
        }
        (skipped,) = bc.plan(net, rules).skipped
        assert "its weight isn't finite" in skipped.reason


class TestLayerAdaptive:
    @pytest.mark.parametrize(("index", "total", "expected"), [(0, 4, 1.0), (1, 4, 0.875), (3, 4, 0.625)])
    def test_spread_narrows_with_depth(self, index, total, expected):
        """At depth l of L the spread is ν (1 − l / 2L)."""
        net = fuzzy(linear(), distribution="layer_adaptive", layer_index=index, total_layers=total)
        found = factors(net, bound(net)[0])
        width = NU * expected
        cdf = stats.uniform(1 - width, 2 * width).cdf
        assert stats.kstest(found.flatten().numpy(), cdf).pvalue > 1e-3

    def test_depth_is_the_place_among_the_attached(self):
        """Without options, the second of two layers has three quarters of the spread."""
        net = fuzzy(nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 50)), distribution="layer_adaptive")
        optimizer, _ = bound(net)
        for layer, share in zip(net, (1, 0.75), strict=True):
            layer.weight.grad = torch.ones_like(layer.weight)
            before, rate = layer.weight.detach().clone(), layer.fuzzy_lr_rate
            optimizer.step()
            assert torch.allclose(before - layer.weight, 1 + share * (rate - 1), atol=1e-6)
            layer.weight.grad = None

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"layer_index": 1}, "given both or not at all"),
            ({"total_layers": 1}, "given both or not at all"),
            ({"layer_index": 2, "total_layers": 2}, "must be less than total_layers, got 2 of 2"),
        ],
    )
    def test_depth_must_make_sense(self, options, said):
        """A depth without a number of layers, or beyond it, is an error, and the model stays as it was."""
        net = linear()
        with pytest.raises(OptionError, match=said):
            fuzzy(net, distribution="layer_adaptive", **options)
        assert not dict(net.named_buffers())


class TestTemporal:
    def test_decays_towards_1(self):
        """The distance from 1 shrinks by `decay` every `decay_every` steps."""
        net = fuzzy(linear(), distribution="temporal", decay=0.5, decay_every=2)
        away = net.fuzzy_lr_rate.double() - 1
        optimizer, _ = bound(net)
        for step in range(6):
            assert torch.allclose(factors(net, optimizer) - 1, away * 0.5 ** (step // 2), atol=2e-6)

    def test_defaults(self):
        """After 999 steps 0.9995⁹ of the distance is left, and step 1000 adds noise of deviation ν/10."""
        net = fuzzy(linear(), distribution="temporal")
        away = net.fuzzy_lr_rate.double() - 1
        optimizer, _ = bound(net)
        net.weight.grad = torch.zeros_like(net.weight)
        for _ in range(999):
            optimizer.step()
        assert torch.allclose(factors(net, optimizer) - 1, away * 0.9995**9, atol=2e-6)
        noise = factors(net, optimizer) - 1 - away * 0.9995**10
        assert stats.kstest(noise.flatten().numpy(), stats.norm(0, 0.1 * NU).cdf).pvalue > 1e-3

    @pytest.mark.parametrize("storage", ["full", "compact"])
    def test_noise_stays(self, storage):
        """What was added is kept, decays with the rest, and never leaves the bounds."""
        net = fuzzy(
            linear(),
            distribution="temporal",
            storage=storage,
            noise=5.0,
            noise_every=3,
            decay=0.9,
            decay_every=1,
            bounds=[0.8, 1.2],
        )
        optimizer, _ = bound(net)
        found = [factors(net, optimizer) - 1 for _ in range(7)]
        assert torch.allclose(found[4], found[3] * 0.9, atol=2e-3)
        assert torch.allclose(found[5], found[3] * 0.81, atol=2e-3)
        assert (found[6] - found[5]).abs().max() > 0.1
        assert max(each.abs().max() for each in found) <= 0.2 + 1e-5

    def test_counts_from_its_start_and_by_its_period(self):
        """With `start` and `every`, noise comes at the first step that is due after its time."""
        net = fuzzy(linear(4, 4), distribution="temporal", noise_every=5, start=3, every=2)
        optimizer, _ = bound(net)
        before, changed = net.fuzzy_lr_rate.clone(), []
        for step in range(16):
            factors(net, optimizer)
            if not torch.equal(before, net.fuzzy_lr_rate):
                changed.append(step)
            before = net.fuzzy_lr_rate.clone()
        assert changed == [8, 14]


def conv1d_of_transformers():
    return pytest.importorskip("transformers.pytorch_utils").Conv1D(6, 4)


CARRIERS = [
    pytest.param(lambda: nn.Linear(4, 6), "weight", id="Linear"),
    pytest.param(lambda: nn.Conv1d(4, 6, 3), "weight", id="Conv1d"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3), "weight", id="Conv2d"),
    pytest.param(
        lambda: nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last), "weight", id="channels_last"
    ),
    pytest.param(lambda: nn.Conv3d(4, 6, 3), "weight", id="Conv3d"),
    pytest.param(lambda: nn.ConvTranspose1d(4, 6, 3), "weight", id="ConvTranspose1d"),
    pytest.param(lambda: nn.ConvTranspose2d(4, 6, 3), "weight", id="ConvTranspose2d"),
    pytest.param(lambda: nn.ConvTranspose3d(4, 6, 3), "weight", id="ConvTranspose3d"),
    pytest.param(lambda: nn.Embedding(20, 6), "weight", id="Embedding"),
    pytest.param(lambda: nn.LSTM(4, 6), "weight_hh_l0", id="LSTM"),
    pytest.param(lambda: nn.GRUCell(4, 6), "weight_ih", id="GRUCell"),
    pytest.param(lambda: nn.MultiheadAttention(4, 2), "in_proj_weight", id="MultiheadAttention"),
    pytest.param(conv1d_of_transformers, "weight", id="Conv1D of transformers"),
    pytest.param(lambda: YatLinear(4, 6), "weight", id="YatLinear"),
]
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-2),
    "SGD, momentum and decay": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "Adam, foreach": lambda p: torch.optim.Adam(p, lr=1e-2, foreach=True),
    "Adam, fused": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("make", "parameter"), CARRIERS)
def test_each_weight_moves_by_its_rate(make, parameter, optimizer):
    """A weight moves by its rate times the optimizer's own update, in every layer, under every optimizer."""
    torch.manual_seed(0)
    net = make()
    twin = copy.deepcopy(net)
    fuzzy(net, match={"parameter": parameter}, distribution="lognormal", nu=0.5, bounds=[0.1, 10.0])
    suffix = "" if parameter == "weight" else f"__{parameter}"
    rate = getattr(net, f"fuzzy_lr_rate{suffix}")
    assert rate.std() > 0.2
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
        assert torch.allclose(after - start[name], factor * (free - start[name]), atol=1e-6)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"distribution": "gama"}, r"fuzzy_lr.distribution: must be .*'gamma'.*, not 'gama'"),
            ({"nu": -0.1}, r"fuzzy_lr.nu: must be at least 0"),
            ({"storage": "tiny"}, r"fuzzy_lr.storage: must be 'full' or 'compact'"),
            ({"decay_every": 0}, r"fuzzy_lr.decay_every: must be at least 1"),
            ({"nus": 1.0}, r"fuzzy_lr has no option 'nus'"),
        ],
    )
    def test_mistakes_are_errors_of_the_rule(self, options, said):
        """A wrong option is told while the rules are read, and the model stays as it was."""
        net = linear()
        with pytest.raises(RuleError, match=said):
            fuzzy(net, **options)
        assert not dict(net.named_buffers())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types(dtype):
    """Rates are drawn in fp32 and kept in the weight's type; those in a byte are the same for each type."""
    net = fuzzy(linear().to(dtype), distribution="gamma")
    assert net.fuzzy_lr_rate.dtype is dtype
    assert torch.equal(net.fuzzy_lr_rate, fuzzy(linear(), distribution="gamma").fuzzy_lr_rate.to(dtype))


@pytest.mark.parametrize("nu", [1e-3, 0.05, 1.0])
@pytest.mark.parametrize("distribution", ALL)
def test_every_spread_gives_finite_rates(distribution, nu):
    """Between ν = 0.001 and 1 all rates are finite and their mean is 1."""
    draw = Draw(nu=nu, weight=torch.ones(300, 300), stream=Stream(0, "w"), purpose="p")
    drawn = rates(distribution, draw)
    assert drawn.isfinite().all()
    assert abs(drawn.mean() - 1) < 0.02 * max(nu, 0.05)
    assert np.isfinite(float(drawn.std()))
