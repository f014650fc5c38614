"""The composers as modules, and the convolutions whose kernels they make."""

import copy
import pickle

import pytest
import torch
from torch.nn import functional as F

from bioconvert.functional.kernel_folding import kernels_from
from bioconvert.layers import (
    DynamicConv2dDelta,
    DynamicConv2dMobius,
    TensorComposerDelta,
    TensorComposerMobius,
    WeightsLib2DDelta,
    WeightsLib2DMobius,
)
from bioconvert.layers.composer import composer_named

LENGTH = 5
SMALL = {"n_subspaces": 2, "rank_subspace": 3, "rank_transformations": 4}
LAYERS = [
    pytest.param(DynamicConv2dDelta, {"rank": 3}, id="Delta"),
    pytest.param(DynamicConv2dMobius, SMALL, id="Mobius"),
    pytest.param(DynamicConv2dMobius, {**SMALL, "bias_static": 0.5}, id="Mobius, static bias"),
]
every = pytest.mark.parametrize(("kind", "options"), LAYERS)


def made(kind, options, dtype=None, **sizes):
    torch.manual_seed(0)
    layer = kind(4, 6, LENGTH, **{"padding": 1, **options, **sizes}, dtype=dtype).eval()
    return layer, torch.randn(2, 4, 7, 8, dtype=dtype), torch.randn(2, LENGTH, dtype=dtype)


def by_formula(layer, x, context):
    """Convolve sample by sample with torch's own convolutions."""
    tensors = {**layer._parameters, **layer._buffers}
    matrices = layer.weights_lib(context)
    if tensors.get("bias_dynamic_weights_lib") is not None:
        matrices = matrices + tensors["bias_dynamic_weights_lib"]
    zero = x.new_zeros(1)
    offset = zero if tensors.get("offset_dynamic_value") is None else tensors["offset_dynamic_value"]
    value = zero if layer.padding_dynamic_value is None else layer.padding_dynamic_value.detach()
    bias = sum(
        tensors[key] for key in ("bias_dynamic_conv", "bias_static_buffer") if tensors.get(key) is not None
    )
    outputs = []
    for sample, kernel in zip(x + offset, kernels_from(matrices, layer.kernel_shape), strict=True):
        if layer.transpose:
            left, right, top, bottom = layer.padding
            y = F.conv_transpose2d(
                sample[None],
                kernel,
                None,
                layer.stride,
                0,
                layer.output_padding,
                layer.groups,
                layer.dilation,
            )
            y = y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]
        elif layer.padding_mode == "zeros":
            padded = F.pad(sample[None], layer.padding, value=value.item())
            y = F.conv2d(padded, kernel, None, layer.stride, 0, layer.dilation, layer.groups)
        else:
            padded = F.pad(sample[None], layer.padding, mode=layer.padding_mode)
            y = F.conv2d(padded, kernel, None, layer.stride, 0, layer.dilation, layer.groups)
        outputs.append(y + (bias.view(-1, 1, 1) if isinstance(bias, torch.Tensor) else bias))
    return torch.cat(outputs) - offset


SIZES = [
    {},
    {"padding": 0},
    {"padding": (0, 2), "stride": (1, 2), "kernel_size": (1, 5)},
    {"padding": (0, 1, 2, 3)},
    {"padding": (0, 1, 2, 3), "padding_dynamic": False},
    {"padding_dynamic": False},
    {"groups": 2, "dilation": 2, "padding": 2},
    *({"padding_mode": mode} for mode in ("reflect", "replicate", "circular")),
    {"transpose": True, "stride": 2, "output_padding": 1},
    {"transpose": True, "stride": 2, "padding": (0, 1, 1, 2), "groups": 2},
]


