"""Reading state dicts with layers of dyna: what tensors tell, what is assumed, and what comes out."""

import json

import pytest
import torch
from dyna_states import LENGTH, POINTS, RANK, SUBSPACES, at, composed, composer, conv, convolved
from torch import nn

from bioconvert.checkpoint.models.assigning import assign
from bioconvert.compat.dyna import LayersOnly, load_layer, read
from bioconvert.compat.dyna.channels import Known, fitting_channels
from bioconvert.compat.dyna.layers_only import arguments_for
from bioconvert.core.errors import ArchitectureError, OptionError
from bioconvert.functional.kernel_folding import folded_shape

PATHS = ["mix", "net.3", "model.blocks.0.attn.weights_lib_of_mine", "a.b.c.d.e"]
every = pytest.mark.parametrize("kind", ["delta", "mobius"])
MOBIUS_SIZES = {"n_subspaces": SUBSPACES, "rank_subspace": RANK, "rank_transformations": POINTS}


def inputs(channels=4):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, channels, 7, 8, dtype=torch.float64, generator=generator)
    return x, torch.randn(2, LENGTH, dtype=torch.float64, generator=generator)


def loaded(imported):
    """Load what was imported into a tree of our layers."""
    model = LayersOnly(**json.loads(json.dumps(arguments_for(imported)))).eval()
    assign(model, imported.state)
    return model


@every
class TestComposers:
    @pytest.mark.parametrize("path", PATHS)
    def test_outputs_are_those_of_the_description(self, kind, path):
        """Under any name, a composer gives the matrices that the published formulas give."""
        tensors, context = composer(kind, 6, 9), inputs()[1]
        module = loaded(read(at(path, tensors))).get_submodule(path)
        expected = composed(kind, tensors, context)
        assert expected.std() > 1e-3
        torch.testing.assert_close(module(context), expected)

    def test_complex_tensors_become_pairs(self, kind):
        """Tensors that hold complex numbers are read as pairs of real ones."""
        tensors, context = composer(kind, 6, 9), inputs()[1]
        pairs = {"weights", "space_i", "space_j", "inversions", "w_mix", "projections"} & tensors.keys()
        theirs = tensors | {name: torch.view_as_complex(tensors[name]) for name in pairs}
        found, expected = (load_layer(state).eval()(context) for state in (theirs, tensors))
        assert torch.equal(found, expected)

    def test_number_formats_stay(self, kind):
        """Tensors in bfloat16, the reference's default, stay in it, and the output is near that of fp64."""
        tensors, context = composer(kind, 6, 9, dtype=torch.bfloat16), inputs()[1]
        imported = read(at("mix", tensors))
        assert {tensor.dtype for tensor in imported.state.values()} == {torch.bfloat16}
        found = loaded(imported).get_submodule("mix")(context.float())
        expected = composed(kind, {name: each.double() for name, each in tensors.items()}, context)
        assert (found.double() - expected).norm() < 1e-3 * expected.norm()


CONVOLUTIONS = [
    pytest.param({}, {"padding": 0}, (0, 0, 0, 0), id="no padding"),
    pytest.param({}, {"padding": 1}, (1, 1, 1, 1), id="padded"),
    pytest.param({}, {"padding": [0, 2], "stride": [1, 2]}, (2, 2, 0, 0), id="two numbers"),
    pytest.param({}, {"padding": [0, 1, 2, 3]}, (0, 1, 2, 3), id="four numbers"),
    pytest.param({"without": ["padding_dynamic_value"]}, {"padding": 1}, (1, 1, 1, 1), id="zeros"),
    pytest.param({}, {"padding": 2, "dilation": 2}, (2, 2, 2, 2), id="dilation"),
]
MORE_OF_MOBIUS = [
    pytest.param({"without": ["offset_dynamic_value"]}, {"padding": 1}, (1, 1, 1, 1), id="no offset"),
    pytest.param(
        {"without": ["bias_dynamic_conv", "bias_dynamic_weights_lib"]},
        {"padding": 1, "out_channels": 6},
        (1, 1, 1, 1),
        id="no bias",
    ),
    pytest.param({"static": 0.75}, {"padding": 1}, (1, 1, 1, 1), id="static bias"),
]


