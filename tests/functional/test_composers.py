"""The composers against their description, and against themselves by other routes."""

import pytest
import torch
from literal_composers import literal_delta, literal_mobius

from bioconvert.core.random import Stream
from bioconvert.functional import compose_delta, compose_mobius
from bioconvert.functional.composer_delta import DeltaOptions
from bioconvert.functional.composer_mobius import MobiusOptions
from bioconvert.functional.decorrelated_sum import Strengths, decorrelated_sum, plain_sum
from bioconvert.functional.phase_projection import plain_projection, stable_projection
from bioconvert.functional.phased_outer_sum import phased_outer_sum
from bioconvert.layers.composer import composer_named

ROWS, COLS, LENGTH = 6, 9, 5
CASES = [
    pytest.param("delta", {}, compose_delta, DeltaOptions, literal_delta, id="delta"),
    pytest.param("delta", {"rank": 1}, compose_delta, DeltaOptions, literal_delta, id="delta, rank 1"),
    pytest.param(
        "mobius",
        {"n_subspaces": 3, "rank_subspace": 2, "rank_transformations": 4},
        compose_mobius,
        MobiusOptions,
        literal_mobius,
        id="mobius",
    ),
]
every = pytest.mark.parametrize(("name", "chosen", "compose", "options", "literal"), CASES)


def drawn(name, chosen, dtype=torch.float64, rows=ROWS, cols=COLS):
    """Give tensors far enough from their first values that every term counts."""
    stream = Stream(0, name)
    return {
        key: (tensor.draw(stream, key) + 0.3 * stream.normal(f"more {key}", tensor.shape))
        .to(dtype)
        .requires_grad_()
        for key, tensor in composer_named(name, chosen).tensors(rows, cols, LENGTH).items()
    }


def contexts(batch=3, dtype=torch.float64):
    return torch.randn(batch, LENGTH, dtype=dtype, generator=torch.Generator().manual_seed(1))


def literally(literal, context, tensors, chosen):
    known = {key: value for key, value in chosen.items() if key in ("rank", "n_subspaces")}
    return literal(context, tensors, **known)


