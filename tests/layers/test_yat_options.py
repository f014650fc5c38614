"""From options to attributes and parameters, and what layers built of these bear."""

import inspect
import math

import pytest
import torch
from torch import fx, nn
from torch.utils.checkpoint import checkpoint

from bioconvert.layers import YatConv2d, YatConvTranspose2d, YatLinear, yat_attributes, yat_parameters
from bioconvert.layers.yat_options import YatOptions


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"alpha": ((1,), 1.0)}),
        ({"alpha": "exponent"}, {"alpha": ((1,), 1.0)}),
        ({"per_unit": True, "offset": True}, {"alpha": ((5,), 1.0), "offset": ((5,), 0.0)}),
        ({"alpha": "none"}, {}),
        ({"alpha": 2.0}, {}),
        (
            {"alpha": 2.0, "per_unit": True, "learnable_epsilon": True, "epsilon": math.log(2)},
            {"raw_epsilon": ((5,), pytest.approx(0))},
        ),
    ],
)
def test_parameters_follow_from_the_options(options, expected):
    """Each option that is learnt has a parameter, of one number or one for each unit."""
    assert yat_parameters(5, **options) == expected
    layer = YatLinear(4, 5, **options)
    assert {
        name: tuple(p.shape) for name, p in layer.named_parameters() if name not in ("weight", "bias")
    } == {name: shape for name, (shape, _) in expected.items()}


def test_attributes_are_plain_values():
    """What an instance holds could be written as JSON."""
    attributes = yat_attributes(alpha=2.0, constant_bias=0.0, taps="kernel")
    assert all(isinstance(value, str | float | bool) for value in attributes.values())
    assert attributes["constant_bias"] == 0.0


@pytest.mark.parametrize("epsilon", [1e-5, 1e-2, 3.0])
def test_learnable_epsilon_starts_from_the_number_given(epsilon):
    """The softplus of the parameter is that number."""
    (shape, value), *_ = (yat_parameters(3, learnable_epsilon=True, epsilon=epsilon)["raw_epsilon"],)
    assert shape == (1,)
    assert nn.functional.softplus(torch.tensor(value, dtype=torch.float64)).item() == pytest.approx(epsilon)


@pytest.mark.parametrize("shape", [(1,), (3,)])
def test_epsilon_may_be_a_buffer(shape):
    """A buffer of that name takes the place of the attribute."""
    layer, x = YatLinear(4, 3, epsilon=0.5), torch.randn(2, 4)
    expected = layer(x)
    del layer.epsilon
    layer.register_buffer("epsilon", torch.full(shape, 0.5))
    torch.testing.assert_close(layer(x), expected)


def test_the_exponent_is_that_of_the_first_generation():
    """(√K / ln(1 + K))ᵅ scales quotient and bias alike."""
    layer = YatLinear(4, 3, alpha="exponent", bias_mode="post", epsilon=1e-4)
    nn.init.constant_(layer.alpha, 0.7)
    x = torch.randn(5, 4)
    quotient = (x @ layer.weight.t()).square() / ((x[:, None] - layer.weight).square().sum(-1) + 1e-4)
    scale = (math.sqrt(3) / math.log(4)) ** 0.7
    torch.testing.assert_close(layer(x), scale * (quotient + layer.bias))


def test_a_checkpoint_without_the_weight_does_not_load():
    """Weight and bias are no additions."""
    with pytest.raises(RuntimeError, match=r'Missing key.*"weight"'):
        YatLinear(4, 3).load_state_dict({"bias": torch.zeros(3)})


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(YatLinear(4, 3, offset=True), (2, 5, 4)), (YatConv2d(4, 6, 3, padding="same"), (2, 4, 5, 5))],
    ids=["YatLinear", "YatConv2d"],
)
class TestInsideOtherMachinery:
    def test_a_users_own_trace_keeps_the_function_whole(self, layer, shape):
        """torch.fx's tracer sees one call, and the traced module computes the same."""
        x = torch.randn(shape)
        assert torch.equal(fx.symbolic_trace(layer)(x), layer(x))

    def test_checkpointing_gives_the_same_gradient(self, layer, shape):
        """Recomputation in backward changes nothing."""
        x = torch.randn(shape, requires_grad=True)
        found = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).sum(), x)[0]
        assert torch.equal(found, torch.autograd.grad(layer(x).sum(), x)[0])


