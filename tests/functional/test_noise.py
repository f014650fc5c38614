"""Noise in the units of the signal: how much, where, and what the gradient sees."""

import pytest
import torch
from torch.func import vmap

from bioconvert.functional import noisein, noiseover
from bioconvert.layers import NoiseIn, NoiseOver

NOISES = [pytest.param(noisein, NoiseIn, id="noisein"), pytest.param(noiseover, NoiseOver, id="noiseover")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("noise", "module"), NOISES)
class TestEveryNoise:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("shape", [(), (6,), (1, 1), (3, 4, 5), (0, 4), (2, 0)])
    def test_keeps_shape_and_type(self, noise, module, shape, dtype):
        """The output is like the input, and finite, whatever its number of samples and features."""
        y = noise(torch.ones(shape, dtype=dtype), 0.5)
        assert y.shape == shape
        assert y.dtype is dtype
        assert y.isfinite().all()

    def test_gradient_passes_straight_through(self, noise, module):
        """The gradient is that of the identity."""
        x = torch.randn(3, 8, requires_grad=True)
        weight = torch.randn(3, 8)
        (noise(x, 0.5) * weight).sum().backward()
        assert torch.equal(x.grad, weight)

    def test_each_sample_has_its_own_noise(self, noise, module):
        """Mean and deviation are those of the sample."""
        x = torch.stack([torch.randn(100_000), 50 + 3 * torch.randn(100_000)])
        change = noise(x, 1.0, generator=seeded()) - (0 if noise is noisein else x)
        torch.testing.assert_close(change.mean(1), x.mean(1), rtol=0, atol=0.05)
        torch.testing.assert_close(change.std(1), x.std(1), rtol=0.02, atol=0)

    def test_a_generator_decides(self, noise, module):
        """The same seed gives the same noise, another one another, and the default generator stays put."""
        x, state = torch.randn(3, 8), torch.get_rng_state()
        one, same, other = (noise(x, 0.5, generator=seeded(seed)) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), state)

    def test_no_rate_no_noise(self, noise, module):
        """At rate 0 the output is the input."""
        x = torch.randn(3, 8)
        assert torch.equal(noise(x, 0.0), x)

    @pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
    def test_bad_rates_are_refused(self, noise, module, rate):
        """A rate is a share."""
        for make in (lambda: noise(torch.ones(2), rate), lambda: module(rate)):
            with pytest.raises(ValueError, match="rate must be from 0 to 1, got"):
                make()

    def test_the_module_is_off_in_evaluation(self, noise, module):
        """While training it gives what the function gives; in evaluation, its input."""
        x, layer = torch.randn(3, 8), module(0.5)
        torch.manual_seed(3)
        y = layer(x)
        torch.manual_seed(3)
        assert torch.equal(y, noise(x, 0.5))
        assert layer.eval()(x) is x
        assert "rate=0.5" in repr(layer)

    def test_maps(self, noise, module):
        """By torch.func each sample of the map has noise of its own."""
        x = torch.randn(1, 64).expand(3, 64)
        y = vmap(lambda row: noise(row, 0.5), randomness="different")(x)
        assert not torch.equal(y[0], y[1])

    def test_compiles(self, noise, module):
        """`torch.compile(fullgraph=True)` works, and a symbolic trace keeps it as one call."""
        x, layer = torch.randn(3, 8), module(0.5)
        assert torch.compile(layer, fullgraph=True, backend="aot_eager")(x).shape == x.shape
        assert torch.fx.symbolic_trace(layer)(x).shape == x.shape

    def test_meta(self, noise, module):
        """Shapes are known without values."""
        assert noise(torch.empty(3, 8, device="meta"), 0.5).is_meta


class TestNoiseIn:
    @pytest.mark.parametrize("rate", [0.1, 0.34, 0.5, 1.0])
    def test_replaces_so_many_features_of_each_sample(self, rate):
        """As many as the rate says, rounded down; the others stay bit for bit."""
        x = torch.randn(20, 5, 7)
        changed = (noisein(x, rate) != x).flatten(1).sum(1)
        assert torch.equal(changed, torch.full((20,), int(rate * 35)))

    def test_every_feature_is_as_likely(self):
        """Over many samples, each place is replaced as often as the rate says."""
        x = torch.randn(20_000, 10)
        changed = (noisein(x, 0.3, generator=seeded()) != x).double().mean(0)
        torch.testing.assert_close(changed, torch.full((10,), 0.3).double(), rtol=0, atol=0.02)


class TestNoiseOver:
    def test_the_rate_scales_the_noise(self):
        """Half the rate, half the noise."""
        x = torch.randn(3, 8, dtype=torch.float64)
        one, half = (noiseover(x, rate, generator=seeded()) - x for rate in (1.0, 0.5))
        torch.testing.assert_close(one, 2 * half)
