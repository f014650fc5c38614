"""Signal functions as modules: what they give, hold and show, and what is refused."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.functional import backward_gradient_normalization, compress_signal
from bioconvert.layers import BackwardGradientNorm, SignalStabilizationCompressor

NORMALISED = {"bgn_input": True, "bgn_mid": True, "bgn_output": True}
LAYERS = [
    pytest.param(BackwardGradientNorm, {"eps": 1e-3}, backward_gradient_normalization, "eps=0.001", id="bgn"),
    pytest.param(SignalStabilizationCompressor, {}, compress_signal, "gating, leak=0.001", id="compressor"),
    pytest.param(
        SignalStabilizationCompressor,
        {"mode": "dampening", "leak": 0.1, "eps": 1e-3, **NORMALISED},
        compress_signal,
        "dampening, leak=0.1, bgn_input, bgn_mid, bgn_output",
        id="compressor, all options",
    ),
]


def gradient(function, x):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(x).square().sum(), x)[0]


@pytest.mark.parametrize(("layer", "options", "function", "shown"), LAYERS)
class TestEveryLayer:
    @pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 4, 6)])
    def test_is_its_function(self, layer, options, function, shown, shape):
        """Values and gradients are those of the function with the same options."""
        x, module = torch.randn(shape), layer(**options)
        assert torch.equal(module(x), function(x, **options))
        assert torch.equal(gradient(module, x), gradient(lambda x: function(x, **options), x))

    def test_shows_its_options(self, layer, options, function, shown):
        """The options are in the repr."""
        assert repr(layer(**options)) == f"{layer.__name__}({shown})"

    def test_copies(self, layer, options, function, shown):
        """Pickle and deepcopy give the same."""
        x, module = torch.randn(3, 6), layer(**options)
        for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(gradient(copied, x), gradient(module, x))

    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own doing
    def test_compiles_and_traces(self, layer, options, function, shown):
        """`torch.compile(fullgraph=True)`, `torch.export` and a symbolic trace give the same."""
        x, module = torch.randn(3, 6), layer(**options)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(gradient(compiled, x), gradient(module, x))
        torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))
        assert torch.equal(gradient(torch.fx.symbolic_trace(nn.Sequential(module)), x), gradient(module, x))


class TestTrainableLeak:
    def test_is_the_leak_times_a_softplus(self):
        """The parameter starts at 1, and its softplus multiplies the leak."""
        module, x = SignalStabilizationCompressor(leak=0.1, trainable_leak=True), torch.randn(3, 6)
        assert torch.equal(module.leak_scale, torch.ones(1))
        leak = 0.1 * math.log1p(math.e)
        torch.testing.assert_close(module(x), compress_signal(x, leak))
        assert "trainable_leak" in repr(module)

    @pytest.mark.parametrize("mode", ["gating", "dampening"])
    def test_is_learnt(self, mode):
        """The gradient of the parameter agrees with finite differences."""
        module = SignalStabilizationCompressor(mode=mode, leak=0.1, trainable_leak=True).double()
        x = torch.randn(3, 6, dtype=torch.float64)
        scale = module.leak_scale.detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda s: torch.func.functional_call(module, {"leak_scale": s}, x), scale
        )

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_takes_the_types_of_its_module(self, dtype):
        """In each type the output is like the input."""
        module = SignalStabilizationCompressor(trainable_leak=True, dtype=dtype)
        assert module(torch.randn(3, 6, dtype=dtype)).dtype is dtype

    def test_fixed_leak_has_no_parameter(self):
        """Without it, nothing is learnt and the state_dict is empty."""
        assert not SignalStabilizationCompressor().state_dict()


def test_gradients_reach_the_first_of_many_layers():
    """Through 30 layers that shrink it, the gradient of the first has the size of the last one's."""
    torch.manual_seed(0)
    layers = [nn.Linear(16, 16) for _ in range(30)]
    x = torch.randn(4, 16)

    def first_gradient(normalised):
        y = x.clone().requires_grad_()
        z = y
        for each in layers:
            z = F.tanh(each(BackwardGradientNorm()(z) if normalised else z))
        return torch.autograd.grad(z.sum(), y)[0].square().mean().sqrt()

    assert first_gradient(normalised=False) < 1e-4
    torch.testing.assert_close(first_gradient(normalised=True), torch.ones(()))


BAD = [
    pytest.param(lambda: BackwardGradientNorm(0.0), r"eps must be positive, got 0\.0", id="eps"),
    pytest.param(lambda: SignalStabilizationCompressor(mode="x"), "mode must be one of gating", id="mode"),
    pytest.param(lambda: SignalStabilizationCompressor(eps=-1), "eps must be positive, got -1", id="c, eps"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_options_are_refused(make, message):
    """A value out of its bounds is an error that names it."""
    with pytest.raises(ValueError, match=message):
        make()
