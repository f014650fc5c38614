"""Rejuvenation synapse by synapse: which weights go, what takes their place, and what is left alone."""

import copy
import math

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.plasticity.moment import Moment
from bioconvert.plasticity.size_statistics import sizes_of
from bioconvert.plasticity.synapses import synapses_in
from bioconvert.plasticity.turnover_laws import LogNormal

LAWS = ["synapse", "reference", "reference_v1"]


def attached(module, **options):
    torch.manual_seed(0)
    rule = {"match": {"path": "re:.*", "type": type(module).__name__}, "attach": [{"rejuvenate": options}]}
    return bc.convert(nn.ModuleDict({"layer": module}), {"version": 1, "rules": [rule]})


def rejuvenate(net, step=0, states=None, seed=0):
    with torch.no_grad():
        for synapses in synapses_in(net, seed):
            for mechanism in synapses.mechanisms:
                state = (states or {}).get(synapses.path, {})
                mechanism.change(synapses, Moment(step, state=state))


def large(**options):
    layer = nn.Linear(400, 300)
    generator = torch.Generator().manual_seed(1)
    layer.weight.data = torch.randn(300, 400, generator=generator) * 0.05 + 0.01
    return attached(layer, **options)


def distance(sample, cdf):
    """Give the greatest distance between a sample's distribution and another: Kolmogorov and Smirnov's."""
    ordered = sample.sort().values.double()
    steps = torch.arange(len(ordered) + 1, dtype=torch.float64) / len(ordered)
    expected = cdf(ordered)
    return float(torch.maximum((steps[1:] - expected).abs(), (expected - steps[:-1]).abs()).max())


def normal_cdf(z):
    return torch.special.ndtr(z)