def check_convolution(kind, made, options, sides):
    tensors = conv(kind, 18, 12, 6, **made)
    channels = {"in_channels": 4} if kind == "delta" else {}
    imported = read(at("net.conv", tensors), options={"net.*": options | channels})
    x, context = inputs()
    window = {name: options[name] for name in ("stride", "dilation") if name in options}
    expected = convolved(kind, tensors, x, context, (6, 4, 3, 3), sides=sides, **window)
    torch.testing.assert_close(loaded(imported).get_submodule("net.conv")(x, context), expected)


class TestConvolutions:
    @every
    @pytest.mark.parametrize(("made", "options", "sides"), CONVOLUTIONS)
    def test_outputs_are_those_of_the_description(self, kind, made, options, sides):
        """A convolution gives what the published formulas give, whatever its window."""
        check_convolution(kind, made, options, sides)

    @pytest.mark.parametrize(("made", "options", "sides"), MORE_OF_MOBIUS)
    def test_biases_and_offsets(self, made, options, sides):
        """The biases and the offset of a Möbius convolution are there where their tensors are."""
        check_convolution("mobius", made, options, sides)

    @every
    @pytest.mark.parametrize("padding", [0, [0, 1, 1, 2]])
    def test_transposed(self, kind, padding):
        """A transposed convolution gives what the formulas give; a padding value isn't used in it."""
        tensors = conv(kind, 12, 18, 6)
        options = {"transpose": True, "stride": 2, "output_padding": 1, "padding": padding, "in_channels": 4}
        imported = read(at("up", tensors), options={"up": options})
        assert imported.layers[0].unused == ("padding_dynamic_value",)
        x, context = inputs()
        sides = (0, 0, 0, 0) if padding == 0 else tuple(padding)
        window = {"stride": 2, "output_padding": 1, "transpose": True}
        expected = convolved(kind, tensors, x, context, (4, 6, 3, 3), sides=sides, **window)
        torch.testing.assert_close(loaded(imported).get_submodule("up")(x, context), expected)

    @every
    def test_folded_matrices(self, kind):
        """Kernels are read out of a matrix that was folded towards a square."""
        tensors = conv(kind, 48, 24, 32)
        imported = read(at("conv", tensors), options={"**": {"padding": 0, "in_channels": 4}})
        x, context = inputs()
        expected = convolved(kind, tensors, x, context, (32, 4, 3, 3), sides=(0, 0, 0, 0))
        torch.testing.assert_close(loaded(imported).get_submodule("conv")(x, context), expected)


