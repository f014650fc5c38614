"""What holds of every Yat layer with every option."""

import copy
import pickle

import pytest
import torch
from torch import fx, nn
from torch.utils.checkpoint import checkpoint

from bioconvert.core.registry import is_layer
from bioconvert.layers import YatConv1d, YatConv2d, YatConv3d, YatLinear, YatNMN

PLAIN = {YatLinear: nn.Linear, YatConv1d: nn.Conv1d, YatConv2d: nn.Conv2d, YatConv3d: nn.Conv3d}

LAYERS = [
    pytest.param(YatLinear, (4, 3), {}, (2, 4), (2, 3), id="YatLinear"),
    pytest.param(YatLinear, (4, 3), {}, (2, 5, 4), (2, 5, 3), id="YatLinear, more dimensions"),
    pytest.param(YatLinear, (4, 3), {"bias": False, "alpha": "none"}, (2, 4), (2, 3), id="YatLinear, bare"),
    pytest.param(YatLinear, (4, 3), {"bias_mode": "post"}, (2, 4), (2, 3), id="YatLinear, bias behind"),
    pytest.param(YatLinear, (4, 3), {"alpha": "exponent"}, (2, 4), (2, 3), id="YatLinear, exponent"),
    pytest.param(YatLinear, (4, 3), {"alpha": 2**0.5}, (2, 4), (2, 3), id="YatLinear, constant alpha"),
    pytest.param(
        YatLinear, (4, 3), {"per_unit": True, "offset": True}, (2, 4), (2, 3), id="YatLinear, affine"
    ),
    pytest.param(
        YatLinear, (4, 3), {"learnable_epsilon": True}, (2, 4), (2, 3), id="YatLinear, learnable epsilon"
    ),
    pytest.param(YatLinear, (4, 3), {"spherical": True}, (2, 4), (2, 3), id="YatLinear, spherical"),
    pytest.param(YatLinear, (4, 3), {"weight_normalized": True}, (2, 4), (2, 3), id="YatLinear, normalized"),
    pytest.param(YatConv1d, (4, 6, 3), {"padding": 1}, (2, 4, 9), (2, 6, 9), id="YatConv1d"),
    pytest.param(YatConv2d, (4, 6, 3), {"groups": 2}, (2, 4, 8, 8), (2, 6, 6, 6), id="YatConv2d, grouped"),
    pytest.param(
        YatConv2d,
        (4, 6, 3),
        {"padding": "same", "dilation": 2},
        (2, 4, 8, 8),
        (2, 6, 8, 8),
        id="YatConv2d, same",
    ),
    pytest.param(
        YatConv2d, (4, 6, 3), {"stride": 2, "offset": True}, (4, 9, 9), (6, 4, 4), id="YatConv2d, unbatched"
    ),
    pytest.param(
        YatConv2d,
        (4, 6, 3),
        {"padding": 1, "padding_mode": "reflect"},
        (2, 4, 8, 8),
        (2, 6, 8, 8),
        id="YatConv2d, reflect",
    ),
    pytest.param(YatConv3d, (2, 3, 2), {}, (1, 2, 4, 4, 4), (1, 3, 3, 3, 3), id="YatConv3d"),
]


