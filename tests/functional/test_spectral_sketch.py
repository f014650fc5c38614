"""Count sketches: their algebra, what they estimate, and where they run."""

import copy
import pickle

import pytest
import torch
from torch.func import grad, vmap

from bioconvert.functional import compact_spectral_multiplier, count_sketch, draw_sketch, estimated_product
from bioconvert.layers import CompactSpectralMultiplier, CountSketch

SIZES, OUTPUT = (3, 5, 4), 16


def vectors(*batch, dtype=torch.float64):
    return [torch.randn(*batch, size, dtype=dtype) for size in SIZES]


def by_outer_product(layer, inputs):
    """Sketch the tensor product itself: each of its entries goes to the sum of the places."""
    product, places, signs = inputs[0].new_ones(1), torch.zeros(1, dtype=torch.int64), torch.ones(1)
    for x, sketch in zip(inputs, layer.sketches, strict=True):
        product = torch.outer(product, x).flatten()
        places = (places[:, None] + sketch.places).flatten() % layer.output_size
        signs = torch.outer(signs, sketch.signs.float()).flatten()
    scale = float(layer.output_size) ** ((1 - len(inputs)) / 2)
    return scale * count_sketch(product, places, signs, layer.output_size)


class TestDrawSketch:
    def test_is_uniform_and_independent(self):
        """Each place and sign is as likely as any other, and pairs of features don't agree too often."""
        places, signs = draw_sketch(50, 8, batch=(4000,), generator=torch.Generator().manual_seed(0))
        assert places.shape == signs.shape == (4000, 50)
        torch.testing.assert_close(
            places.flatten().bincount() / places.numel(), torch.full((8,), 1 / 8), rtol=0.05, atol=0
        )
        assert set(signs.unique().tolist()) == {-1, 1}
        assert signs.double().mean().abs() < 0.01
        same = (places[:, :-1] == places[:, 1:]).double().mean()
        assert abs(same - 1 / 8) < 0.005
        assert (signs[:, :-1] * signs[:, 1:]).double().mean().abs() < 0.01

    @pytest.mark.parametrize(("sizes", "name"), [((0, 4), "input_size"), ((4, 0), "output_size")])
    def test_bad_sizes_are_refused(self, sizes, name):
        """A size is at least 1."""
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            draw_sketch(*sizes)


class TestCountSketch:
    def test_adds_up_features_with_their_signs(self):
        """Each feature ends in its place, times its sign."""
        layer, x = CountSketch(20, 6), torch.randn(2, 20)
        expected = torch.zeros(2, 6)
        for i in range(20):
            expected[:, layer.places[i]] += layer.signs[i] * x[:, i]
        torch.testing.assert_close(layer(x), expected)

    def test_inner_products_are_right_on_average(self):
        """Over many draws the inner product of sketches is that of the vectors."""
        x, y = torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(0)).double()
        places, signs = draw_sketch(32, 64, batch=(20_000,), generator=torch.Generator().manual_seed(1))
        one, other = (count_sketch(each.expand(20_000, 32), places, signs, 64) for each in (x, x + 0.5 * y))
        estimate = (one * other).sum(1).mean()
        torch.testing.assert_close(estimate, (x * (x + 0.5 * y)).sum(), rtol=0.01, atol=0)