class TestSynapseLaw:
    def test_small_weights_go(self):
        """The share that is replaced at each size is exp(−d |w| / std w)."""
        net = large(d_re=4.0)
        before = net["layer"].weight.detach().clone()
        rejuvenate(net)
        gone = (net["layer"].weight != before).double()
        chance = torch.exp(-4.0 * before.abs() / before.std()).double()
        for low in (0.0, 0.25, 0.5, 0.75):
            bin_ = (chance >= low) & (chance < low + 0.25)
            deviation = (chance * (1 - chance))[bin_].sum().sqrt() / bin_.sum()
            assert abs(gone[bin_].mean() - chance[bin_].mean()) < 4 * deviation

    def test_new_magnitudes_are_log_normal(self):
        """New magnitudes follow the log-normal distribution of mean and deviation std w / 2d."""
        net = large()
        old = net["layer"].weight.detach().clone()
        rejuvenate(net)
        new = net["layer"].weight.detach()
        drawn = new[new != old].abs()
        sigma = math.sqrt(math.log(2))
        mu = math.log(float(old.double().std()) / 16) - sigma**2 / 2
        assert len(drawn) > 5000
        assert distance(drawn, lambda x: normal_cdf((x.log() - mu) / sigma)) < 1.6 / math.sqrt(len(drawn))

    def test_magnitudes_do_not_grow(self):
        """Acting 30 times without training in between makes no weight larger than it was, on the whole."""
        net = large()
        before = net["layer"].weight.detach().clone()
        for step in range(30):
            rejuvenate(net, step=step)
        after = net["layer"].weight.detach()
        gone = after != before
        assert float(gone.double().mean()) > 0.1
        assert 0.97 < float(after.std() / before.std()) <= 1
        assert float(after[gone].square().mean()) <= float(before[gone].square().mean())

    def test_the_optimizer_still_knows_how_large_gradients_are(self):
        """Averages of gradients are cleared where weights were replaced, those of their sizes stay."""
        net = large()
        before = net["layer"].weight.detach().clone()
        state = {name: torch.rand(300, 400) for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "sum")}
        old = copy.deepcopy(state)
        rejuvenate(net, states={"layer.weight": state})
        gone = net["layer"].weight != before
        assert not state["exp_avg"][gone].any()
        assert torch.equal(state["exp_avg"][~gone], old["exp_avg"][~gone])
        assert all(torch.equal(state[name], old[name]) for name in ("exp_avg_sq", "max_exp_avg_sq", "sum"))

    def test_signs_are_kept(self):
        """By default no weight changes its sign."""
        net = large()
        before = net["layer"].weight.detach().clone()
        rejuvenate(net)
        assert torch.equal(torch.signbit(net["layer"].weight), torch.signbit(before))

    def test_signs_are_drawn_by_the_layers_statistics(self):
        """Drawn signs are negative as often as the layer's are; magnitudes don't depend on them."""
        net = large(signs="drawn")
        before = net["layer"].weight.detach().clone()
        rejuvenate(net)
        after = net["layer"].weight.detach()
        new = after[after != before]
        share = float((before < 0).double().mean())
        assert abs(float((new < 0).double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / len(new))
        minus, plus = -new[new < 0], new[new > 0]
        assert abs(float(minus.mean() / plus.mean()) - 1) < 0.1

    def test_mean_and_scale_stay(self):
        """Where weights of all sizes are replaced, mean magnitude and deviation stay, far above 1 too."""
        net = large(d_re=1e-3)
        net["layer"].weight.data.mul_(100)
        before = net["layer"].weight.detach().clone()
        rejuvenate(net)
        after = net["layer"].weight.detach()
        assert after.abs().mean() == pytest.approx(float(before.abs().mean()), rel=0.02)
        assert after.abs().std() == pytest.approx(float(before.abs().std()), rel=0.03)
        assert float(after.abs().max()) > 1

    def test_warmup_lowers_the_chance(self):
        """While the mechanism warms up, fewer weights go."""
        shares = []
        for warmup in (0, 9):
            net = large(every=1, warmup=warmup)
            before = net["layer"].weight.detach().clone()
            rejuvenate(net)
            shares.append(float((net["layer"].weight != before).double().mean()))
        assert shares[1] == pytest.approx(shares[0] / 10, rel=0.1)

    def test_nan_is_reported(self):
        """NaN in a weight is an error that names it, and nothing is changed."""
        net = large()
        net["layer"].weight.data[3, 5] = float("nan")
        before = net["layer"].weight.detach().clone()
        with pytest.raises(OptionError, match=r"'layer\.weight' holds NaN"):
            rejuvenate(net)
        assert torch.equal(net["layer"].weight.nan_to_num(7.0), before.nan_to_num(7.0))

    @pytest.mark.parametrize("value", [0.0, 0.5])
    def test_equal_weights_stay(self, value):
        """A parameter without any spread is left alone."""
        net = attached(nn.Linear(4, 4))
        nn.init.constant_(net["layer"].weight, value)
        rejuvenate(net)
        assert bool((net["layer"].weight == value).all())


class TestReferenceLaws:
    def test_new_weights_are_positive(self):
        """The reference's law draws exp(N(μ, (σ/2)²)), matched to the mean and deviation of w."""
        net = large(law="reference")
        old = net["layer"].weight.detach().clone()
        rejuvenate(net)
        drawn = net["layer"].weight.detach()[net["layer"].weight != old]
        mean, std = float(old.double().mean()), float(old.double().std())
        sigma = math.sqrt(math.log1p((std / mean) ** 2))
        mu = math.log(mean) - sigma**2 / 2
        cdf = lambda x: normal_cdf((x.clamp_min(1e-30).log() - mu) / (sigma / 2))  # noqa: E731
        assert distance(drawn, cdf) < 1.6 / math.sqrt(len(drawn))

    def test_prunes_where_the_mean_is_negative(self):
        """With a mean that isn't positive, new weights are nearly 0."""
        net = large(law="reference")
        net["layer"].weight.data.sub_(0.05)
        old = net["layer"].weight.detach().clone()
        rejuvenate(net)
        drawn = net["layer"].weight.detach()[net["layer"].weight != old]
        assert float(drawn.min()) >= 0
        assert float(drawn.max()) < 1e-4

    def test_clamps(self):
        """The reference's law clamps all weights to [−1, 1]."""
        net = attached(nn.Linear(40, 40), law="reference")
        net["layer"].weight.data.mul_(20)
        rejuvenate(net)
        assert float(net["layer"].weight.abs().max().detach()) == 1

    def test_first_version_draws_any_size(self):
        """The first version replaces weights below |N(0, max|w| / d)| by U(−1, 1) max|w|."""
        net = large(law="reference_v1")
        old = net["layer"].weight.detach().clone()
        greatest = float(old.abs().max())
        rejuvenate(net)
        gone = net["layer"].weight != old
        drawn = net["layer"].weight.detach()[gone]
        assert distance(drawn, lambda x: (x / greatest + 1) / 2) < 1.6 / math.sqrt(len(drawn))
        chance = torch.erfc(old.double().abs() * 8 / greatest / math.sqrt(2))
        deviation = float((chance * (1 - chance)).sum().sqrt())
        assert abs(float(gone.sum()) - float(chance.sum())) < 4 * deviation

    @pytest.mark.parametrize("law", ["reference", "reference_v1"])
    def test_nan_is_replaced(self, law):
        """NaN always goes."""
        net = large(law=law)
        net["layer"].weight.data[:, 5] = float("nan")
        rejuvenate(net)
        assert bool(net["layer"].weight.isfinite().all())


@pytest.mark.parametrize("law", LAWS)
class TestEveryLaw:
    def test_is_a_function_of_seed_name_and_step(self, law):
        """The same seed, name and step make the same weights; another step or seed makes others."""
        nets = [large(law=law) for _ in range(4)]
        for net, step, seed in zip(nets, (5, 5, 6, 5), (0, 0, 0, 1), strict=True):
            torch.rand(3)
            rejuvenate(net, step=step, seed=seed)
        first, same, later, other = (net["layer"].weight for net in nets)
        assert torch.equal(first, same)
        assert not torch.equal(first, later)
        assert not torch.equal(first, other)

    def test_what_becomes_of_a_weight_depends_on_no_other_draw(self, law):
        """A weight becomes the same, whatever became of those before it."""
        net = large(law=law)
        twin = copy.deepcopy(net)
        # Two columns change places: means and deviations stay, other positions see the same numbers.
        twin["layer"].weight.data[:, [0, 1]] = twin["layer"].weight.data[:, [1, 0]]
        rejuvenate(net)
        rejuvenate(twin)
        assert torch.allclose(net["layer"].weight[:, 2:], twin["layer"].weight[:, 2:], rtol=1e-4, atol=0)

    def test_moments_of_replaced_weights_are_cleared(self, law):
        """Moments become 0 where weights were replaced, and stay bit for bit elsewhere."""
        net = large(law=law)
        weight = net["layer"].weight
        before = weight.detach().clone()
        state = {
            "step": torch.tensor(7.0),
            "exp_avg": torch.randn(300, 400),
            "exp_avg_sq": torch.rand(400, 300).t(),
            "master": torch.randn(300, 400),
            "momentum_buffer": None,
        }
        old = copy.deepcopy(state)
        rejuvenate(net, states={"layer.weight": state})
        gone = weight != before
        for name in ("exp_avg",) if law == "synapse" else ("exp_avg", "exp_avg_sq"):
            assert float(state[name][gone].abs().max()) == 0
            assert torch.equal(state[name][~gone], old[name][~gone])
        assert torch.equal(state["master"], old["master"])
        assert float(state["step"]) == 7


OWNERS = [
    pytest.param(lambda: nn.Linear(70, 60), id="Linear"),
    pytest.param(lambda: nn.Conv2d(16, 24, 3), id="Conv2d"),
    pytest.param(lambda: nn.Conv2d(16, 24, 3).to(memory_format=torch.channels_last), id="channels last"),
    pytest.param(lambda: nn.ConvTranspose1d(16, 24, 3), id="ConvTranspose1d"),
    pytest.param(lambda: nn.Embedding(90, 32), id="Embedding"),
    pytest.param(lambda: nn.LSTM(24, 32), id="LSTM"),
    pytest.param(lambda: nn.MultiheadAttention(48, 4), id="MultiheadAttention"),
    pytest.param(lambda: nn.Linear(70, 60).to(torch.bfloat16), id="bfloat16"),
]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("make", OWNERS)
def test_every_weight_carrying_module(make, law):
    """Some weights of each matrix are replaced, all stay finite, and biases are left alone."""
    net = attached(make(), law=law)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    rejuvenate(net)
    touched = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    own = {synapses.path for synapses in synapses_in(net, 0)}
    assert own
    assert touched == own
    assert all(bool(p.isfinite().all()) for p in net.parameters())


def test_statistics_are_those_of_the_weight():
    """Means and deviations are what torch finds in fp64, over several chunks."""
    net = large()
    found = sizes_of(synapses_in(net, 0)[0])
    weight = net["layer"].weight.detach().double()
    assert found.mean == pytest.approx(float(weight.mean()), rel=1e-5)
    assert found.std == pytest.approx(float(weight.std()), rel=1e-5)
    assert found.mean_size == pytest.approx(float(weight.abs().mean()), rel=1e-5)
    assert found.std_size == pytest.approx(float(weight.abs().std()), rel=1e-5)
    assert found.negative == float((weight < 0).double().mean())


def test_log_normal_has_the_moments():
    """The matched distribution has the mean and deviation asked for."""
    law = LogNormal.matching(0.3, 0.2)
    v = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000
    drawn = law.quantile(v)
    assert float(drawn.mean()) == pytest.approx(0.3, rel=1e-3)
    assert float(drawn.std()) == pytest.approx(0.2, rel=1e-2)


def trained(every=3, **options):
    net = attached(nn.Linear(30, 20), every=every, **options)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    return net, optimizer, bc.Plasticity(net, seed=4).bind(optimizer)


def steps(net, optimizer, count):
    for i in range(count):
        x = torch.randn(8, 30, generator=torch.Generator().manual_seed(i))
        optimizer.zero_grad()
        net["layer"](x).square().mean().backward()
        optimizer.step()


def test_acts_every_thousandth_step():
    """Left to itself it acts at the 1000th step of 1000."""
    net = attached(nn.Linear(4, 4))
    (synapses,) = synapses_in(net, 0)
    due = [step for step in range(2000) if synapses.mechanisms[0].is_due(step)]
    assert due == [999, 1999]


def test_goes_on_where_it_was():
    """Restored from their states, model, optimizer and plasticity go on bit for bit."""
    one, other = trained(), trained()
    steps(*one[:2], 4)
    for each, state in zip(other, [copy.deepcopy(part.state_dict()) for part in one], strict=True):
        each.load_state_dict(state)
    steps(*one[:2], 5)
    steps(*other[:2], 5)
    assert torch.equal(one[0]["layer"].weight, other[0]["layer"].weight)