@every
class TestEveryComposedConvolution:
    @pytest.mark.parametrize("sizes", SIZES, ids=str)
    def test_values_are_those_of_one_convolution_per_sample(self, kind, options, sizes):
        """Each sample is convolved with the kernels of its own context, padding value and offset included."""
        layer, x, context = made(kind, options, torch.float64, **sizes)
        torch.testing.assert_close(layer(x, context), by_formula(layer, x, context))

    def test_every_tensor_learns(self, kind, options):
        """Every parameter, the input and the context get a finite gradient that is not zero."""
        layer, x, context = made(kind, options)
        layer.train()
        wanted = (x.requires_grad_(), context.requires_grad_(), *layer.parameters())
        for grad in torch.autograd.grad(layer(x, context).square().sum(), wanted):
            assert grad.isfinite().all()
            assert grad.any()

    def test_a_shared_context_is_composed_once(self, kind, options):
        """One context for the whole batch gives what the same context for each sample gives."""
        layer, x, context = made(kind, options)
        shared, composed = context[:1], []
        layer.weights_lib.register_forward_hook(lambda module, given, output: composed.append(len(output)))
        torch.testing.assert_close(layer(x, shared), layer(x, shared.expand(2, -1)))
        assert composed == [1, 2]

    def test_compiles_as_one_graph(self, kind, options):
        """`torch.compile(fullgraph=True)` gives the same outputs."""
        layer, x, context = made(kind, options)
        compiled = torch.compile(layer, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x, context), layer(x, context))

    @pytest.mark.slow
    def test_compiled_gradients_are_the_same(self, kind, options):
        """`torch.compile(fullgraph=True)` gives the same outputs and gradients."""
        layer, x, context = made(kind, options)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, context), layer(x, context))
        parameters = list(layer.parameters())
        found = torch.autograd.grad(compiled(x, context).square().sum(), parameters)
        expected = torch.autograd.grad(layer(x, context).square().sum(), parameters)
        for each, other in zip(found, expected, strict=True):
            torch.testing.assert_close(each, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))

    def test_exports(self, kind, options):
        """`torch.export` gives the same outputs."""
        layer, x, context = made(kind, options)
        exported = torch.export.export(layer, (x, context)).module()
        torch.testing.assert_close(exported(x, context), layer(x, context))

    def test_traces(self, kind, options):
        """A user's own `symbolic_trace` gives the same outputs."""
        layer, x, context = made(kind, options)
        torch.testing.assert_close(torch.fx.symbolic_trace(layer)(x, context), layer(x, context))

    @pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
    def test_copies_and_pickles(self, kind, options, again):
        """A deep copy and a pickled layer give the same outputs."""
        layer, x, context = made(kind, options)
        assert torch.equal(again(layer)(x, context), layer(x, context))

    def test_state_dict_round_trip(self, kind, options):
        """A layer that loads another's state gives its outputs: nothing is kept beside the state."""
        layer, x, context = made(kind, options)
        other = kind(4, 6, LENGTH, padding=1, **options).eval()
        other.load_state_dict(layer.state_dict())
        assert torch.equal(other(x, context), layer(x, context))

    def test_seed_decides_the_first_values(self, kind, options):
        """The same seed of torch gives the same first values, another seed others."""
        first, second = (made(kind, options)[0].state_dict() for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)
        torch.manual_seed(1)
        third = kind(4, 6, LENGTH, padding=1, **options).state_dict()
        assert not torch.equal(first["padding_dynamic_value"], third["padding_dynamic_value"])

    def test_has_shapes_on_the_meta_device(self, kind, options):
        """On the meta device it has the shapes of its tensors and of its output, and no values."""
        layer = kind(4, 6, LENGTH, padding=1, **options, device="meta").eval()
        assert all(tensor.is_meta for tensor in layer.state_dict().values())
        x, context = torch.empty(2, 4, 7, 8, device="meta"), torch.empty(2, LENGTH, device="meta")
        assert layer(x, context).shape == (2, 6, 7, 8)

    def test_gives_the_type_of_its_input(self, kind, options):
        """Weights of another type, such as bf16 ones of the reference, are no obstacle."""
        layer, x, context = made(kind, options)
        assert layer.bfloat16()(x, context).dtype == torch.float32

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_keeps_the_type(self, kind, options, dtype):
        """The output has the type of the input and the layer."""
        layer, x, context = made(kind, options, dtype)
        output = layer(x, context)
        assert output.dtype == dtype
        assert output.isfinite().all()

    def test_runs_under_autocast(self, kind, options):
        """Under autocast the output has its type and stays near that of full precision."""
        layer, x, context = made(kind, options)
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x, context)
        expected = layer(x, context)
        assert (found.float() - expected).norm() < 0.03 * expected.norm()

    def test_wrong_contexts_are_refused(self, kind, options):
        """A context of another length is refused with the shape that is wanted."""
        layer, x, _ = made(kind, options)
        with pytest.raises(ValueError, match=r"context must have the shape \[batch, 5\], got \[2, 3\]"):
            layer(x, torch.zeros(2, 3))

    @pytest.mark.parametrize(
        ("sizes", "message"),
        [
            ({"groups": 3}, "groups must divide the channels, got 3 for 4 and 6"),
            ({"padding": (1, 2, 3)}, "padding must be one, two or four non-negative numbers"),
            ({"stride": 0}, "stride must be one or two numbers of at least 1, got 0"),
            ({"padding_mode": "mirror"}, "padding_mode must be one of"),
            ({"padding_mode": "reflect", "transpose": True}, "has only padding_mode='zeros'"),
            ({"output_padding": 1}, "output_padding needs transpose=True"),
        ],
    )
    def test_bad_sizes_are_refused(self, kind, options, sizes, message):
        """A size out of bounds is refused with the invariant and the value."""
        with pytest.raises(ValueError, match=message):
            made(kind, options, **sizes)


