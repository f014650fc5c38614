"""Initialising Yat layers from one batch."""

import copy
import logging
import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.layers import (
    YatConv1d,
    YatConv2d,
    YatConv3d,
    YatConvTranspose2d,
    YatEmbedding,
    YatLinear,
    fresh_values,
    initialise,
)

FULL = {"per_unit": True, "offset": True}
LAYERS = [
    pytest.param(lambda **o: YatLinear(12, 6, **o), (400, 12), id="YatLinear"),
    pytest.param(lambda **o: YatLinear(12, 1, **o), (20, 20, 12), id="YatLinear, one unit"),
    pytest.param(lambda **o: YatConv1d(4, 6, 3, padding=1, **o), (64, 4, 9), id="YatConv1d"),
    pytest.param(lambda **o: YatConv1d(4, 6, 3, **o), (4, 400), id="YatConv1d, no batch dimension"),
    pytest.param(
        lambda **o: YatConv2d(4, 6, 3, groups=2, padding=1, padding_mode="reflect", **o),
        (32, 4, 5, 5),
        id="YatConv2d, grouped, reflected",
    ),
    pytest.param(lambda **o: YatConv3d(2, 4, 2, stride=2, dilation=2, **o), (24, 2, 6, 6, 6), id="YatConv3d"),
    pytest.param(
        lambda **o: YatConvTranspose2d(4, 6, 4, stride=2, padding=1, groups=2, **o),
        (32, 4, 5, 5),
        id="YatConvTranspose2d",
    ),
    pytest.param(
        lambda **o: YatConvTranspose2d(4, 6, 3, taps="kernel", **o),
        (32, 4, 5, 5),
        id="YatConvTranspose2d, whole kernel",
    ),
]


def batch(shape, seed=0):
    """Give inputs that are neither centred nor of unit size."""
    generator = torch.Generator().manual_seed(seed)
    return 2 + 3 * torch.rand(shape, generator=generator)


def by_unit(layer, y):
    """Give outputs as [n, units]."""
    if not isinstance(layer, nn.Linear):
        y = y.movedim(-len(layer.kernel_size) - 1, -1)
    return y.flatten(0, -2)


def tensors(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("make", "shape"), LAYERS)
class TestEveryLayer:
    def test_outputs_are_standardised(self, make, shape):
        """With α and an offset for each unit, each unit's outputs have zero mean and unit variance."""
        layer, x = make(**FULL), batch(shape)
        assert initialise(layer, x) == ("",)
        y = by_unit(layer, layer(x))
        assert torch.allclose(y.mean(0), torch.zeros(()), atol=1e-3)
        assert torch.allclose(y.std(0, correction=0), torch.ones(()), atol=1e-3)

    def test_weight_is_as_long_as_the_inputs(self, make, shape):
        """The elements of the weight have a variance of ten times ε over the number of features."""
        layer = make(**FULL)
        initialise(layer, batch(shape))
        expected = math.sqrt(10 * layer.epsilon / layer.weight[0].numel())
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.4)

    def test_a_pooled_scale_without_offset(self, make, shape):
        """With one α and no offset, the units' variances are 1 in the mean, and the mean isn't touched."""
        layer, x = make(), batch(shape)
        initialise(layer, x)
        y = by_unit(layer, layer(x))
        assert y.var(0, correction=0).mean().item() == pytest.approx(1, abs=1e-3)
        assert (y >= 0).all()

    def test_is_a_function_of_the_seed(self, make, shape):
        """The same seed gives the same values, whatever the random state; another seed gives others."""
        layers = [make(**FULL) for _ in range(3)]
        for layer, seed in zip(layers, (5, 5, 6), strict=True):
            torch.rand(3)
            initialise(layer, batch(shape), seed=seed)
        first, second, other = map(tensors, layers)
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not torch.equal(first["weight"], other["weight"])

    @pytest.mark.parametrize("value", [0.0, 1.0, -1e4])
    def test_inputs_that_never_vary(self, make, shape, value):
        """Constant inputs, zeros too, give finite values and outputs, and no unit at its dead vertex."""
        layer, x = make(**FULL), torch.full(shape, value)
        initialise(layer, x)
        assert all(tensor.isfinite().all() for tensor in layer.state_dict().values())
        assert 0 < layer.epsilon < math.inf
        y = layer(x.requires_grad_())
        y.sum().backward()
        assert y.isfinite().all()
        assert layer.bias.grad.abs().min() > 0