def test_conv1d_of_transformers_is_a_linear_with_its_weight_transposed(transformers):
    """A Conv1D whose class changes computes what YatLinear computes of the transposed weight."""
    from transformers.pytorch_utils import Conv1D

    from bioconvert.layers.yat_conv1d import YatConv1D

    linear, layer = YatLinear(5, 3), Conv1D(3, 5)
    layer.weight.data, layer.bias.data = linear.weight.data.t().clone(), linear.bias.data
    layer.__class__ = YatConv1D
    vars(layer).update({k: v for k, v in vars(linear).items() if k not in vars(layer)})
    layer.alpha = linear.alpha
    x = torch.randn(2, 4, 5)
    torch.testing.assert_close(layer(x), linear(x))


class TestBias:
    def test_a_scalar_bias_is_one_number(self):
        """A new layer has one bias for all units."""
        layer = YatLinear(4, 3, scalar_bias=True)
        assert layer.bias.shape == (1,)
        x, twin = torch.randn(2, 4), YatLinear(4, 3)
        twin.load_state_dict({**layer.state_dict(), "bias": layer.bias.detach().expand(3)})
        torch.testing.assert_close(layer(x), twin(x))

    def test_the_scalar_bias_of_a_converted_layer_is_the_mean_of_its_own(self):
        """The same Parameter stays, and each of its numbers gets the same gradient."""
        layer, x = YatLinear(4, 3), torch.randn(2, 4)
        bias, twin = layer.bias, YatLinear(4, 3)
        twin.load_state_dict({**layer.state_dict(), "bias": bias.detach().mean().expand(3)})
        layer.scalar_bias = True
        torch.testing.assert_close(layer(x), twin(x))
        layer(x).sum().backward()
        assert layer.bias is bias
        torch.testing.assert_close(bias.grad, bias.grad.mean().expand(3))

    @pytest.mark.parametrize("mode", ["pre", "post"])
    def test_a_constant_bias_is_no_parameter(self, mode):
        """It is a number in the formula, and the layer has no bias to train."""
        layer = YatLinear(4, 3, constant_bias=0.25, bias_mode=mode)
        twin, x = YatLinear(4, 3, bias_mode=mode), torch.randn(2, 4)
        twin.load_state_dict({**layer.state_dict(), "bias": torch.full((3,), 0.25)})
        assert [name for name, _ in layer.named_parameters()] == ["weight", "alpha"]
        torch.testing.assert_close(layer(x), twin(x))

    def test_the_bias_through_a_softplus_is_positive(self):
        """However negative the parameter."""
        layer = YatLinear(4, 3, softplus_bias=True)
        nn.init.constant_(layer.bias, -3.0)
        zero = layer(torch.zeros(1, 4)) * (layer.weight.square().sum(1) + layer.epsilon)
        torch.testing.assert_close(zero.sqrt(), torch.full((1, 3), math.log1p(math.exp(-3.0))))