def test_state_names_of_delta_are_those_of_the_reference():
    """Delta's state has the reference's names and shapes."""
    state = DynamicConv2dDelta(16, 32, 8, padding=1).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        "padding_dynamic_value": (1,),
        "weights_lib.context_transform.weight": (106, 8),
        "weights_lib.context_transform.bias": (106,),
        "weights_lib.weights": (1, 4, 2, 2, 96, 48, 2),
        "weights_lib.extras": (1,),
    }


def test_state_names_of_mobius_are_those_of_the_reference():
    """Möbius' state has the reference's names and shapes."""
    state = DynamicConv2dMobius(16, 32, 8, padding=1, bias_static=0.1).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        "padding_dynamic_value": (1,),
        "offset_dynamic_value": (1,),
        "bias_dynamic_weights_lib": (1, 96, 48),
        "bias_dynamic_conv": (32,),
        "bias_static_buffer": (1,),
        "weights_lib.context_transform.weight": (64, 8),
        "weights_lib.context_transform.bias": (64,),
        "weights_lib.space_i": (1, 16, 16, 96, 2),
        "weights_lib.space_j": (1, 16, 16, 48, 2),
        "weights_lib.inversions": (1, 16, 1, 1, 2),
        "weights_lib.direct_G_Re": (34, 16, 16, 16),
        "weights_lib.direct_G_Im": (34, 16, 16, 16),
        "weights_lib.w_mix": (16, 256, 2),
        "weights_lib.projections": (1, 16, 96, 48, 2),
    }


def test_plain_biases_can_be_left_out():
    """Without dynamic biases, offset and padding value, only the composer has tensors."""
    layer = DynamicConv2dMobius(
        4, 6, LENGTH, padding=1, padding_dynamic=False, bias_dynamic=False, offset_dynamic=False, **SMALL
    )
    assert all(key.startswith("weights_lib.") for key in layer.state_dict())


@pytest.mark.parametrize("sizes", [{"padding": 0}, {"padding_mode": "reflect"}, {"transpose": True}])
def test_a_padding_value_exists_only_where_zeros_are_padded(sizes):
    """There is no padding value where nothing would be padded, or something else."""
    assert made(DynamicConv2dDelta, {}, **sizes)[0].padding_dynamic_value is None


def test_old_names_are_the_same_classes():
    """The reference's older names stand for the same composers."""
    assert WeightsLib2DDelta is TensorComposerDelta
    assert WeightsLib2DMobius is TensorComposerMobius


def test_projections_start_as_dirichlet_rows():
    """The real parts of the projections are positive and sum to one along each row."""
    real = TensorComposerMobius(8, 6, 9, **SMALL).projections[..., 0]
    assert (real >= 0).all()
    torch.testing.assert_close(real.sum(-1), torch.ones(1, 2, 6))


def test_training_noise_is_only_in_training():
    """Delta varies from call to call in training, and not in use."""
    composer, context = TensorComposerDelta(8, 6, 9), torch.randn(2, 8)
    assert not torch.equal(composer(context), composer(context))
    assert torch.equal(composer.eval()(context), composer(context))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be positive, got 0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"noise": -1.0}, "noise must not be negative, got -1.0"),
        ({"context_length": 0}, "context_length must be positive, got 0"),
    ],
)
def test_bad_options_of_delta_are_refused(options, message):
    """An option out of bounds is refused with the invariant and the value."""
    with pytest.raises(ValueError, match=message):
        TensorComposerDelta(**{"context_length": 8, "rows": 6, "cols": 9, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_subspaces": 0}, "n_subspaces must be positive, got 0"),
        ({"asymmetry": 0.0}, "asymmetry must be positive, got 0.0"),
    ],
)
def test_bad_options_of_mobius_are_refused(options, message):
    """An option out of bounds is refused with the invariant and the value."""
    with pytest.raises(ValueError, match=message):
        TensorComposerMobius(8, 6, 9, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("delto", {}, "there is no composer named 'delto'. Did you mean 'delta'"),
        ("delta", {"ranks": 3}, "composer 'delta' has no option 'ranks'. Did you mean 'rank'"),
    ],
)
def test_unknown_composers_and_options_are_refused(name, options, message):
    """An unknown name says what is known and what may have been meant."""
    with pytest.raises(ValueError, match=message):
        composer_named(name, options)


def test_no_index_is_kept_beside_the_state():
    """How kernels are cut out of a matrix follows from the sizes: a layer keeps no index of them."""
    layer = DynamicConv2dDelta(256, 256, 8, device="meta")
    kept = [value for module in layer.modules() for value in vars(module).values()]
    assert not any(isinstance(value, torch.Tensor) for value in kept)