@every
class TestEveryComposer:
    def test_values_are_those_of_the_description(self, name, chosen, compose, options, literal):
        """The matrices are those of the step-by-step description."""
        tensors, context = drawn(name, chosen), contexts()
        expected = literally(literal, context, tensors, chosen)
        assert expected.std() > 1e-3
        torch.testing.assert_close(compose(context, tensors, options(**chosen)), expected)

    def test_gradients_are_those_of_the_description(self, name, chosen, compose, options, literal):
        """The gradients of every tensor and of the context are those that the description has."""
        tensors, context = drawn(name, chosen), contexts().requires_grad_()
        wanted = (context, *tensors.values())
        output = compose(context, tensors, options(**chosen))
        onward = torch.randn_like(output)
        found = torch.autograd.grad(output, wanted, onward)
        expected = torch.autograd.grad(literally(literal, context, tensors, chosen), wanted, onward)
        for each, other in zip(found, expected, strict=True):
            torch.testing.assert_close(each, other, rtol=1e-6, atol=1e-9)

    def test_fp32_agrees_with_fp64(self, name, chosen, compose, options, literal):
        """In fp32 the matrices are within a thousandth of those in fp64."""
        tensors, context = drawn(name, chosen), contexts()
        narrow = {key: value.detach().float() for key, value in tensors.items()}
        found = compose(context.float(), narrow, options(**chosen)).double()
        expected = compose(context, tensors, options(**chosen))
        assert (found - expected).norm() < 1e-3 * expected.norm()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_fp32(self, name, chosen, compose, options, literal, dtype):
        """Half precision gives what fp32 gives for the same numbers, rounded, and finite gradients."""
        tensors, context = drawn(name, chosen, dtype), contexts(dtype=dtype)
        wide = {key: value.detach().float() for key, value in tensors.items()}
        output = compose(context, tensors, options(**chosen))
        assert torch.equal(output, compose(context.float(), wide, options(**chosen)).to(dtype))
        grads = torch.autograd.grad(output.float().square().mean(), list(tensors.values()))
        assert all(grad.dtype == dtype and grad.isfinite().all() for grad in grads)

    def test_samples_are_independent(self, name, chosen, compose, options, literal):
        """A sample's matrix doesn't depend on the others in its batch."""
        tensors, context = drawn(name, chosen), contexts()
        together = compose(context, tensors, options(**chosen))
        alone = compose(context[1:2], tensors, options(**chosen))
        torch.testing.assert_close(together[1:2], alone)

    def test_vmap_over_models_gives_the_same(self, name, chosen, compose, options, literal):
        """`torch.func.vmap` over stacked tensors gives what a loop over them gives."""
        models = [drawn(name, chosen), {key: 0.9 * value for key, value in drawn(name, chosen).items()}]
        stacked = {key: torch.stack([each[key].detach() for each in models]) for key in models[0]}
        context = contexts()
        found = torch.func.vmap(lambda tensors: compose(context, tensors, options(**chosen)))(stacked)
        expected = torch.stack([compose(context, each, options(**chosen)) for each in models])
        torch.testing.assert_close(found, expected)

    def test_func_grad_gives_the_same(self, name, chosen, compose, options, literal):
        """`torch.func.grad` gives the gradients of autograd."""
        tensors, context = drawn(name, chosen), contexts()
        held = {key: value.detach() for key, value in tensors.items()}
        found = torch.func.grad(lambda all: compose(context, all, options(**chosen)).square().sum())(held)
        loss = compose(context, tensors, options(**chosen)).square().sum()
        for key, expected in zip(tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True):
            torch.testing.assert_close(found[key], expected, rtol=1e-6, atol=1e-9)

    def test_autocast_changes_nothing(self, name, chosen, compose, options, literal):
        """Under autocast the matrices are composed in full precision."""
        tensors, context = drawn(name, chosen, torch.float32), contexts(dtype=torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            found = compose(context, tensors, options(**chosen))
        assert torch.equal(found, compose(context, tensors, options(**chosen)))

    def test_context_of_another_length_is_refused(self, name, chosen, compose, options, literal):
        """A context of another length is refused with the shape that is wanted."""
        with pytest.raises(ValueError, match=r"context must have the shape \[batch, 5\], got \[3, 4\]"):
            compose(torch.zeros(3, 4), drawn(name, chosen, torch.float32), options(**chosen))


def projection_operands(dtype, size=7, samples=3):
    torch.manual_seed(0)
    made = torch.randn(2, 2, samples, 2, 5, dtype=dtype), torch.randn(2, 2, 5, size, dtype=dtype)
    return tuple(each.requires_grad_() for each in made)


def sum_operands(dtype, size=7, samples=3):
    torch.manual_seed(0)
    made = torch.randn(samples, 4, size, dtype=dtype), torch.rand(samples, 4, dtype=dtype)
    return tuple(each.requires_grad_() for each in made)


def outer_operands(dtype, size=7, samples=3):
    torch.manual_seed(0)
    shapes = (5, samples, 6, 2), (5, samples, 2, size), (5, 2, 6, size)
    return tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes)


def plain_outer(columns, rows, phases):
    a, b = torch.view_as_complex(columns), torch.complex(*rows.unbind(2))
    theta = torch.complex(*phases.unbind(1))
    return torch.einsum("cbh,cbw,chw->bhw", a, b, theta.conj()).real


STRENGTHS = Strengths(0.3, 0.1)
SCALED = Strengths(0.3 / (2 * 3), 0.1 / 3)
FUSED = [
    pytest.param(stable_projection, plain_projection, projection_operands, id="stable_projection"),
    pytest.param(
        lambda *of: decorrelated_sum(*of, STRENGTHS)[0],
        lambda *of: plain_sum(*of, SCALED)[0],
        sum_operands,
        id="decorrelated_sum",
    ),
    pytest.param(phased_outer_sum, plain_outer, outer_operands, id="phased_outer_sum"),
]