class TestMask:
    def test_masked_weights_have_no_gradient_and_no_influence(self):
        """What the mask leaves out might have any value."""
        mask = torch.rand(3, 4) > 0.5
        layer, x = YatLinear(4, 3, mask=mask), torch.randn(2, 4)
        expected = layer(x)
        expected.sum().backward()
        assert torch.equal(layer.weight.grad[~mask], torch.zeros(int((~mask).sum())))
        with torch.no_grad():
            layer.weight[~mask] = 7.0
        torch.testing.assert_close(layer(x), expected)

    def test_comes_before_normalisation(self):
        """What is left of a kernel has unit length."""
        mask = torch.tensor([[True, True, False, False]] * 3)
        layer, x = YatLinear(4, 3, mask=mask, weight_normalized=True, bias=False), torch.randn(2, 4)
        rows = nn.functional.normalize(layer.weight * mask, dim=1)
        plain = YatLinear(4, 3, bias=False)
        plain.load_state_dict({"weight": rows.detach(), "alpha": layer.alpha.detach()})
        torch.testing.assert_close(layer(x), plain(x))

    def test_is_saved_and_may_be_lacking(self):
        """It is in the state dict; a checkpoint without it leaves it as it is."""
        mask = torch.rand(3, 4) > 0.5
        layer = YatLinear(4, 3, mask=mask)
        assert torch.equal(layer.state_dict()["mask"], mask)
        layer.load_state_dict(YatLinear(4, 3).state_dict())
        assert torch.equal(layer.mask, mask)

    @pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float64])
    def test_keeps_the_type_of_the_output(self, dtype):
        """A mask of any type leaves the output in the type of the layer."""
        layer = YatLinear(4, 3, mask=torch.ones(3, 4, dtype=dtype)).half()
        assert layer(torch.randn(2, 4).half()).dtype is torch.float16


class TestKernelBank:
    @pytest.mark.parametrize(
        ("make", "shape"),
        [
            (lambda bank: YatLinear(4, 3, kernel_bank=bank), (5, 4)),
            (lambda bank: YatConv2d(4, 6, 3, groups=2, kernel_bank=bank), (8, 2, 3, 3)),
            (lambda bank: YatConvTranspose2d(4, 6, 3, groups=2, kernel_bank=bank), (4, 5, 3, 3)),
        ],
        ids=["YatLinear", "YatConv2d", "YatConvTranspose2d"],
    )
    def test_is_shared(self, make, shape):
        """Layers on one bank train it together; kernels that none of them uses get no gradient."""
        bank = nn.Parameter(torch.randn(shape))
        one, other = make(bank), make(bank)
        assert one.weight is bank
        assert other.weight is bank
        x = torch.randn(2, 4, 5, 5) if len(shape) == 4 else torch.randn(2, 4)
        (one(x).sum() + other(x).sum()).backward()
        dim = 1 if isinstance(one, YatConvTranspose2d) else 0
        used = one.out_channels // one.groups if dim else getattr(one, "out_channels", 3)
        per_kernel = bank.grad.movedim(dim, 0).flatten(1).abs().sum(1)
        assert per_kernel[:used].min() > 0
        assert per_kernel[used:].max() == 0

    def test_of_the_layers_own_size_is_the_weight(self):
        """A bank without a kernel to spare computes what the layer's own weight would."""
        bank, x = nn.Parameter(torch.randn(3, 4)), torch.randn(2, 4)
        layer, plain = YatLinear(4, 3, kernel_bank=bank), YatLinear(4, 3)
        plain.load_state_dict(layer.state_dict())
        assert torch.equal(layer(x), plain(x))


class TestDropConnect:
    def test_is_reproducible(self):
        """The same seed leaves out the same weights."""
        layer, x = YatLinear(8, 6, drop_connect=0.5), torch.randn(2, 8)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            first = layer(x)
            second = layer(x)
            torch.manual_seed(5)
            assert torch.equal(layer(x), first)
        assert not torch.equal(first, second)

    def test_compiles(self):
        """Compiled as a whole, the seed decides too, and what is left out gets no gradient."""
        layer, x = YatLinear(8, 6, drop_connect=0.5), torch.randn(2, 8)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        with torch.random.fork_rng():
            torch.manual_seed(5)
            first = compiled(x)
            torch.manual_seed(5)
            assert torch.equal(compiled(x), first)
        first.sum().backward()
        assert 0 < int((layer.weight.grad == 0).sum()) < 48