OPTIONS = [
    pytest.param({}, False, True, id="defaults"),
    pytest.param(FULL, True, True, id="per unit, offset"),
    pytest.param({"offset": True}, True, True, id="offset"),
    pytest.param({"bias": False, **FULL}, True, True, id="no bias"),
    pytest.param({"bias_mode": "post"}, True, True, id="bias behind"),
    pytest.param({"bias_mode": "post", **FULL}, True, True, id="bias behind, offset"),
    pytest.param({"bias_mode": "post", "alpha": 0.5}, True, False, id="bias behind, constant alpha"),
    pytest.param({"bias_mode": "post", "alpha": 0.0}, False, False, id="bias behind, zero alpha"),
    pytest.param({"alpha": "none"}, False, False, id="no alpha"),
    pytest.param({"alpha": "none", "offset": True}, True, False, id="no alpha, offset"),
    pytest.param({"alpha": math.sqrt(2), "offset": True}, True, False, id="constant alpha, offset"),
    pytest.param({"alpha": "exponent", **FULL}, True, True, id="exponent per unit"),
    pytest.param({"alpha": "exponent"}, False, True, id="exponent"),
    pytest.param({"learnable_epsilon": True, **FULL}, True, True, id="learnable epsilon"),
    pytest.param({"spherical": True, **FULL}, True, True, id="spherical"),
    pytest.param({"weight_normalized": True, **FULL}, True, True, id="weight-normalized"),
    pytest.param({"softplus_bias": True, **FULL}, True, True, id="softplus bias"),
    pytest.param({"scalar_bias": True, **FULL}, True, True, id="scalar bias"),
    pytest.param({"constant_bias": 0.5, **FULL}, True, True, id="constant bias"),
    pytest.param({"freeze_kernel": True, **FULL}, True, True, id="frozen kernel"),
    pytest.param({"drop_connect": 0.5, **FULL}, True, True, id="drop_connect"),
]


@pytest.mark.parametrize(("options", "centred", "scaled"), OPTIONS)
@pytest.mark.parametrize(("make", "shape"), [LAYERS[0], LAYERS[4]])
class TestEveryOption:
    def test_gives_what_it_allows(self, make, shape, options, centred, scaled):
        """Outputs are centred where something can be added, and scaled where α is learnt."""
        layer, x = make(**options), batch(shape)
        initialise(layer, x)
        y = by_unit(layer, layer.eval()(x))
        assert (y.mean(0).abs().max().item() < 2e-3) == (centred or not y.any())
        if scaled:
            assert y.var(0, correction=0).mean().item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("options", [{}, {"weight_normalized": True}], ids=["plain", "weight-normalized"])
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_the_vertex_is_three_deviations_below_the_mean(make, shape, options):
    """The mean score of each unit, bias included, is three times its deviation."""
    layer, x = make(**options), batch(shape)
    initialise(layer, x)
    layer.weight.data = layer._effective_weight().detach()
    layer.__class__ = next(c for c in type(layer).__mro__ if c.__module__.startswith("torch.nn"))
    scores = by_unit(layer, layer(x))
    assert torch.allclose(scores.mean(0), 3 * scores.std(0, correction=0), rtol=1e-3)


class Branches(nn.Module):
    """Two uses of one layer, an unused one, and keyword arguments."""

    def __init__(self):
        super().__init__()
        self.shared = YatLinear(8, 8, **FULL)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.out = YatLinear(8, 3, **FULL)
        self.idle = YatLinear(8, 3)

    def forward(self, x, *, twice=False):
        h = self.drop(self.norm(self.shared(x)))
        return self.out(input=self.shared(h + 5) if twice else h)


