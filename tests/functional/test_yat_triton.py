"""The Triton kernels, run by Triton's interpreter where there is no GPU, against the plain formula."""

import os
import sys
from contextlib import contextmanager

import pytest
import torch

from bioconvert.functional import triton_switch, yat_conv2d, yat_conv_transpose2d, yat_kernel, yat_linear
from bioconvert.functional.triton_switch import kernel_for, use_triton

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
OPTIONS = [
    pytest.param({}, id="defaults"),
    pytest.param({"alpha": 1.4, "epsilon": 0.3}, id="numbers"),
    pytest.param({"alpha": torch.tensor([2.0]), "epsilon": torch.tensor([0.2])}, id="one tensor"),
    pytest.param({"alpha": torch.linspace(-1, 2, 6), "epsilon": torch.linspace(0.1, 1, 6)}, id="per unit"),
    pytest.param({"offset": torch.linspace(-1, 1, 6)}, id="offset"),
    pytest.param({"bias_mode": "post", "alpha": torch.linspace(-1, 2, 6)}, id="bias behind"),
    pytest.param({"floor": 0.9, "epsilon": torch.tensor([0.2])}, id="floor"),
]


@pytest.fixture
def triton_kernels(monkeypatch):
    """Have products run on Triton, by its interpreter unless there is a GPU."""
    if not HAS_GPU:
        # Read when a kernel is defined; without a GPU Triton has no other use in this process.
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        for name in ("triton_kernels", "triton_yat"):
            monkeypatch.delitem(sys.modules, f"bioconvert.functional.{name}", raising=False)
    pytest.importorskip("triton", reason="the Triton kernels need the package triton")
    monkeypatch.setattr(triton_switch._Switch, "on", True)
    assert kernel_for(randn(1)).__name__ == "bioconvert.functional.triton_yat"


@contextmanager
def torch_operations(monkeypatch):
    """Have products run on torch's operations for a while."""
    with monkeypatch.context() as patched:
        patched.setattr(triton_switch._Switch, "on", False)
        yield


def randn(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(DEVICE)


def linear(options):
    return yat_linear, (randn(5, 4), randn(6, 4)), options


def conv2d(layout, groups):
    def case(options):
        x = randn(2, 6, 6, 5).to(memory_format=layout)
        return yat_conv2d, (x, randn(6, 6 // groups, 3, 3)), {"padding": 1, "groups": groups, **options}

    return case


def transposed(options):
    return yat_conv_transpose2d, (randn(2, 4, 3, 3), randn(4, 3, 3, 3)), {"stride": 2, "groups": 2, **options}


CASES = [
    pytest.param(linear, id="linear"),
    pytest.param(conv2d(torch.contiguous_format, 1), id="conv2d"),
    pytest.param(conv2d(torch.contiguous_format, 2), id="conv2d, grouped"),
    pytest.param(conv2d(torch.contiguous_format, 6), id="conv2d, depthwise"),
    pytest.param(conv2d(torch.channels_last, 2), id="conv2d, channels last"),
    pytest.param(transposed, id="transposed"),
]


def results(function, operands, options):
    """Give the product and the gradient of every tensor in it."""
    leaves = [operand.clone(memory_format=torch.preserve_format).requires_grad_() for operand in operands]
    bias = randn(6).requires_grad_()
    units = {
        name: unit.to(DEVICE, torch.float64).requires_grad_() if isinstance(unit, torch.Tensor) else unit
        for name, unit in options.items()
    }
    y = function(*leaves, bias, **units)
    tensors = [*leaves, bias, *(unit for unit in units.values() if isinstance(unit, torch.Tensor))]
    return y, *torch.autograd.grad(y.sin().sum(), tensors)


@pytest.mark.usefixtures("triton_kernels")
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_plain_formula(case, options, monkeypatch):
    """On Triton, the product and all its gradients are what torch's operations give."""
    given = case(options)
    found = results(*given)
    with torch_operations(monkeypatch):
        torch.testing.assert_close(found, results(*given))


@pytest.mark.usefixtures("triton_kernels")
def test_a_product_without_a_graph_is_the_same():
    """Under ``no_grad`` nothing is kept and the value stays."""
    x, weight = randn(5, 4), randn(6, 4).requires_grad_()
    with torch.no_grad():
        found = yat_linear(x, weight)
    torch.testing.assert_close(found, yat_linear(x, weight).detach())


@pytest.mark.usefixtures("triton_kernels")
def test_more_elements_than_a_block_are_all_computed(monkeypatch):
    """A tensor that several programs share has no gaps."""
    x, weight = randn(70, 8), randn(33, 8)
    found = yat_linear(x, weight)
    with torch_operations(monkeypatch):
        torch.testing.assert_close(found, yat_linear(x, weight))


def test_triton_is_never_chosen_unasked(monkeypatch):
    """Even where Triton could run, torch's operations are the default."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "BIOCONVERT_TRITON" not in os.environ
    assert kernel_for(randn(1)) is yat_kernel


def test_triton_that_is_not_installed_is_refused(monkeypatch):
    """The error names the package."""
    monkeypatch.setattr(triton_switch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="use_triton needs the package triton"):
        use_triton()


def test_triton_can_be_switched_off_again(monkeypatch):
    """Off needs no package."""
    monkeypatch.setattr(triton_switch._Switch, "on", True)
    use_triton(False)
    assert kernel_for(randn(1)) is yat_kernel
