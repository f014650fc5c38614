"""One property suite for every Yat layer and option."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from yat_by_patches import by_formula, units_of

from bioconvert.layers import (
    YatConv1d,
    YatConv2d,
    YatConv3d,
    YatConvTranspose1d,
    YatConvTranspose2d,
    YatConvTranspose3d,
    YatLinear,
    YatNMN,
)

OPTIONS = [
    pytest.param({}, id="defaults"),
    pytest.param({"bias": False}, id="no bias"),
    pytest.param({"bias_mode": "post"}, id="bias behind"),
    pytest.param({"alpha": "none"}, id="no alpha"),
    pytest.param({"alpha": math.sqrt(2)}, id="constant alpha"),
    pytest.param({"alpha": "exponent"}, id="exponent"),
    pytest.param({"per_unit": True}, id="per unit"),
    pytest.param({"offset": True}, id="offset"),
    pytest.param({"learnable_epsilon": True, "epsilon": 0.1}, id="learnable epsilon"),
    pytest.param({"spherical": True}, id="spherical"),
    pytest.param({"weight_normalized": True}, id="weight-normalized"),
    pytest.param({"per_unit": True, "learnable_epsilon": True, "epsilon": 0.1}, id="epsilon per unit"),
    pytest.param({"softplus_bias": True}, id="softplus bias"),
    pytest.param({"constant_bias": 0.7}, id="constant bias"),
    pytest.param({"constant_bias": 0.7, "bias_mode": "post"}, id="constant bias behind"),
    pytest.param({"freeze_kernel": True}, id="frozen kernel"),
    pytest.param({"mask": "random"}, id="mask"),
    pytest.param({"mask": "random", "weight_normalized": True}, id="mask, weight-normalized"),
]
CONSTRUCTED = [
    pytest.param({"scalar_bias": True, "softplus_bias": True}, id="scalar bias"),
    pytest.param({"kernel_bank": "random"}, id="kernel bank"),
    pytest.param({"kernel_bank": "random", "mask": "random"}, id="kernel bank, mask"),
]
LAYERS = [
    pytest.param(lambda **o: YatLinear(4, 6, **o), (3, 4), (3, 6), id="YatLinear"),
    pytest.param(lambda **o: YatConv1d(4, 6, 3, padding=1, **o), (2, 4, 7), (2, 6, 7), id="YatConv1d"),
    pytest.param(lambda **o: YatConv2d(4, 6, 3, groups=2, **o), (2, 4, 5, 5), (2, 6, 3, 3), id="YatConv2d"),
    pytest.param(
        lambda **o: YatConv3d(2, 4, 2, stride=2, **o), (1, 2, 4, 4, 4), (1, 4, 2, 2, 2), id="YatConv3d"
    ),
    pytest.param(
        lambda **o: YatConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2, **o),
        (2, 4, 4),
        (2, 6, 8),
        id="YatConvTranspose1d",
    ),
    pytest.param(
        lambda **o: YatConvTranspose2d(4, 6, (3, 2), 2, groups=2, taps="kernel", **o),
        (2, 4, 2, 3),
        (2, 6, 5, 6),
        id="YatConvTranspose2d",
    ),
    pytest.param(
        lambda **o: YatConvTranspose3d(2, 4, 2, stride=2, padding=1, **o),
        (2, 2, 3, 2, 2),
        (2, 4, 4, 2, 2),
        id="YatConvTranspose3d",
    ),
]

FOR_GRADIENTS = [LAYERS[0], LAYERS[2], LAYERS[4], LAYERS[5]]
"""One of each kind, and both norms of the transposed ones: it takes long."""


def built(make, seed=0, **options):
    """Build a layer in fp64 with random extra tensors, so that none of them is neutral."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        own = make().weight
        if "mask" in options:
            options["mask"] = torch.rand(own.shape) > 0.4
        if "kernel_bank" in options:
            dim = 1 if "Transpose" in type(make()).__name__ else 0
            options["kernel_bank"] = nn.Parameter(torch.cat([torch.randn_like(own)] * 2, dim))
        layer = make(**options).double()
        for name in ("alpha", "offset", "raw_epsilon"):
            if name in layer._parameters:
                nn.init.uniform_(layer._parameters[name], 0.5, 1.5)
    return layer


def inputs(shape):
    return torch.linspace(-1, 1.3, math.prod(shape), dtype=torch.float64).view(shape)