def inputs(shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize(("cls", "sizes", "options", "given", "expected"), LAYERS)
class TestEveryLayer:
    @pytest.fixture
    def layer(self, cls, sizes, options):
        torch.manual_seed(0)
        return cls(*sizes, **options)

    def test_shape_is_as_documented(self, layer, given, expected):
        """The output has the shape that the docstring promises."""
        assert layer(inputs(given)).shape == expected

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_type_is_kept(self, layer, given, dtype):
        """The output has the layer's type, and every parameter a finite gradient."""
        layer.to(dtype)
        y = layer(inputs(given, dtype))
        y.float().mean().backward()
        assert y.dtype == dtype
        assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())

    def test_autocast_gives_its_own_type(self, layer, given):
        """As for torch's own layers."""
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(inputs(given)).dtype == torch.bfloat16

    def test_state_dict_comes_back(self, layer, cls, sizes, options, given):
        """Another layer of the same options computes the same with the first one's state."""
        other = cls(*sizes, **options)
        other.load_state_dict(layer.state_dict())
        assert torch.equal(other(inputs(given)), layer(inputs(given)))

    def test_initial_values_are_a_function_of_the_seed(self, layer, cls, sizes, options):
        """The same seed gives the same parameters."""
        torch.manual_seed(0)
        again = cls(*sizes, **options).state_dict()
        assert all(torch.equal(again[name], value) for name, value in layer.state_dict().items())

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
    def test_copies_compute_the_same(self, layer, given, copied):
        """deepcopy and pickle keep values and options."""
        assert torch.equal(copied(layer)(inputs(given)), layer(inputs(given)))

    def test_meta_device_gives_the_shape(self, layer, given, expected):
        """Without memory, shapes still propagate."""
        assert layer.to("meta")(inputs(given).to("meta")).shape == expected

    def test_a_trace_keeps_the_function_whole(self, layer, given):
        """torch.fx's own tracer sees one call, and the traced module computes the same."""
        traced = fx.symbolic_trace(layer)
        assert torch.equal(traced(inputs(given)), layer(inputs(given)))

    def test_checkpointing_gives_the_same_gradient(self, layer, given):
        """Recomputation in backward changes nothing."""
        x = inputs(given).requires_grad_()
        found = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).sum(), x)[0]
        assert torch.equal(found, torch.autograd.grad(layer(x).sum(), x)[0])

    def test_output_may_be_worked_on_in_place(self, layer, given):
        """A following ReLU(inplace=True) is no error."""
        nn.functional.relu_(layer(inputs(given).requires_grad_())).sum().backward()

    def test_export_computes_the_same(self, layer, given):
        """torch.export gives a program with the layer's values."""
        exported = torch.export.export(layer.eval(), (inputs(given),)).module()
        torch.testing.assert_close(exported(inputs(given)), layer(inputs(given)), rtol=1e-4, atol=1e-5)

    def test_class_change_is_the_constructor(self, layer, cls, sizes, options, given):
        """A plain layer with the class, attributes and parameters of a Yat layer computes the same."""
        torch_options = {k: v for k, v in options.items() if k not in _OURS}
        plain = PLAIN[cls](*sizes, **torch_options)
        weight = plain.weight
        plain.__class__ = cls
        vars(plain).update({k: v for k, v in vars(layer).items() if k not in vars(plain)})
        plain._parameters.update({k: v for k, v in layer._parameters.items() if k not in ("weight", "bias")})
        layer.load_state_dict(plain.state_dict())
        assert plain.weight is weight
        assert torch.equal(plain(inputs(given)), layer(inputs(given)))

    def test_it_is_registered_and_shows_its_options(self, layer, cls, options):
        """The registry knows the class; the representation names what isn't default."""
        assert is_layer(cls)
        shown = repr(layer)
        assert all(name in shown for name in options if name in _OURS - {"alpha"})


_OURS = {
    "bias_mode",
    "alpha",
    "per_unit",
    "offset",
    "learnable_epsilon",
    "spherical",
    "weight_normalized",
    "drop_connect",
}


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "sizes", "options", "given", "expected"), LAYERS)
def test_compiles_as_one_graph(cls, sizes, options, given, expected):
    """torch.compile(fullgraph=True) gives values and gradients within rounding."""
    torch.manual_seed(0)
    layer, x = cls(*sizes, **options), inputs(given).requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    y = compiled(x)
    torch.testing.assert_close(y, layer(x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        torch.autograd.grad(y.sum(), x)[0], torch.autograd.grad(layer(x).sum(), x)[0], rtol=1e-2, atol=1e-3
    )


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_every_padding_mode_is_padding_first(mode):
    """What torch pads, the layer sees as its input."""
    layer, x = YatConv2d(2, 3, 3, padding=2, padding_mode=mode), torch.randn(2, 2, 5, 5)
    padded = nn.functional.pad(x, (2, 2, 2, 2), mode="constant" if mode == "zeros" else mode)
    layer_on_padded = copy.deepcopy(layer)
    layer_on_padded.padding, layer_on_padded.padding_mode = (0, 0), "zeros"
    torch.testing.assert_close(layer(x), layer_on_padded(padded))


def test_drop_connect_drops_while_training_only():
    """In training, weights are left out at random; in evaluation none is."""
    layer, x = YatLinear(16, 4, drop_connect=0.5), torch.randn(2, 16)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_the_other_name_is_the_same_class():
    """YatNMN is YatLinear."""
    assert YatNMN is YatLinear


def test_conv1d_of_transformers_is_a_linear_with_its_weight_transposed(transformers):
    """A Conv1D whose class changes computes what YatLinear computes of the transposed weight."""
    from bioconvert.layers.yat_conv1d import YatConv1D

    linear = YatLinear(5, 3)
    layer = transformers.pytorch_utils.Conv1D(3, 5)
    layer.weight.data, layer.bias.data = linear.weight.data.t().clone(), linear.bias.data
    layer.__class__ = YatConv1D
    vars(layer).update({k: v for k, v in vars(linear).items() if k not in vars(layer)})
    layer.alpha = linear.alpha
    x = torch.randn(2, 4, 5)
    torch.testing.assert_close(layer(x), linear(x))
