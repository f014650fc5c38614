"""Derivatives of the Yat functions: first and second, backward and forward, batched and transformed."""

import pytest
import torch
from torch import func
from torch.autograd import gradcheck, gradgradcheck

from bioconvert.functional import yat_conv1d, yat_conv2d, yat_conv_transpose2d, yat_linear

# torch's forward mode compiles its own decompositions by a way it calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()


def positive(*shape):
    return randn(*shape).detach().abs().add(0.1).requires_grad_()


def linear(**options):
    def call(x, weight, bias, alpha, epsilon, offset):
        return yat_linear(x, weight, bias, alpha=alpha, epsilon=epsilon, offset=offset, **options)

    return call, (randn(2, 3), randn(2, 3, seed=1), randn(2), randn(1), positive(2), randn(2))


def conv1d():
    def call(x, weight, bias, alpha):
        return yat_conv1d(x, weight, bias, stride=2, padding="valid", alpha=alpha)

    return call, (randn(1, 2, 5), randn(2, 2, 3, seed=1), randn(2), randn(2))


def conv2d(layout, **options):
    def call(x, weight, bias, epsilon):
        x = x.to(memory_format=layout)
        geometry = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
        return yat_conv2d(x, weight, bias, **geometry, epsilon=epsilon, **options)

    return call, (randn(1, 4, 2, 3), randn(2, 2, 2, 2, seed=1), randn(2), positive(1))


def conv_transpose2d(layout, taps, **options):
    def call(x, weight, bias, epsilon):
        x = x.to(memory_format=layout)
        geometry = {"stride": (2, 1), "padding": (1, 0), "output_padding": (1, 0), "groups": 2}
        return yat_conv_transpose2d(x, weight, bias, **geometry, taps=taps, epsilon=epsilon, **options)

    return call, (randn(1, 4, 2, 2), randn(4, 1, 2, 2, seed=1), randn(2), positive(1))


FUNCTIONS = [
    pytest.param(*linear(), id="linear"),
    pytest.param(*linear(bias_mode="post"), id="linear, bias behind"),
    pytest.param(*linear(floor=0.8), id="linear, floored"),
    pytest.param(*linear(spherical=True), id="linear, spherical"),
    pytest.param(*conv1d(), id="conv1d"),
    pytest.param(*conv2d(torch.contiguous_format), id="conv2d"),
    pytest.param(*conv2d(torch.channels_last), id="conv2d, channels last"),
    pytest.param(*conv2d(torch.channels_last, spherical=True), id="conv2d, spherical"),
    pytest.param(
        *conv_transpose2d(torch.contiguous_format, "contributing", spherical=True),
        id="conv_transpose2d, spherical",
    ),
    pytest.param(*conv_transpose2d(torch.contiguous_format, "contributing"), id="conv_transpose2d"),
    pytest.param(
        *conv_transpose2d(torch.channels_last, "contributing"), id="conv_transpose2d, channels last"
    ),
    pytest.param(*conv_transpose2d(torch.contiguous_format, "kernel"), id="conv_transpose2d, whole kernel"),
]


@pytest.mark.parametrize(("call", "inputs"), FUNCTIONS)
class TestEveryFunction:
    def test_first_derivatives_are_right(self, call, inputs):
        """Backward, batched backward and forward mode agree with differences."""
        assert gradcheck(call, inputs, check_forward_ad=True, check_batched_grad=True)

    def test_second_derivatives_are_right(self, call, inputs):
        """A backward can be differentiated."""
        assert gradgradcheck(call, inputs)

    def test_one_gradient_is_what_it_is_among_all(self, call, inputs):
        """Leaving out the others' gradients changes none."""
        every = torch.autograd.grad(call(*inputs).sin().sum(), inputs)
        for i, expected in enumerate(every):
            alone = [x if j == i else x.detach() for j, x in enumerate(inputs)]
            torch.testing.assert_close(torch.autograd.grad(call(*alone).sin().sum(), inputs[i])[0], expected)

    def test_functional_gradient_is_the_same(self, call, inputs):
        """``torch.func.grad`` gives what ``backward`` gives."""
        everything = tuple(range(len(inputs)))
        found = func.grad(lambda *given: call(*given).sin().sum(), argnums=everything)(*inputs)
        torch.testing.assert_close(found, torch.autograd.grad(call(*inputs).sin().sum(), inputs))