@pytest.mark.parametrize("options", OPTIONS + CONSTRUCTED)
@pytest.mark.parametrize(("make", "given", "expected"), LAYERS)
class TestEveryLayerAndOption:
    def test_is_its_formula(self, make, given, expected, options):
        """The output has the promised shape, and is the definition evaluated patch by patch."""
        layer, x = built(make, **options), inputs(given)
        assert layer(x).shape == expected
        assert torch.allclose(layer(x), by_formula(layer, x), rtol=1e-9)

    def test_state_dict_round_trip(self, make, given, expected, options):
        """Another instance with the state computes the same."""
        layer, twin = built(make, **options), built(make, seed=1, **options)
        twin.load_state_dict(layer.state_dict())
        assert torch.equal(twin(inputs(given)), layer(inputs(given)))

    def test_copies(self, make, given, expected, options):
        """deepcopy and pickle keep class, options and values."""
        layer = built(make, **options)
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert repr(twin) == repr(layer)
            assert torch.equal(twin(inputs(given)), layer(inputs(given)))


@pytest.mark.parametrize("options", OPTIONS + CONSTRUCTED)
@pytest.mark.parametrize(("make", "given", "expected"), FOR_GRADIENTS)
def test_gradients(make, given, expected, options):
    """First derivatives agree with finite differences, for inputs and all parameters."""
    layer, x = built(make, **options), inputs(given).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(call, (x, *values), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, *values), fast_mode=True)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("make", "given", "expected"), LAYERS)
def test_an_existing_torch_layer_can_become_one(make, given, expected, options):
    """A change of class with the attributes and parameters of the options is as good as a constructor."""
    layer = built(make, **options)
    base = next(c for c in type(layer).__mro__ if c.__module__.startswith("torch.nn.modules"))
    plain = copy.deepcopy(layer)
    plain.__class__ = base
    assert plain(inputs(given)).shape == expected
    plain.__class__ = type(layer)
    assert torch.equal(plain(inputs(given)), layer(inputs(given)))


@pytest.mark.parametrize(("make", "given", "expected"), LAYERS)
class TestEveryLayer:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, make, given, expected, dtype):
        """The output has the input's type, is near the fp64 one, and gradients are finite."""
        exact = built(make)
        layer = copy.deepcopy(exact).to(dtype)
        y = layer(inputs(given).to(dtype))
        y.float().sum().backward()
        assert y.dtype is dtype
        assert all(bool(p.grad.isfinite().all()) for p in layer.parameters())
        assert torch.allclose(y.double(), exact(inputs(given)), rtol=0.1, atol=0.05)

    def test_autocast(self, make, given, expected):
        """Under autocast the output is half precision, as that of the torch layer."""
        layer = make()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(inputs(given).float()).dtype is torch.bfloat16

    def test_vmap_and_grad(self, make, given, expected):
        """Per-sample gradients by torch.func are those of a loop."""
        layer, x = built(make), inputs(given)
        parameters = dict(layer.named_parameters())

        def loss(parameters, sample):
            return functional_call(layer, parameters, (sample.unsqueeze(0),)).sum()

        batched = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
        for i, sample in enumerate(x):
            single = grad(loss)(parameters, sample)
            assert all(torch.allclose(batched[name][i], single[name]) for name in parameters)

    def test_compiles_and_exports(self, make, given, expected):
        """`torch.compile(fullgraph=True)` and `torch.export` give the same outputs and gradients."""
        layer, x = built(make), inputs(given)
        expected_y = layer(x)
        expected_y.sum().backward()
        gradients = [p.grad.clone() for p in layer.parameters()]
        layer.zero_grad()
        y = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
        y.sum().backward()
        assert torch.allclose(y, expected_y)
        assert all(torch.allclose(p.grad, g) for p, g in zip(layer.parameters(), gradients, strict=True))
        assert torch.allclose(torch.export.export(layer, (x,), strict=True).module()(x), expected_y)

    def test_unbatched_input(self, make, given, expected):
        """A single sample gives what it gives in a batch."""
        layer, x = built(make), inputs(given)
        assert torch.allclose(layer(x[0]), layer(x)[0])

    def test_an_empty_batch(self, make, given, expected):
        """No samples, no outputs, no error."""
        assert built(make)(inputs(given)[:0]).shape == (0, *expected[1:])

    def test_initialisation_is_deterministic(self, make, given, expected):
        """The same random state gives the same parameters; alpha is 1 and the bias within its bounds."""
        with torch.random.fork_rng():
            torch.manual_seed(3)
            one = make()
            torch.manual_seed(3)
            other = make()
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        assert one.alpha.item() == 1
        assert one.bias.abs().max() <= 1 / math.sqrt(one.weight.numel() / units_of(one))

    def test_meta(self, make, given, expected):
        """On the meta device shapes are known and nothing is allocated."""
        with torch.device("meta"):
            layer = make()
        assert layer(torch.empty(given, device="meta")).shape == expected

    def test_the_result_can_be_changed_in_place(self, make, given, expected):
        """What stands behind may work in place."""
        layer = built(make)
        y = F.relu(layer(inputs(given)), inplace=True)
        y.sum().backward()
        assert layer.weight.grad is not None

    def test_drop_connect_acts_in_training_alone(self, make, given, expected):
        """Weights are left out while training; evaluation is deterministic."""
        layer, x = built(make, drop_connect=0.5), inputs(given)
        assert not torch.equal(layer(x), layer(x))
        layer.eval()
        assert torch.equal(layer(x), layer(x))

    def test_a_plain_checkpoint_loads(self, make, given, expected):
        """A torch layer's state loads; alpha and offset keep their values, a missing weight is an error."""
        layer = built(make, offset=True)
        plain = {"weight": torch.zeros_like(layer.weight), "bias": torch.zeros_like(layer.bias)}
        alpha = layer.alpha.clone()
        layer.load_state_dict(plain)
        assert torch.equal(layer.alpha, alpha)
        assert plain.keys() == {"weight", "bias"}
        with pytest.raises(RuntimeError, match="weight"):
            layer.load_state_dict({"bias": plain["bias"]})