class TestCompactSpectralMultiplier:
    @pytest.mark.parametrize("output", [15, 16])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
    def test_sketches_the_tensor_product(self, dtype, output):
        """The convolution of the sketches is the sketch of the tensor product, real or complex."""
        layer, inputs = CompactSpectralMultiplier(SIZES, output), vectors(dtype=dtype)
        torch.testing.assert_close(layer(*inputs), by_outer_product(layer, inputs))

    def test_of_one_vector_is_its_sketch(self):
        """With one input there is nothing to convolve."""
        layer, x = CompactSpectralMultiplier([4], OUTPUT), torch.randn(2, 4)
        assert torch.equal(layer(x), layer.sketches[0](x))

    def test_estimates_products_of_inner_products(self):
        """In many places the estimate is close."""
        layer = CompactSpectralMultiplier((8, 8), 2**16)
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(2, 8, generator=generator), torch.randn(2, 8, generator=generator)
        exact = (x[0] @ y[0]) * (x[1] @ y[1])
        torch.testing.assert_close(layer.estimate(layer(*x), layer(*y)), exact, rtol=0.05, atol=0.1)

    def test_the_estimate_of_complex_sketches_is_the_real_part(self):
        """For complex sketches it is the real part of the Hermitian product, times the power of the size."""
        one, other = torch.randn(2, 3, 4, dtype=torch.complex128)
        expected = 16 * (one.conj() * other).sum(1).real
        torch.testing.assert_close(estimated_product(one, other, 3), expected)

    def test_gradients(self):
        """First and second derivatives agree with finite differences."""
        layer, inputs = CompactSpectralMultiplier(SIZES, 6), vectors(2)
        for x in inputs:
            x.requires_grad_()
        assert torch.autograd.gradcheck(layer, inputs)
        assert torch.autograd.gradgradcheck(layer, inputs)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_types(self, dtype):
        """Each type agrees with fp64, as far as it can say; batches broadcast."""
        layer = CompactSpectralMultiplier(SIZES, OUTPUT).to(dtype)
        inputs = [x.to(dtype) for x in (torch.randn(2, 1, 3), torch.randn(5), torch.randn(7, 4))]
        y = layer(*inputs)
        assert y.dtype is dtype
        assert y.shape == (2, 7, OUTPUT)
        exact = layer(*(x.double() for x in inputs))
        torch.testing.assert_close(y.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)

    def test_what_is_too_large_for_fp16(self):
        """It becomes the largest number, of either sign."""
        layer = CompactSpectralMultiplier([2, 2], 4)
        y = layer(torch.full((2,), 6e4).half(), torch.full((2,), 6e4).half())
        assert y.isfinite().all()
        assert y.abs().max() == torch.finfo(torch.float16).max

    def test_maps(self):
        """Per-sample gradients by torch.func are those of autograd."""
        layer, inputs = CompactSpectralMultiplier(SIZES, OUTPUT), vectors(3)
        by_sample = vmap(grad(lambda *each: layer(*each).square().sum()))(*inputs)
        inputs[0].requires_grad_()
        layer(*inputs).square().sum().backward()
        torch.testing.assert_close(by_sample, inputs[0].grad)

    def test_compiles_and_traces(self):
        """`torch.compile(fullgraph=True)`, `torch.export` and a symbolic trace give the same values."""
        layer, inputs = CompactSpectralMultiplier(SIZES, OUTPUT), tuple(vectors(2))
        expected = layer(*inputs)
        torch.testing.assert_close(
            torch.compile(layer, fullgraph=True, backend="aot_eager")(*inputs), expected
        )
        torch.testing.assert_close(torch.export.export(layer, inputs).module()(*inputs), expected)

    def test_the_seed_decides(self):
        """One seed gives one sketch, whose factors differ; state_dict, pickle and deepcopy keep it."""
        layer, inputs = CompactSpectralMultiplier((8, 8), OUTPUT, seed=1), torch.randn(2, 8)
        same, other = (CompactSpectralMultiplier((8, 8), OUTPUT, seed=seed) for seed in (1, 2))
        assert torch.equal(same(*inputs), layer(*inputs))
        assert not torch.equal(other(*inputs), layer(*inputs))
        assert not torch.equal(layer.sketches[0].places, layer.sketches[1].places)
        other.load_state_dict(layer.state_dict())
        for copied in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(copied(*inputs), layer(*inputs))

    def test_meta(self):
        """Shapes are known without values."""
        layer = CompactSpectralMultiplier(SIZES, OUTPUT, device="meta")
        assert layer(*(x.to("meta") for x in vectors(2))).shape == (2, OUTPUT)
        assert "3, 16" in repr(layer)

    def test_counts_must_match(self):
        """Each input needs a sketch, and there is at least one."""
        with pytest.raises(ValueError, match="got 2 inputs, 3 places and 3 signs"):
            CompactSpectralMultiplier(SIZES, OUTPUT)(*vectors()[:2])
        with pytest.raises(ValueError, match="got 0 inputs"):
            compact_spectral_multiplier([], [], [], OUTPUT)
        with pytest.raises(ValueError, match="input_sizes must name at least one size"):
            CompactSpectralMultiplier([], OUTPUT)