@pytest.mark.parametrize(("fused", "plain", "operands"), FUSED)
class TestEveryFusedFunction:
    # The larger need several blocks, or more than a block has room for.
    @pytest.mark.parametrize(("size", "samples"), [(7, 3), (50_000, 4), (150_000, 2)])
    def test_values_and_gradients_are_those_of_plain_operations(self, fused, plain, operands, size, samples):
        """What is fused gives the values and the gradients of the plain operations, block by block."""
        given = operands(torch.float64, size, samples)
        output, expected = fused(*given), plain(*given)
        torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)
        onward = torch.randn_like(output)
        found = torch.autograd.grad(output, given, onward)
        for each, other in zip(found, torch.autograd.grad(expected, given, onward), strict=True):
            torch.testing.assert_close(each, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()))

    def test_second_derivatives_are_those_of_plain_operations(self, fused, plain, operands):
        """A gradient with a graph of its own has the derivatives that the plain operations give it."""
        given, seconds = operands(torch.float64), []
        for function in (fused, plain):
            output = function(*given)
            first = torch.autograd.grad(output, given, torch.ones_like(output), create_graph=True)
            loss = sum(each.square().sum() for each in first)
            seconds.append(torch.autograd.grad(loss, given, allow_unused=True))
        for each, other in zip(*seconds, strict=True):
            torch.testing.assert_close(each, other)

    def test_batched_gradients_are_those_of_one_by_one(self, fused, plain, operands):
        """Gradients asked for in a batch are those asked for one by one."""
        given = operands(torch.float64)
        output = fused(*given)
        onward = torch.randn(2, *output.shape, dtype=output.dtype)
        batched = torch.autograd.grad(output, given, onward, is_grads_batched=True, retain_graph=True)
        for index in range(2):
            single = torch.autograd.grad(output, given, onward[index], retain_graph=True)
            for each, other in zip(batched, single, strict=True):
                torch.testing.assert_close(each[index], other)


def test_outer_sum_has_the_exact_gradient():
    """The sum of projected outer products passes gradcheck and gradgradcheck."""
    given = outer_operands(torch.float64, 3, 2)
    assert torch.autograd.gradcheck(phased_outer_sum, given)
    assert torch.autograd.gradgradcheck(phased_outer_sum, given)


def test_deviations_are_those_of_the_decorrelated_signals():
    """The deviations that noise is scaled by are those of the signals after the repulsion."""
    signals, shares = sum_operands(torch.float64, 50)
    found = decorrelated_sum(signals, shares, STRENGTHS)[1]
    products = signals @ signals.mT
    pushed = (
        signals - 0.05 * (products - torch.diag_embed(torch.diagonal(products, dim1=1, dim2=2))) @ signals
    )
    torch.testing.assert_close(found, pushed.detach().std(-1))


def test_noise_has_the_deviation_that_is_asked_for():
    """In training, the matrices vary with the deviation of the weighted sum of independent noises."""
    tensors = drawn("delta", {}, rows=60, cols=60)
    options = DeltaOptions(noise=0.5, rank_noise=0.0)
    torch.manual_seed(0)
    quiet = compose_delta(contexts(), tensors, options)
    noise = compose_delta(contexts(), tensors, options, training=True) - quiet
    assert noise.std() > 0.01 * quiet.std()
    again = compose_delta(contexts(), tensors, options, training=True) - quiet
    torch.testing.assert_close(noise.std((1, 2)), again.std((1, 2)), rtol=0.1, atol=0)
    assert not torch.equal(noise, again)


def test_noise_of_zero_is_none():
    """Without noise, training gives what use gives."""
    tensors, options = drawn("delta", {}), DeltaOptions(noise=0.0, rank_noise=0.0)
    assert torch.equal(
        compose_delta(contexts(), tensors, options, training=True),
        compose_delta(contexts(), tensors, options),
    )
