"""Squashers: values, limits, gradients, and what is refused."""

import pytest
import torch
from torch.func import grad, vmap

from bioconvert.functional import soft_tanh, softer_sigmoid, softermax
from bioconvert.layers import Softermax, SofterSigmoid, SoftTanh

SCORES = torch.tensor([[0.0, 0.25, 1.0, 4.0, 9.0], [3.0, 0.0, 2.0, 1.0, 0.5]], dtype=torch.float64)
POWERS = [0.5, 1, 2, 3.5]
SQUASHERS = [
    pytest.param(
        softermax,
        lambda x, n: x**n / (1e-12 + (x**n).sum(-1, keepdim=True)),
        Softermax,
        id="softermax",
    ),
    pytest.param(softer_sigmoid, lambda x, n: x**n / (1 + x**n), SofterSigmoid, id="softer_sigmoid"),
    pytest.param(soft_tanh, lambda x, n: (x**n - 1) / (x**n + 1), SoftTanh, id="soft_tanh"),
]


@pytest.mark.parametrize("n", POWERS)
@pytest.mark.parametrize(("squash", "formula", "module"), SQUASHERS)
class TestEverySquasherAndPower:
    def test_is_its_formula(self, squash, formula, module, n):
        """The values are those of the definition."""
        assert torch.allclose(squash(SCORES, n), formula(SCORES, n), rtol=1e-12)

    def test_gradients(self, squash, formula, module, n):
        """First and second derivatives agree with finite differences where scores are positive."""
        x = (SCORES + 0.3).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: squash(x, n), x)
        assert torch.autograd.gradgradcheck(lambda x: squash(x, n), x)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_extreme_scores(self, squash, formula, module, n, dtype):
        """From the least to the largest number, and beyond, values are in range and gradients finite."""
        limits = torch.finfo(dtype)
        x = torch.tensor([0.0, limits.tiny, 1.0, limits.max, float("inf")], dtype=dtype, requires_grad=True)
        y = squash(x, n, dim=0) if squash is softermax else squash(x, n)
        y.sum().backward()
        assert y.dtype is dtype
        assert y.min() >= (-1 if squash is soft_tanh else 0)
        assert y.max() <= 1
        assert x.grad.isfinite().all()

    def test_a_negative_score_counts_as_zero(self, squash, formula, module, n):
        """Values are those of zero, and no gradient comes back."""
        x = torch.tensor([-2.0, 0.5], requires_grad=True)
        y = squash(x, n)
        y[1].backward()
        assert torch.equal(y, squash(torch.tensor([0.0, 0.5]), n))
        assert x.grad[0] == 0

    def test_the_module_gives_what_the_function_gives(self, squash, formula, module, n):
        """The module is the function with its power, and shows it."""
        assert torch.equal(module(n)(SCORES), squash(SCORES, n))
        assert f"n={n}" in repr(module(n))

    def test_maps(self, squash, formula, module, n):
        """Per-row gradients by torch.func are those of autograd."""
        by_row = vmap(grad(lambda row: squash(row, n).square().sum()))(SCORES + 0.1)
        x = (SCORES + 0.1).requires_grad_()
        squash(x, n).square().sum().backward()
        assert torch.allclose(by_row, x.grad)


@pytest.mark.parametrize(("squash", "formula", "module"), SQUASHERS)
def test_compiles(squash, formula, module):
    """`torch.compile(fullgraph=True)` gives the same values."""
    compiled = torch.compile(module(0.5), fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(SCORES), squash(SCORES, 0.5))


class TestSoftermax:
    def test_shares_add_up_to_one(self):
        """Along the chosen dimension, for any score that isn't zero."""
        for dim in (0, 1):
            assert torch.allclose(softermax(SCORES, 2, dim=dim).sum(dim)[1:], torch.ones(1).double())

    def test_nothing_to_share(self):
        """Scores that are all zero give zeros, and finite gradients."""
        x = torch.zeros(3, requires_grad=True)
        y = softermax(x, 2)
        y.sum().backward()
        assert torch.equal(y, torch.zeros(3))
        assert x.grad.isfinite().all()

    def test_epsilon(self):
        """Epsilon is in units of the powers of the scores, however small these are."""
        x = torch.tensor([1e-3, 3e-3], dtype=torch.float64)
        assert torch.allclose(softermax(x, 2, epsilon=1e-6), x**2 / (1e-6 + (x**2).sum()))


def test_infinite_slope_at_zero_is_taken_as_zero():
    """For n below 1 the derivative at 0 is infinite, and 0 is given in its place."""
    x = torch.zeros(1, requires_grad=True)
    softer_sigmoid(x, 0.5).backward()
    assert x.grad.item() == 0


def test_a_symbolic_trace_keeps_them_whole():
    """In a user's own symbolic_trace each module can be traced by itself, as one call."""
    for module, squash in ((Softermax(2), softermax), (SofterSigmoid(2), softer_sigmoid)):
        assert torch.equal(torch.fx.symbolic_trace(module)(SCORES), squash(SCORES, 2))


BAD = [
    pytest.param(lambda: softermax(SCORES, 0), "n must be positive, got 0", id="softermax, n"),
    pytest.param(lambda: softermax(SCORES, epsilon=0.0), "epsilon must be positive, got 0.0", id="epsilon"),
    pytest.param(lambda: softer_sigmoid(SCORES, -1), "n must be positive, got -1", id="softer_sigmoid, n"),
    pytest.param(lambda: soft_tanh(SCORES, -1), "n must be positive, got -1", id="soft_tanh, n"),
    pytest.param(lambda: Softermax(0), "n must be positive, got 0", id="Softermax, n"),
    pytest.param(lambda: Softermax(epsilon=-1.0), "epsilon must be positive, got -1.0", id="Softermax"),
    pytest.param(lambda: SofterSigmoid(0), "n must be positive, got 0", id="SofterSigmoid, n"),
    pytest.param(lambda: SoftTanh(0), "n must be positive, got 0", id="SoftTanh, n"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_options_are_refused(make, message):
    """A value out of its bounds is an error that names it."""
    with pytest.raises(ValueError, match=message):
        make()
