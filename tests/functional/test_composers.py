"""The composers against their description, and against themselves by other routes."""

import pytest
import torch
from literal_composers import literal_delta, literal_mobius

from bioconvert.core.random import Stream
from bioconvert.functional import compose_delta, compose_mobius
from bioconvert.functional.composer_delta import DeltaOptions
from bioconvert.functional.composer_mobius import MobiusOptions
from bioconvert.functional.decorrelated_sum import Strengths, decorrelated_sum, plain_sum
from bioconvert.functional.gated_context import gated_context
from bioconvert.functional.latent_maps import latent_maps, plain_maps
from bioconvert.functional.learnt_padding import learnt_padding
from bioconvert.functional.phase_projection import plain_projection, stable_projection
from bioconvert.functional.phased_outer_sum import phased_outer_sum, plain_outer_sum
from bioconvert.functional.rank_mixing import plain_mixing, rank_mixing
from bioconvert.functional.rank_sums import inverse_rank_sum, rank_sum
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


def drawn_operands(dtype, *shapes):
    torch.manual_seed(0)
    return tuple(torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes)


def projection_operands(dtype, size=7, samples=3):
    return drawn_operands(dtype, (2, 2, samples, 2, 5), (1, 2, 2, 2, size, 1, 2))


def sum_operands(dtype, size=7, samples=3):
    signals, shares = drawn_operands(dtype, (samples, 4, size), (samples, 4))
    return signals, shares.detach().sigmoid().requires_grad_()


def outer_operands(dtype, size=7, samples=3):
    return drawn_operands(dtype, (samples, 5, 2, 6), (samples, 5, 2, size), (1, 5, 6, size, 2))


def space_operands(dtype, size=7, samples=3):
    """Space, shift, control points and shares, of one subspace for long spaces."""
    subspaces = 2 if size < 100 else 1
    return drawn_operands(
        dtype,
        (1, subspaces, 3, size, 2),
        (samples, 2, subspaces, 3),
        (samples, 2, 4, subspaces, 3),
        (samples, subspaces, 3),
    )


def rank_sum_operands(dtype, size=7, samples=3):
    operands = space_operands(dtype, size, samples)
    return *operands, *drawn_operands(dtype, (1, operands[0].shape[1], 1, 1, 2))


def maps_operands(dtype, size=7, samples=3):
    ranks = min(size, 700)
    return drawn_operands(dtype, (samples, 10), (8, 3, 5, ranks), (8, 3, 5, ranks), (5, 3 * ranks, 2))


def mixing_operands(dtype, size=7, samples=3):
    ranks = min(size, 700)
    return *drawn_operands(dtype, (samples, 13 * ranks + 1)), torch.tensor(
        [5.0], dtype=dtype, requires_grad=True
    )


def context_operands(dtype, size=7, samples=3):
    return drawn_operands(dtype, (samples, min(size, 700)), (6, min(size, 700)), (6,))


def padding_operands(dtype, size=7, samples=3):
    return drawn_operands(dtype, (samples, 2, 5, size), (1,))


def inverse_sum(*operands):
    return inverse_rank_sum(*operands, 0.1)


def normalized(*operands):
    return gated_context(*operands, normalized=True)


def padded(x, value):
    return learnt_padding(x.square(), value.square(), (1, 2, 3, 0))


def under_vmap(function):
    """Give the function's plain operations, which it takes where tensors stand for batches."""

    def batched(*operands):
        found = torch.func.vmap(function)(*(each.unsqueeze(0) for each in operands))
        return tuple(each[0] for each in found) if isinstance(found, tuple) else found[0]

    return batched


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


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
    pytest.param(phased_outer_sum, plain_outer_sum, outer_operands, id="phased_outer_sum"),
    pytest.param(rank_sum, under_vmap(rank_sum), rank_sum_operands, id="rank_sum"),
    pytest.param(inverse_sum, under_vmap(inverse_sum), space_operands, id="inverse_rank_sum"),
    pytest.param(latent_maps, plain_maps, maps_operands, id="latent_maps"),
    pytest.param(rank_mixing, plain_mixing, mixing_operands, id="rank_mixing"),
    pytest.param(gated_context, under_vmap(gated_context), context_operands, id="gated_context"),
    pytest.param(padded, under_vmap(padded), padding_operands, id="learnt_padding"),
    pytest.param(normalized, under_vmap(normalized), context_operands, id="gated_context, normalized"),
]