class TestModel:
    def test_layers_see_the_outputs_of_those_before(self):
        """In a deep network, the outputs of each layer are standardised on the batch."""
        model = nn.Sequential(*[YatLinear(16, 16, **FULL) for _ in range(12)])
        x = batch((256, 16))
        assert initialise(model, x) == tuple(str(i) for i in range(12))
        for layer in model:
            x = layer(x)
            assert torch.allclose(x.std(0, correction=0), torch.ones(()), atol=1e-3)

    @pytest.mark.parametrize(
        "given", [lambda x: x, lambda x: (x,), lambda x: [x], lambda x: {"x": x, "twice": False}]
    )
    def test_batches_may_be_tensors_tuples_or_dicts(self, given):
        """All forms of a batch give the same values."""
        x, model = batch((64, 8)), Branches()
        twin = copy.deepcopy(model)
        assert initialise(model, given(x)) == initialise(twin, x) == ("shared", "out")
        assert torch.equal(model.out.weight, twin.out.weight)

    def test_a_shared_layer_is_initialised_by_its_first_call(self):
        """A second call in the same pass changes nothing of it."""
        x, model = batch((64, 8)), Branches()
        twin = copy.deepcopy(model)
        initialise(model, {"x": x, "twice": True})
        initialise(twin, {"x": x, "twice": False})
        assert torch.equal(model.shared.bias, twin.shared.bias)
        assert not torch.equal(model.out.bias, twin.out.bias)

    def test_a_tied_weight_is_drawn_once(self):
        """The second of two layers with one weight keeps what was drawn for the first."""
        model = nn.Sequential(YatLinear(8, 8, **FULL), YatLinear(8, 8, **FULL))
        alone = YatLinear(8, 8, **FULL)
        model[1].weight = model[0].weight
        x = batch((128, 8))
        initialise(model, x)
        initialise(nn.Sequential(alone), x)
        assert torch.equal(model[0].weight, alone.weight)
        assert torch.allclose(model(x).std(0, correction=0), torch.ones(()), atol=1e-3)

    def test_a_shared_bank_of_kernels(self):
        """Layers that share a bank are standardised on one drawing of it."""
        bank = nn.Parameter(torch.zeros(12, 8))
        model = nn.Sequential(*[YatLinear(8, 8, kernel_bank=bank, **FULL) for _ in range(2)])
        x = batch((128, 8))
        initialise(model, x)
        assert model[0].weight is model[1].weight
        assert bank.std(1).min().item() > 0.5
        assert torch.allclose(model(x).std(0, correction=0), torch.ones(()), atol=1e-3)

    def test_masked_weights(self):
        """What a mask leaves of the weight counts."""
        mask = torch.ones(4, 8)
        mask[:, ::2] = 0
        layer, x = YatLinear(8, 4, mask=mask, **FULL), batch((128, 8))
        initialise(layer, x)
        assert torch.allclose(layer(x).std(0, correction=0), torch.ones(()), atol=1e-3)

    def test_an_embedding_is_left_as_it_is(self):
        """A layer that looks rows up is not drawn anew."""
        model = nn.Sequential(YatEmbedding(10, 8), YatLinear(8, 4, **FULL))
        rows = model[0].weight.clone()
        assert initialise(model, torch.arange(10)) == ("1",)
        assert torch.equal(model[0].weight, rows)

    def test_layers_that_never_ran_are_named(self, caplog):
        """A layer that the model doesn't call is left alone, with a warning."""
        model = Branches()
        before = tensors(model.idle)
        with caplog.at_level(logging.WARNING, "bioconvert"):
            initialise(model, batch((64, 8)))
        assert "didn't call them: idle" in caplog.text
        assert all(torch.equal(before[name], value) for name, value in model.idle.state_dict().items())

    def test_leaves_no_other_trace(self):
        """Train flags, batch statistics, gradients, hooks and the random state stay."""
        model = Branches()
        model.drop.eval()
        model(batch((4, 8))).sum().backward()
        gradient, statistics = model.out.weight.grad.clone(), model.norm.running_mean.clone()
        flags = [module.training for module in model.modules()]
        state = torch.get_rng_state()
        initialise(model, batch((64, 8)))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(model.out.weight.grad, gradient)
        assert torch.equal(model.norm.running_mean, statistics)
        assert model.norm.num_batches_tracked == 1
        assert [module.training for module in model.modules()] == flags
        assert not model.shared._forward_pre_hooks
        assert model.out.weight.requires_grad

    @pytest.mark.parametrize("training", [True, False])
    def test_batch_normalisations_keep_their_mode(self, training):
        """In a model in training they normalise by the batch, otherwise by what they have gathered."""
        model = nn.Sequential(nn.BatchNorm1d(8), YatLinear(8, 4, **FULL)).train(training)
        x = batch((64, 8))
        initialise(model, x)
        squared = F.batch_norm(x, torch.zeros(8), torch.ones(8), training=training).square().sum(1).mean()
        assert model[1].epsilon == pytest.approx(0.1 * squared.item(), rel=1e-4)

    def test_an_epsilon_buffer_stays_one(self):
        """A layer whose ε is a buffer, as after a conversion, gets its new value there."""
        layer = YatLinear(8, 4, **FULL)
        del layer.epsilon
        layer.register_buffer("epsilon", torch.ones(1))
        x = batch((64, 8))
        initialise(nn.Sequential(layer), x)
        assert layer.epsilon.shape == (1,)
        assert layer.epsilon.item() == pytest.approx(0.1 * x.square().sum(1).mean().item(), rel=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_keeps_types(self, dtype):
        """Layers of another type are initialised in it."""
        layer = YatLinear(8, 4, **FULL).to(dtype)
        initialise(layer, batch((256, 8)).to(dtype))
        assert {parameter.dtype for parameter in layer.parameters()} == {dtype}
        assert layer(batch((256, 8)).to(dtype)).double().std().item() == pytest.approx(1, abs=0.1)

    def test_a_compiled_model(self):
        """A compiled model is initialised as the model itself is."""
        model = nn.Sequential(YatLinear(8, 8, **FULL), YatLinear(8, 4, **FULL))
        twin, x = copy.deepcopy(model), batch((64, 8))
        compiled = torch.compile(model, backend="eager")
        compiled(x)
        initialise(model, x)
        initialise(twin, x)
        assert torch.allclose(compiled(x), twin(x), atol=1e-5)


def weight_normed():
    """Give a layer with torch's older kind of weight normalisation, a hook."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(YatLinear(8, 4))


class TestBadInput:
    @pytest.mark.parametrize(
        ("make", "given", "expected"),
        [
            (lambda: nn.Linear(8, 4), torch.ones(3, 8), "no Yat layer"),
            (lambda: YatLinear(8, 4, device="meta"), torch.ones(3, 8), "meta device"),
            (lambda: YatLinear(8, 4), torch.ones(3, 7), "the model fails on the batch"),
            (lambda: YatLinear(8, 4), {"z": torch.ones(3, 8)}, "the model fails on the batch"),
            (lambda: YatLinear(8, 4), torch.full((3, 8), math.nan), "aren't finite"),
            (lambda: nn.utils.parametrizations.spectral_norm(YatLinear(8, 4)), torch.ones(3, 8), "computed"),
            (weight_normed, torch.ones(3, 8), "the weight of the model is computed"),
        ],
    )
    def test_says_what_is_wrong(self, make, given, expected):
        """Whatever can't be initialised is a ValueError that says why."""
        with pytest.raises(ValueError, match=expected):
            initialise(make(), given)

    def test_no_layer_called(self):
        """A model that calls none of its Yat layers is an error."""
        model = nn.Identity()
        model.idle = YatLinear(8, 4)
        with pytest.raises(ValueError, match="none of the model's Yat layers"):
            initialise(model, torch.ones(3, 8))

    def test_an_error_changes_nothing(self):
        """When the model fails behind an initialised layer, that layer has its old values again."""
        model = nn.Sequential(YatLinear(8, 4, **FULL), nn.Linear(5, 5), YatLinear(5, 5)).train()
        before = tensors(model)
        with pytest.raises(ValueError, match="the model fails on the batch"):
            initialise(model, torch.rand(16, 8))
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert model[0].epsilon == 1e-5
        assert model[0].training


class TestFreshValues:
    def test_is_what_a_layer_is_given(self):
        """The values of the pure function are those that ``initialise`` finds for a plain layer."""
        layer, x = YatLinear(12, 6, **FULL), batch((200, 12))
        initialise(layer, x)
        directions = layer.weight.detach() / math.sqrt(10 * layer.epsilon / 12)
        values = fresh_values(directions, x @ directions.t(), x.square().sum(1))
        assert values.epsilon == pytest.approx(layer.epsilon)
        for name in ("weight", "bias", "alpha", "offset"):
            found = getattr(values, name).float()
            assert torch.allclose(found, getattr(layer, name), rtol=1e-3, atol=1e-5), name

    def test_inputs_that_never_vary(self):
        """Constant and zero inputs give finite values."""
        for x in (torch.zeros(5, 3), torch.ones(5, 3)):
            values = fresh_values(torch.eye(3), x @ torch.eye(3), x.square().sum(1))
            assert all(torch.as_tensor(value).isfinite().all() for value in values)