@pytest.mark.parametrize(
    "options",
    [
        {"mask": torch.ones(3, 4)},
        {"kernel_bank": nn.Parameter(torch.randn(5, 4))},
        {"spherical": True},
        {"weight_normalized": True},
        {"drop_connect": 0.5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_products_of_the_unaltered_weight_are_refused(options):
    """Where the layer alters its weight, what the linear map gave is of no use to it."""
    layer, x = YatLinear(4, 3, **options), torch.randn(2, 4)
    assert layer.forward_beside(torch.randn(2, 3), None, x) is NotImplemented


@pytest.mark.parametrize(
    "options", [{}, {"softplus_bias": True}, {"scalar_bias": True}, {"constant_bias": 0.3}]
)
def test_products_that_are_known_are_used(options):
    """With any bias, the output from known products is the one that the layer computes itself."""
    layer, x = YatLinear(4, 3, **options).eval(), torch.randn(2, 4)
    inside = torch.randn(3)
    found = layer.forward_beside(x @ layer.weight.t() + inside, inside, x)
    torch.testing.assert_close(found, layer(x))


def test_an_instance_from_before_these_options_works():
    """A layer that lacks their attributes has them at their defaults."""
    layer, x = YatLinear(4, 3), torch.randn(2, 4)
    expected = layer(x)
    for name in ("softplus_bias", "scalar_bias", "freeze_kernel"):
        del vars(layer)[name]
    assert torch.equal(layer(x), expected)
    assert repr(layer) == "YatLinear(in_features=4, out_features=3, bias=True)"


BAD = [
    pytest.param({"constant_bias": 0.1, "softplus_bias": True}, "it can't go with", id="two biases"),
    pytest.param({"constant_bias": 0.1, "scalar_bias": True}, "it can't go with", id="constant and scalar"),
    pytest.param({"constant_bias": math.nan}, "constant_bias must be finite, got nan", id="no number"),
    pytest.param(
        {"bias": False, "softplus_bias": True}, "softplus_bias must come with a bias", id="softplus"
    ),
    pytest.param({"bias": False, "scalar_bias": True}, "scalar_bias must come with a bias", id="scalar"),
    pytest.param(
        {"mask": torch.ones(3, 5)}, r"mask must have the weight's shape \[3, 4\], got \[3, 5\]", id="mask"
    ),
    pytest.param(
        {"kernel_bank": nn.Parameter(torch.ones(2, 4))},
        r"kernel_bank must have the shape \[>= 3, 4\], got \[2, 4\]",
        id="small bank",
    ),
    pytest.param(
        {"kernel_bank": nn.Parameter(torch.ones(3, 5))},
        r"must have the shape \[>= 3, 4\], got \[3, 5\]",
        id="other bank",
    ),
    pytest.param({"kernel_bank": torch.ones(3, 4)}, "must be a Parameter, got a Tensor", id="no Parameter"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_refused(options, message):
    """The constructor says what must hold, and what was given."""
    with pytest.raises(ValueError, match=message):
        YatLinear(4, 3, **options)


@pytest.mark.parametrize(
    ("options", "message"), [({"floor": -1.0}, "floor must be in"), ({"taps": "all"}, "taps")]
)
def test_bad_attributes_are_refused(options, message):
    """What constructors don't take is checked too."""
    with pytest.raises(ValueError, match=message):
        yat_attributes(**options)


def test_the_representation_names_the_tensors_that_are_there():
    """A mask, a bank and a constant show."""
    bank = nn.Parameter(torch.randn(5, 4))
    shown = repr(YatLinear(4, 3, mask=torch.ones(3, 4), kernel_bank=bank, constant_bias=0.5))
    assert all(part in shown for part in ("constant_bias=0.5", "bank_size=5", "mask=True"))


def test_all_layers_take_the_options_of_the_linear_one():
    """The keywords that the convolutions share are those that YatLinear documents."""
    own = set(inspect.signature(YatLinear).parameters)
    assert own - {"in_features", "out_features", "bias", "device", "dtype"} == set(YatOptions.__annotations__)