@pytest.mark.parametrize(("fused", "plain", "operands"), FUSED)
class TestEveryFusedFunction:
    # The larger need several blocks, or more than a block has room for.
    @pytest.mark.parametrize(("size", "samples"), [(7, 3), (50_000, 4), (150_000, 2)])
    def test_values_and_gradients_are_those_of_plain_operations(self, fused, plain, operands, size, samples):
        """What is fused gives the values and the gradients of the plain operations, block by block."""
        given = operands(torch.float64, size, samples)
        outputs, expected = as_tuple(fused(*given)), as_tuple(plain(*given))
        for each, other in zip(outputs, expected, strict=True):
            torch.testing.assert_close(each, other, rtol=1e-9, atol=1e-9 * float(other.detach().abs().max()))
        onward = [torch.randn_like(output) for output in outputs]
        found = torch.autograd.grad(outputs, given, onward)
        for each, other in zip(found, torch.autograd.grad(expected, given, onward), strict=True):
            torch.testing.assert_close(each, other, rtol=1e-9, atol=1e-9 * float(other.detach().abs().max()))

    def test_second_derivatives_are_those_of_plain_operations(self, fused, plain, operands):
        """A gradient with a graph of its own has the derivatives that the plain operations give it."""
        given, seconds = operands(torch.float64), []
        for function in (fused, plain):
            outputs = as_tuple(function(*given))
            ones = [torch.ones_like(output) for output in outputs]
            first = torch.autograd.grad(outputs, given, ones, create_graph=True)
            loss = sum(each.square().sum() for each in first)
            seconds.append(torch.autograd.grad(loss, given, allow_unused=True, materialize_grads=True))
        for each, other in zip(*seconds, strict=True):
            torch.testing.assert_close(each, other)

    def test_batched_gradients_are_those_of_one_by_one(self, fused, plain, operands):
        """Gradients asked for in a batch are those asked for one by one."""
        given = operands(torch.float64)
        outputs = as_tuple(fused(*given))
        onward = [torch.randn(2, *output.shape, dtype=output.dtype) for output in outputs]
        batched = torch.autograd.grad(outputs, given, onward, is_grads_batched=True, retain_graph=True)
        for index in range(2):
            single = torch.autograd.grad(outputs, given, [each[index] for each in onward], retain_graph=True)
            for each, other in zip(batched, single, strict=True):
                torch.testing.assert_close(each[index], other)

    def test_what_is_frozen_gets_no_gradient(self, fused, plain, operands):
        """With one operand alone to be trained, its gradients are the same, and can be differentiated."""
        given = operands(torch.float64)
        outputs = as_tuple(fused(*given))
        ones = [torch.ones_like(output) for output in outputs]
        expected = torch.autograd.grad(outputs, given[0], ones)
        alone = given[0], *(each.detach() for each in given[1:])
        for graph in (False, True):
            found = torch.autograd.grad(as_tuple(fused(*alone)), alone[0], ones, create_graph=graph)
            torch.testing.assert_close(found, expected)


def test_outer_sum_has_the_exact_gradient():
    """The sum of projected outer products passes gradcheck and gradgradcheck, but for its projections."""
    *given, projections = outer_operands(torch.float64, 3, 2)
    held = projections.detach()
    assert torch.autograd.gradcheck(lambda *of: phased_outer_sum(*of, held), given)
    assert torch.autograd.gradgradcheck(lambda *of: phased_outer_sum(*of, held), given)


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
