"""Signal functions: their formulas, their gradients as declared, and where they run."""

import math

import pytest
import torch
from torch.func import grad, vmap
from torch.nn import functional as F

from bioconvert.functional import (
    backward_gradient_normalization,
    compress_signal,
    log_proportional_error,
    siglog,
    siglog_parametric,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def siglog_formula(x):
    return x.sign() * ((x.abs() + math.e + 1e-4).log() - 1)


def siglog_slope(x):
    power = torch.where(x.abs() < 1, 1 + x.abs().sqrt(), 1.0)
    return 1 / (x.abs() ** power + 1)


def parametric_formula(x, alpha=1 / math.e):
    return x.sign() * ((x.abs() + math.e * alpha).log() - math.log(math.e * alpha))


def compressor_formula(x, leak=1e-3, dampening=False):
    leaked = x * leak
    z = (x.sigmoid() + (leaked.abs() if dampening else leaked)) * (siglog_formula(x) + leaked)
    return z * (z.abs().mean(-1, keepdim=True) + 1e-12).rsqrt()


def error_formula(x):
    y = x.flip(0)
    shift = math.e - min(x.min(), y.min()).detach()
    x, y = (x + shift).log(), (y + shift).log()
    return ((x - y).abs() / y).mean()


FUNCTIONS = [
    pytest.param(backward_gradient_normalization, lambda x: x, id="backward_gradient_normalization"),
    pytest.param(siglog, siglog_formula, id="siglog"),
    pytest.param(siglog_parametric, parametric_formula, id="siglog_parametric"),
    pytest.param(
        lambda x: siglog_parametric(x, 0.5, smooth_grad=True),
        lambda x: parametric_formula(x, 0.5),
        id="siglog_parametric, smooth",
    ),
    pytest.param(compress_signal, compressor_formula, id="compress_signal"),
    pytest.param(
        lambda x: compress_signal(x, 0.1, mode="dampening", bgn_input=True, bgn_mid=True, bgn_output=True),
        lambda x: compressor_formula(x, 0.1, dampening=True),
        id="compress_signal, dampening, normalised",
    ),
    pytest.param(lambda x: log_proportional_error(x, x.flip(0)), error_formula, id="log_proportional_error"),
]


@pytest.mark.parametrize(("function", "formula"), FUNCTIONS)
class TestEveryFunction:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_is_its_formula(self, function, formula, dtype):
        """The values are those of the definition in fp64, as far as the type can say."""
        x = 3 * seeded(4, 6).to(dtype)
        y = function(x)
        assert y.dtype is dtype
        torch.testing.assert_close(
            y.double(), formula(x.double()), rtol=max(1e-6, 2 * torch.finfo(dtype).eps), atol=1e-8
        )

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gradients_are_finite(self, function, formula, dtype):
        """At zero, and at the least and largest numbers, first and second gradients are finite."""
        least, largest = torch.finfo(dtype).tiny, torch.finfo(dtype).max ** 0.25
        x = torch.tensor([[0.0, 0.0], [least, -least], [largest, -1.0]], dtype=dtype, requires_grad=True)
        (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        assert first.dtype is dtype
        assert first.isfinite().all()
        if dtype.itemsize > 2 and first.requires_grad:
            assert torch.autograd.grad(first.sum(), x)[0].isfinite().all()

    def test_maps(self, function, formula):
        """Per-sample gradients by torch.func are those of autograd."""
        x = seeded(3, 4, 6).requires_grad_()
        by_sample = vmap(grad(lambda row: function(row).square().sum()))(x.detach())
        for each, sample in zip(by_sample, x, strict=True):
            (expected,) = torch.autograd.grad(function(sample).square().sum(), sample)
            torch.testing.assert_close(each, expected)

    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own doing
    def test_compiles(self, function, formula):
        """`torch.compile(fullgraph=True)` gives the same values and gradients."""
        one, other = (seeded(4, 6).requires_grad_() for _ in range(2))
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        y, expected = compiled(one), function(other)
        y.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(one.grad, other.grad)

    def test_meta(self, function, formula):
        """Shapes and types are known without values."""
        y = function(torch.empty(4, 6, device="meta", dtype=torch.bfloat16))
        assert y.is_meta
        assert y.shape == formula(torch.ones(4, 6)).shape


class TestBackwardGradientNormalization:
    @pytest.mark.parametrize("shape", [(), (5,), (1, 5), (3, 2, 4)])
    def test_gradient_of_each_sample_has_unit_mean_square(self, shape):
        """The gradient is scaled by one number for each sample; with fewer than two dimensions, by one."""
        x, weight = seeded(*shape).requires_grad_(), 1e3 * seeded(*shape, seed=1)
        (backward_gradient_normalization(x) * weight).sum().backward()
        rows = weight.view(1, -1) if weight.dim() < 2 else weight.flatten(1)
        expected = rows / rows.square().mean(1, keepdim=True).sqrt()
        torch.testing.assert_close(x.grad.view_as(rows), expected, rtol=1e-6, atol=0)

    def test_eps_is_added_to_the_norm(self):
        """A gradient as small as epsilon comes out at half of the size."""
        x = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
        (backward_gradient_normalization(x, eps=2e-3) * 1e-3).sum().backward()
        torch.testing.assert_close(x.grad, torch.full((1, 4), 0.5, dtype=torch.float64))

    def test_a_zero_gradient_stays_zero(self):
        """A sample without a gradient gets none."""
        x = seeded(2, 3).requires_grad_()
        backward_gradient_normalization(x)[0].sum().backward()
        assert torch.equal(x.grad[1], torch.zeros(3).double())

    def test_shares_the_memory_of_its_input(self):
        """Nothing is copied, and nothing kept for the backward pass."""
        x = seeded(2, 3).requires_grad_()
        y = backward_gradient_normalization(x)
        assert y.data_ptr() == x.data_ptr()
        assert not y.grad_fn.saved_tensors

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_norms_of_half_precision_dont_overflow(self, dtype):
        """The norm of a large or small gradient is computed in fp32."""
        for size in (6e4, 1e-3):
            x = torch.zeros(1, 4096, dtype=dtype, requires_grad=True)
            backward_gradient_normalization(x).backward(torch.full_like(x, size))
            torch.testing.assert_close(x.grad, torch.ones_like(x), rtol=1e-2, atol=0)

    def test_second_derivatives(self):
        """The backward pass is differentiable, and normalises what comes back through it again."""
        weight = seeded(2, 3, seed=1)
        x, y = (seeded(2, 3).requires_grad_() for _ in range(2))
        cube = (backward_gradient_normalization(x) ** 3 * weight).sum()
        (first,) = torch.autograd.grad(cube, x, create_graph=True)
        expected = normalized(3 * y**2 * weight)
        torch.testing.assert_close(first, expected)
        (second,) = torch.autograd.grad((expected * weight).sum(), y)
        torch.testing.assert_close(torch.autograd.grad((first * weight).sum(), x)[0], normalized(second))


def normalized(rows):
    return rows * math.sqrt(rows.shape[1]) / (rows.norm(dim=1, keepdim=True) + 1e-6)


class TestSiglog:
    def test_gradient_is_the_declared_one(self):
        """It is 1 / (|x|^p + 1), whatever the derivative is."""
        x = torch.linspace(-3, 3, 61, dtype=torch.float64, requires_grad=True)
        siglog(x).sum().backward()
        torch.testing.assert_close(x.grad, siglog_slope(x.detach()))

    def test_gradient_has_the_derivatives_of_its_formula(self):
        """What is declared is differentiated exactly."""
        x = (seeded(20) + 0.05).requires_grad_()
        slope = lambda x: torch.autograd.grad(siglog(x).sum(), x, create_graph=True)[0]  # noqa: E731
        assert torch.autograd.gradcheck(slope, x)

    def test_zero_stays_zero(self):
        """Either zero goes to 0; beside it are ±3.7e-5, to full precision."""
        beside = (math.log(math.e + 1e-4) - 1) * torch.ones(1)
        assert torch.equal(siglog(torch.tensor([0.0, -0.0])), torch.zeros(2))
        torch.testing.assert_close(siglog(torch.tensor([1e-30])), beside, rtol=1e-6, atol=0)
        torch.testing.assert_close(siglog(torch.tensor([-1e-30])), -beside, rtol=1e-6, atol=0)

    def test_keeps_only_its_input(self):
        """What is saved for the backward pass takes no memory beyond the input's."""
        for dtype in DTYPES:
            x = seeded(4).to(dtype).requires_grad_()
            assert [each.data_ptr() for each in siglog(x).grad_fn.saved_tensors] == [x.data_ptr()]


class TestSiglogParametric:
    @pytest.mark.parametrize("shape", [(), (1,), (6,), (4, 1), (4, 6)])
    def test_derivatives(self, shape):
        """First and second derivatives by x and by alpha agree with finite differences, in alpha's shape."""
        x = seeded(4, 6).requires_grad_()
        alpha = (seeded(*shape, seed=1).abs() + 0.2).requires_grad_()
        assert torch.autograd.gradcheck(siglog_parametric, (x, alpha))
        assert torch.autograd.gradgradcheck(siglog_parametric, (x, alpha))

    def test_slope_at_zero(self):
        """At 0 the slope is 1 / (e α), and alpha makes no difference."""
        x, alpha = torch.zeros(1, requires_grad=True), torch.tensor(0.5, requires_grad=True)
        siglog_parametric(x, alpha).backward()
        torch.testing.assert_close(x.grad, torch.tensor([2 / math.e]))
        assert alpha.grad == 0

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_smooth_gradient_is_the_central_difference(self, dtype):
        """With a step below and above the input's size; in fp32, too, nothing cancels."""
        points = torch.tensor([-50.0, -0.3, -0.005, 0.0, 0.01, 0.02, 3.0], dtype=torch.float64)
        x = points.to(dtype).requires_grad_()
        alpha = torch.tensor(0.3, dtype=dtype, requires_grad=True)
        siglog_parametric(x, alpha, 0.01, smooth_grad=True).sum().backward()
        above, below = (parametric_formula(points + step, 0.3) for step in (0.01, -0.01))
        torch.testing.assert_close(x.grad.double(), (above - below) / 0.02, rtol=1e-5, atol=0)
        exact = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        siglog_parametric(points, exact).sum().backward()
        torch.testing.assert_close(alpha.grad.double(), exact.grad, rtol=1e-5, atol=0)

    def test_smooth_gradient_is_differentiable(self):
        """Its own derivative agrees with finite differences."""
        x = seeded(5).requires_grad_()

        def slope(x):
            return torch.autograd.grad(siglog_parametric(x, 0.5, 0.4, True).sum(), x, create_graph=True)[0]

        assert torch.autograd.gradcheck(slope, x)


class TestCompressSignal:
    @pytest.mark.parametrize("mode", ["gating", "dampening"])
    @pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6)])
    def test_gradient_has_the_declared_one_of_siglog_in_it(self, mode, shape):
        """All else is differentiated exactly, the leak too."""
        x, leak = seeded(*shape).requires_grad_(), torch.tensor([0.2]).double().requires_grad_()
        weight = seeded(*shape, seed=1)
        (compress_signal(x, leak, mode=mode) * weight).sum().backward()
        y, k = x.detach().clone().requires_grad_(), leak.detach().clone().requires_grad_()
        log = siglog_formula(y.detach()) + (y - y.detach()) * siglog_slope(y.detach())
        z = (y.sigmoid() + (y * k if mode == "gating" else (y * k).abs())) * (log + y * k)
        (z / (z.abs().mean(-1, keepdim=True) + 1e-12).sqrt() * weight).sum().backward()
        torch.testing.assert_close(x.grad, y.grad)
        torch.testing.assert_close(leak.grad, k.grad)

    @pytest.mark.parametrize("where", ["bgn_input", "bgn_output"])
    def test_normalised_gradients(self, where):
        """At the input the gradient has unit mean square; at the output its size makes no difference."""
        x = seeded(3, 6).requires_grad_()
        y = compress_signal(x, **{where: True})
        weight = seeded(3, 6, seed=1)
        one, other = (torch.autograd.grad((y * weight * s).sum(), x, retain_graph=True)[0] for s in (1, 50))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        if where == "bgn_input":
            torch.testing.assert_close(one.square().mean(1), torch.ones(3).double(), rtol=1e-4, atol=0)

    def test_middle_gradient(self):
        """In the middle, too, the gradient's size is lost, and it isn't that of the input's end."""
        x, weight = seeded(3, 6).requires_grad_(), seeded(3, 6, seed=1)
        y = compress_signal(x, bgn_mid=True)
        one, other = (torch.autograd.grad((y * weight * s).sum(), x, retain_graph=True)[0] for s in (1, 50))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        assert (one.square().mean(1) - 1).abs().min() > 0.01

    @pytest.mark.parametrize("shape", [(6,), (3, 6), (3, 200, 200)])
    @pytest.mark.parametrize("leak", ["number", "one", "by sample"])
    @pytest.mark.parametrize("mode", ["gating", "dampening"])
    @pytest.mark.parametrize("bgn_mid", [False, True])
    def test_eager_and_transformed_agree(self, shape, leak, mode, bgn_mid):
        """Worked through in parts and in place, or in plain operations: values and gradients are the same."""
        sizes = {"number": (), "one": (1,), "by sample": (shape[0], 1, 1)[: len(shape)]}[leak]
        x, k = seeded(*shape), 0.1 * seeded(*sizes, seed=1).abs()
        weight = seeded(*shape, seed=2)

        def weighed(x, k):
            return (compress_signal(x, k, mode=mode, bgn_mid=bgn_mid) * weight).sum()

        expected = grad(weighed, argnums=(0, 1))(x, k)
        for each in (x, k):
            each.requires_grad_()
        for create_graph in (False, True):
            found = torch.autograd.grad(weighed(x, k), (x, k), create_graph=create_graph)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other)

    def test_batched_gradients(self):
        """Several gradients at once come back as they do one by one."""
        x = seeded(3, 6).requires_grad_()
        y, given = compress_signal(x, bgn_mid=True), seeded(5, 3, 6, seed=1)
        (found,) = torch.autograd.grad(y, x, given, retain_graph=True, is_grads_batched=True)
        for one, each in zip(found, given, strict=True):
            torch.testing.assert_close(one, torch.autograd.grad(y, x, each, retain_graph=True)[0])

    def test_keeps_only_its_input(self):
        """What is saved for the backward pass takes no memory beyond the input's."""
        x = seeded(3, 6).requires_grad_()
        assert [each.data_ptr() for each in compress_signal(x).grad_fn.saved_tensors] == [x.data_ptr()]

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_row_of_zeros_stays_zero(self, dtype):
        """Epsilon is above zero in each type."""
        x = torch.zeros(2, 3, dtype=dtype)
        assert torch.equal(compress_signal(x), x)

    def test_eps(self):
        """A given epsilon is added to the mean size of a row."""
        x = seeded(1, 3)
        y = compress_signal(x)
        mean = y.abs().mean() ** 2  # of z, since y = z / sqrt(mean)
        torch.testing.assert_close(compress_signal(x, eps=10.0), y * (mean / (mean + 10)).sqrt())