class TestWhatIsTold:
    def test_delta(self):
        """Shapes tell sizes and rank; the numbers that aren't learnt are assumed."""
        layer = read(composer("delta", 6, 9)).layers[0]
        sizes = {"context_length": LENGTH, "rows": 6, "cols": 9, "rank": RANK}
        assumed = {"repulsion": 0.3, "noise": 0.01, "rank_noise": 0.01, "similarity": 0.1}
        assert (layer.path, layer.becomes, layer.arguments) == ("", "TensorComposerDelta", sizes | assumed)
        assert layer.assumed == tuple(assumed)

    def test_mobius(self):
        """Shapes tell sizes, subspaces, ranks and control points; the floor is assumed."""
        layer = read(composer("mobius", 6, 9), options={"**": {"asymmetry": 0.01}}).layers[0]
        sizes = {"context_length": LENGTH, "rows": 6, "cols": 9, **MOBIUS_SIZES}
        assert (layer.becomes, layer.arguments) == ("TensorComposerMobius", sizes | {"asymmetry": 0.01})
        assert layer.assumed == ()

    def test_channels_of_a_mobius_convolution(self):
        """Its bias tells the output channels, and its matrix the input channels; windows are assumed."""
        state = conv("mobius", 18, 12, 6, without=["padding_dynamic_value"], static=0.5)
        layer = read(at("c", state)).layers[0]
        known = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "bias_static": 0.5}
        assert known.items() <= layer.arguments.items()
        assert layer.assumed == ("asymmetry", "kernel_size", "stride", "dilation", "transpose", "padding")

    @pytest.mark.parametrize("transpose", [False, True])
    @pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (1, 5), (7, 2)])
    @pytest.mark.parametrize("channels", [(1, 1), (3, 64), (64, 3), (16, 16), (5, 40), (7, 1)])
    def test_channels_fit_their_own_matrix(self, channels, kernel, transpose):
        """Of a folded matrix the channels that it was made for are found, and by either alone."""
        outer, inner = channels if transpose else channels[::-1]
        matrix = folded_shape((outer, inner, *kernel))
        assert channels in fitting_channels(Known(matrix, kernel, transpose, None, None))
        assert fitting_channels(Known(matrix, kernel, transpose, channels[0], None)) == [channels]
        assert fitting_channels(Known(matrix, kernel, transpose, None, channels[1])) == [channels]

    def test_other_tensors_pass_unchanged(self):
        """What belongs to no layer of dyna is the very tensor that was given."""
        others = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
        others["context_transform.weight"] = torch.ones(4, 4)
        others["head.weights"], others["extras"] = torch.ones(3), torch.ones(2)
        imported = read(others | at("mix", composer("delta", 6, 9)))
        assert imported.others == tuple(others)
        assert all(imported.state[name] is tensor for name, tensor in others.items())

    def test_shared_composers_stay_shared(self):
        """Tensors that two names stand for are one parameter afterwards."""
        tensors = composer("mobius", 6, 9)
        imported = read(at("one", tensors) | at("other", tensors))
        model = loaded(imported)
        assert model.get_parameter("one.w_mix") is model.get_parameter("other.w_mix")

    def test_something_else_of_such_names(self):
        """The caller's word `plain` leaves a module's tensors as they were."""
        state = at("mix", composer("delta", 6, 9)) | at("mine", composer("delta", 3, 3))
        imported = read(state, options={"mine": "plain"})
        assert [layer.path for layer in imported.layers] == ["mix"]
        assert len(imported.others) == 4

    @pytest.mark.parametrize(
        ("state", "words"),
        [
            pytest.param(composer("delta", 6, 9), ["rank noise", "siglog"], id="Delta"),
            pytest.param(composer("mobius", 6, 9), ["latent", "siglog"], id="Mobius"),
            pytest.param(
                composer("mobius", 6, 9, dtype=torch.bfloat16),
                ["latent", "siglog", "number formats"],
                id="bfloat16",
            ),
            pytest.param(
                conv("mobius", 18, 12, 6), ["latent", "siglog", "index tensor", "padding"], id="conv"
            ),
        ],
    )
    def test_differences(self, state, words):
        """What ours compute otherwise is told, as far as it concerns the layers."""
        padding = {"padding": 0} if "padding_dynamic_value" in state else {}
        found = read(state, options={"**": padding} if padding else None).differences
        assert len(found) == len(words)
        assert all(text.startswith(word) for text, word in zip(found, words, strict=True))


class TestLoadLayer:
    def test_on_copies(self):
        """The layer has its own tensors, and options are its arguments."""
        tensors = conv("delta", 18, 12, 6)
        layer = load_layer(tensors, in_channels=4, padding=1, stride=2)
        assert (layer.stride, layer.out_channels) == ((2, 2), 6)
        assert torch.equal(layer.weights_lib.weights, tensors["weights_lib.weights"])
        assert layer.weights_lib.weights.data_ptr() != tensors["weights_lib.weights"].data_ptr()

    @pytest.mark.parametrize(
        ("state", "text"),
        [
            pytest.param(
                at("mix", composer("delta", 6, 9)), "of one layer of dyna: mix.context", id="inside"
            ),
            pytest.param(
                composer("delta", 6, 9) | {"more": torch.ones(1)}, "no tensors of a .*: more", id="more"
            ),
        ],
    )
    def test_anything_else_is_refused(self, state, text):
        """Tensors of more than one layer are refused."""
        with pytest.raises(ArchitectureError, match=text):
            load_layer(state)

    def test_unknown_options(self):
        """An option that no layer has is refused with those that there are."""
        with pytest.raises(OptionError, match=r"unknown option 'strid'\. Did you mean 'stride'"):
            load_layer(composer("delta", 6, 9), strid=2)