GEOMETRIES = [
    pytest.param({"stride": 2, "padding": 1}, id="strided"),
    pytest.param({"dilation": 2, "padding": 2}, id="dilated"),
    pytest.param({"groups": 4}, id="depthwise"),
    pytest.param({"padding": "same", "dilation": 2}, id="same"),
    pytest.param({"padding": (0, 2), "stride": (2, 1)}, id="uneven"),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
class TestGeometry:
    def test_is_the_formula_on_patches(self, geometry):
        """Each geometry of a convolution scores the patches that the convolution sees."""
        layer, x = built(lambda **o: YatConv2d(4, 8, 3, **geometry, **o)), inputs((2, 4, 9, 9))
        assert torch.allclose(layer(x), by_formula(layer, x), rtol=1e-9)

    def test_channels_last(self, geometry):
        """In the channels-last format values and gradients are the same, and the output is channels-last."""
        layer, x = built(lambda **o: YatConv2d(4, 8, 3, **geometry, **o)), inputs((2, 4, 9, 9))
        expected = layer(x)
        expected.sum().backward()
        gradient = layer.weight.grad.clone()
        layer.zero_grad()
        y = layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        y.sum().backward()
        assert torch.allclose(y, expected)
        assert torch.allclose(layer.weight.grad, gradient)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes(mode):
    """The input is padded first, as torch's convolutions do it."""
    layer, x = built(lambda **o: YatConv2d(4, 8, 3, padding=1, padding_mode=mode, **o)), inputs((2, 4, 6, 6))
    bare = built(lambda **o: YatConv2d(4, 8, 3, **o))
    bare.load_state_dict(layer.state_dict())
    assert torch.allclose(layer(x), bare(F.pad(x, (1, 1, 1, 1), mode=mode)))


BAD = [
    pytest.param(lambda: YatLinear(0, 3), "sizes must be positive, got 0 → 3", id="no inputs"),
    pytest.param(lambda: YatConv2d(3, 0, 3), "channels must be positive, got 3 → 0", id="no channels"),
    pytest.param(
        lambda: YatLinear(4, 3, bias_mode="in"), "bias_mode must be 'pre' or 'post'", id="bias_mode"
    ),
    pytest.param(lambda: YatLinear(4, 3, alpha="some"), "alpha must be one of", id="alpha"),
    pytest.param(lambda: YatLinear(4, 3, epsilon=0.0), "epsilon must be positive, got 0.0", id="epsilon"),
    pytest.param(
        lambda: YatLinear(4, 3, drop_connect=1.0), r"drop_connect must be in \[0, 1\)", id="drop_connect"
    ),
    pytest.param(
        lambda: YatLinear(4, 3, alpha="none", per_unit=True), "per_unit must come with", id="per_unit"
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_arguments_are_refused(make, message):
    """The constructor says what must hold, and what was given."""
    with pytest.raises(ValueError, match=message):
        make()


def test_the_representation_shows_what_differs():
    """Options at their default are left out."""
    assert repr(YatLinear(4, 3)) == "YatLinear(in_features=4, out_features=3, bias=True)"
    assert "offset=True" in repr(YatLinear(4, 3, offset=True))
    assert "bias_mode=post" in repr(YatConv2d(4, 3, 1, bias_mode="post"))


def test_epsilon_is_exactly_what_was_given():
    """A number stays that number, whatever the type of the parameters."""
    assert YatLinear(4, 3, epsilon=1e-5).half().epsilon == 1e-5
    layer = YatLinear(4, 3, epsilon=1e-5, learnable_epsilon=True, dtype=torch.float64)
    assert math.isclose(F.softplus(layer.raw_epsilon).item(), 1e-5, rel_tol=1e-9)


def test_familiar_name():
    """`YatNMN` is `YatLinear`."""
    assert YatNMN is YatLinear