def test_vmap_is_a_loop():
    """Batched over inputs, over weights, or over both, the product is that of each pair."""
    x, weight = randn(5, 3, 4).detach(), randn(5, 2, 4, seed=1).detach()
    looped = torch.stack([yat_linear(a, b) for a, b in zip(x, weight, strict=True)])
    torch.testing.assert_close(func.vmap(yat_linear)(x, weight), looped)
    torch.testing.assert_close(func.vmap(yat_linear, (0, None))(x, weight[0])[1], yat_linear(x[1], weight[0]))


def test_gradients_of_each_sample_come_from_vmap_of_grad():
    """The usual recipe for gradients by sample works on a convolution."""
    x, weight = randn(3, 2, 5, 5).detach(), randn(3, 2, 2, 2, seed=1).detach()

    def loss(weight, x):
        return yat_conv2d(x[None], weight, padding=1).sum()

    found = func.vmap(func.grad(loss), (None, 0))(weight, x)
    torch.testing.assert_close(found[1], func.grad(loss)(weight, x[1]))


def test_jacobians_agree():
    """Forward-over-reverse and reverse-over-reverse give one Hessian."""
    x, weight = randn(2, 3).detach(), randn(2, 3, seed=1).detach()

    def total(weight):
        return yat_linear(x, weight).sum()

    torch.testing.assert_close(func.hessian(total)(weight), func.jacrev(func.jacrev(total))(weight))


@pytest.mark.parametrize("graph", [False, True])
def test_an_input_may_depend_on_the_weight(graph):
    """Where a layer is used twice, each use is counted once, with a graph of the gradients and without."""
    x, weight = randn(3, 4).detach(), randn(4, 4, seed=1)

    def twice(weight):
        return yat_linear(yat_linear(x, weight, bias_mode="post", bias=weight[0], alpha=weight[0]), weight)

    found = torch.autograd.grad(twice(weight).sum(), weight, create_graph=graph)[0]
    torch.testing.assert_close(found, func.grad(lambda w: twice(w).sum())(weight.detach()))


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_gradient_of_what_is_frozen_is_not_computed(frozen):
    """A frozen weight or an input without a gradient stays without one."""
    x, weight = randn(3, 4), randn(2, 4, seed=1)
    {"x": x, "weight": weight}[frozen].requires_grad_(False)
    yat_linear(x, weight).sum().backward()
    without = {name for name, tensor in {"x": x, "weight": weight}.items() if tensor.grad is None}
    assert without == {frozen}


def test_a_vector_of_zeros_on_the_sphere_has_the_plain_gradient():
    """What has no direction has a cosine of 0 with everything, and finite gradients."""
    x, weight, bias = torch.zeros(2, 3, dtype=torch.float64), randn(2, 3, seed=1), randn(2)
    leaves = (x.requires_grad_(), weight, bias)

    def total(x, weight, bias):
        return yat_linear(x, weight, bias, spherical=True).sum()

    found = torch.autograd.grad(total(*leaves), leaves)
    torch.testing.assert_close(found, func.grad(total, argnums=(0, 1, 2))(*leaves))
    assert all(grad.isfinite().all() for grad in found)


def test_backward_keeps_no_differences():
    """What is kept is input, weight and quotient: nothing of inputs × units × features."""
    kept = []
    x, weight = torch.randn(32, 64), torch.randn(48, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        yat_linear(x, weight)
    assert sum(kept) == 32 * 64 + 48 * 64 + 32 * 48