class TestLogProportionalError:
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_reductions(self, reduction):
        """The mean, the sum or the errors themselves."""
        x, y = seeded(3, 4), seeded(3, 4, seed=1)
        shift = math.e - torch.minimum(x, y).min()
        errors = ((x + shift).log() / (y + shift).log() - 1).abs()
        expected = errors if reduction == "none" else getattr(errors, reduction)()
        torch.testing.assert_close(log_proportional_error(x, y, reduction), expected)

    def test_derivative_takes_the_shift_as_a_constant(self):
        """It is that of the formula with the least number held still, by both arguments."""
        x, y = seeded(3, 4).requires_grad_(), seeded(3, 4, seed=1).requires_grad_()
        log_proportional_error(x, y).backward()
        a, b = x.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
        shift = math.e - torch.minimum(x, y).min().detach()
        (((a + shift).log() - (b + shift).log()).abs() / (b + shift).log()).mean().backward()
        torch.testing.assert_close(x.grad, a.grad)
        torch.testing.assert_close(y.grad, b.grad)

    def test_near_targets(self):
        """In fp32 the error of a prediction next to its target has all its digits."""
        y = torch.tensor([0.0, 1e4])
        x = y + torch.tensor([0.0, 1e-2])
        exact = log_proportional_error(x.double(), y.double())
        torch.testing.assert_close(log_proportional_error(x, y).double(), exact, rtol=1e-5, atol=0)

    def test_the_target_itself(self):
        """No error and no gradient."""
        x = seeded(5).requires_grad_()
        error = log_proportional_error(x, x.detach())
        error.backward()
        assert error == 0
        assert torch.equal(x.grad, torch.zeros(5).double())

    def test_types_are_promoted(self):
        """The wider type of the two is that of the output."""
        assert log_proportional_error(torch.ones(2).half(), torch.zeros(2)).dtype is torch.float32


BAD = [
    pytest.param(lambda x: backward_gradient_normalization(x, 0), "eps must be positive, got 0", id="eps"),
    pytest.param(lambda x: siglog_parametric(x, -1.0), r"alpha must be positive, got -1\.0", id="alpha"),
    pytest.param(lambda x: siglog_parametric(x, 1.0, 0.0), "smoothing must be positive", id="smoothing"),
    pytest.param(
        lambda x: compress_signal(x, mode="damping"),
        "mode must be one of gating, dampening, got 'damping'",
        id="mode",
    ),
    pytest.param(lambda x: compress_signal(x, eps=0), "eps must be positive, got 0", id="compressor, eps"),
    pytest.param(
        lambda x: log_proportional_error(x, x, "max"),
        "reduction must be one of mean, sum, none, got 'max'",
        id="reduction",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_options_are_refused(call, message):
    """A value out of its bounds is an error that names it."""
    with pytest.raises(ValueError, match=message):
        call(torch.ones(2))


def test_autocast_leaves_types_alone():
    """Under autocast a function of fp32 gives fp32, between layers that give bf16."""
    x = torch.ones(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert siglog(x).dtype is torch.float32
        assert compress_signal(F.linear(x, torch.ones(3, 4))).dtype is torch.bfloat16
