"""Reading state dicts of nmn's layers: what tensors tell, what must be said, and how that is refused."""

import pytest
import torch
from nmn_golden import record

import bioconvert as bc
from bioconvert.compat.nmn import LayersOnly, load_layer, read
from bioconvert.compat.nmn.layers_only import arguments_for
from bioconvert.core.errors import ArchitectureError, OptionError

ALL = {"**": "defaults"}


def linear(rows=3, columns=5, **others):
    """A state dict of a YatNMN at fc."""
    own = {"weight": torch.randn(rows, columns), "bias": torch.randn(rows), "alpha": torch.ones(1)} | others
    return {f"fc.{name}": tensor for name, tensor in own.items() if tensor is not None}


def conv(rows, columns, *kernel, bias=None):
    """A state dict of a convolution at conv."""
    return {
        "conv.weight": torch.randn(rows, columns, *kernel),
        "conv.bias": torch.randn(rows if bias is None else bias),
        "conv.alpha": torch.ones(1),
    }


def problems(state, **said):
    """Give the lines of the error that reading ends in."""
    with pytest.raises(OptionError, match=r"Missing or wrong|can't be used") as caught:
        read(state, **said)
    return str(caught.value).splitlines()[1:]


class TestWhatTensorsTell:
    @pytest.mark.parametrize(
        "state",
        [
            pytest.param(linear(epsilon_param=torch.zeros(1)), id="learnable epsilon"),
            pytest.param(linear(bias=torch.zeros(1)), id="scalar bias"),
            pytest.param(linear(rows=6, bias=torch.zeros(4)), id="kernel bank"),
            pytest.param({"emb.embedding": torch.randn(4, 3)}, id="embedding"),
        ],
    )
    def test_second_generation_shows(self, state):
        """What only the second generation has tells the generation."""
        assert read(state, options=ALL).generation == "0.3"

    def test_first_generation_must_be_named(self):
        """Names that both generations use tell nothing: the generation must be named."""
        assert any("the generation (0.1 for" in line for line in problems(linear(), options=ALL))
        assert read(linear(), generation="0.1", options=ALL).generation == "0.1"

    def test_contradicted_generation_is_refused(self):
        """A generation without such tensors can't be named."""
        state = linear(epsilon_param=torch.zeros(1))
        assert problems(state, generation="0.1", options=ALL) == [
            "  fc: no YatNMN of generation 0.1 has such tensors"
        ]

    def test_layer_is_described(self):
        """Sizes, bias and alpha are read off the tensors, the rest is as said."""
        imported = read(linear(), generation="0.1", options={"fc": {"epsilon": 0.5}})
        (layer,) = imported.layers
        assert (layer.path, layer.kind, layer.becomes) == ("fc", "YatNMN", "YatLinear")
        assert layer.options == {"epsilon": 0.5}
        assert layer.arguments == {
            "in_features": 5,
            "out_features": 3,
            "alpha": "exponent",
            "epsilon": 0.5,
            "bias": True,
            "bias_mode": "post",
            "drop_connect": 0.0,
        }

    def test_names_become_ours_and_others_stay(self):
        """A learnable epsilon and rows get our names; what belongs to no layer keeps its own."""
        state = linear(epsilon_param=torch.zeros(1)) | {"bn.running_mean": torch.zeros(2)}
        imported = read(state, options=ALL)
        assert set(imported.state) == {
            "fc.weight",
            "fc.bias",
            "fc.alpha",
            "fc.raw_epsilon",
            "bn.running_mean",
        }
        assert imported.others == ("bn.running_mean",)

    def test_attention_takes_its_projections(self):
        """The parts of an attention are its own, one tensor of ours, and no layers by themselves."""
        state = {
            f"block.attn.{name}": tensor
            for name, tensor in record("MultiHeadYatAttention plain").state.items()
        }
        imported = read(state, options={"**": {"num_heads": 2, "defaults": True}})
        assert [layer.path for layer in imported.layers] == ["block.attn"]
        assert imported.state["block.attn.in_proj_weight"].shape == (24, 8)

    @pytest.mark.parametrize(
        ("state", "kind"),
        [
            pytest.param(conv(6, 4, 3), "YatConv1D", id="as many biases as rows"),
            pytest.param(conv(4, 6, 3, 3, bias=6), "YatConvTranspose2D", id="as many biases as columns"),
            pytest.param(conv(6, 1, 3, 3), "YatConv2D", id="one channel, one group"),
        ],
    )
    def test_shapes_tell_transposed_convolutions(self, state, kind):
        """The bias tells which dimension of a kernel holds the outputs."""
        assert read(state, generation="0.3", options=ALL).layers[0].kind == kind

    def test_square_kernel_must_be_named(self):
        """As many inputs as outputs fit both kinds of convolution: the kind must be said."""
        state = conv(4, 4, 3, 3)
        (line,) = problems(state, generation="0.1", options=ALL)
        assert line == "  conv: the kind, YatConv2D or YatConvTranspose2D"
        said = {"conv": {"kind": "YatConvTranspose2D"}, **ALL}
        assert read(state, generation="0.1", options=said).layers[0].becomes == "YatConvTranspose2d"


class TestWhatMustBeSaid:
    def test_every_gap_is_named_at_once(self):
        """One error names the generation, each layer's options, and what may be no layer at all."""
        state = linear() | conv(6, 4, 3) | {"head.weight": torch.randn(2, 6), "head.bias": torch.randn(2)}
        lines = problems(state)
        assert len(lines) == 4
        assert "the generation" in lines[0]
        assert lines[1].startswith("  fc: of a YatNMN, epsilon (in 0.1) or epsilon, softplus_bias, spherical")
        assert "stride, padding, dilation, groups" in lines[2]
        assert lines[3].startswith("  head: the kind, YatNMN or plain")

    def test_like_layers_share_a_line(self):
        """Layers that lack the same are named in one line."""
        state = {f"{n}.{name}": tensor for n in range(12) for name, tensor in linear().items()}
        (line,) = problems(state, generation="0.1")
        assert line.startswith("  0.fc, 1.fc, ")
        assert line.endswith(" and 4 more: of a YatNMN, epsilon")

    def test_number_of_heads_has_no_default(self):
        """Defaults don't make up a number of heads."""
        assert problems(record("MultiHeadYatAttention plain").state, options=ALL) == [
            "  the model itself: of a MultiHeadYatAttention, num_heads"
        ]

    def test_plain_modules_are_left_alone(self):
        """What is said to be plain keeps its tensors."""
        state = linear() | {"head.weight": torch.randn(2, 6)}
        imported = read(state, generation="0.1", options={"head": "plain", **ALL})
        assert [layer.path for layer in imported.layers] == ["fc"]
        assert imported.others == ("head.weight",)

    def test_first_glob_counts(self):
        """Where several globs give an option, the first one does."""
        said = {"fc": {"epsilon": 0.1}, "**": {"epsilon": 0.2}}
        state = linear() | {f"other.{name}": tensor for name, tensor in linear().items()}
        found = [layer.options["epsilon"] for layer in read(state, generation="0.1", options=said).layers]
        assert found == [0.1, 0.2]

    def test_constant_alpha(self):
        """A layer without alpha is named by its kind, and its alpha is what is said."""
        state = linear(alpha=None)
        said = {"fc": {"kind": "YatNMN", "constant_alpha": True}, **ALL}
        (layer,) = read(state, generation="0.3", options=said).layers
        assert layer.arguments["alpha"] == pytest.approx(2**0.5)

    def test_number_format_stays(self):
        """A layer has its tensors' number format, and copies of them."""
        state = {name.removeprefix("fc."): tensor.double() for name, tensor in linear().items()}
        layer = load_layer(state, "YatNMN", generation="0.1", epsilon=1e-4)
        assert layer.weight.dtype == torch.float64
        assert layer.weight.data_ptr() != state["weight"].data_ptr()
        assert layer.weight.requires_grad

    def test_frozen_kernel(self):
        """A kernel that was not trained is not."""
        said = {"freeze_kernel": True, "defaults": True}
        state = {name.removeprefix("fc."): tensor for name, tensor in linear().items()}
        layer = load_layer(state, "YatNMN", generation="0.3", **said)
        assert not layer.weight.requires_grad
        assert layer.bias.requires_grad

    def test_unscaled_attention(self):
        """Where attention didn't divide by √d, alpha is as much larger."""
        recorded = record("MultiHeadYatAttention plain")
        said = {"num_heads": 2, "scaled": False, "defaults": True}
        layer = load_layer(recorded.state, recorded.kind, generation="0.3", **said)
        assert layer.alpha.item() == pytest.approx(2 * recorded.state["alpha"].item())


class TestRefusal:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            pytest.param(
                {"**": {"stide": 1}}, "'**': unknown option 'stide'. Did you mean 'stride'?", id="name"
            ),
            pytest.param({"**": {"epsilon": -1.0}}, "'**': epsilon: -1.0 is no value for it", id="value"),
            pytest.param(
                {"**": {"kind": "YatNM"}}, "there is no kind 'YatNM'. Did you mean 'YatNMN'?", id="kind"
            ),
            pytest.param({"a[0]": "plain"}, "'a[0]': a glob knows", id="glob"),
            pytest.param(
                {"fc": 3}, "'fc': must be an object of options, 'defaults' or 'plain', not 3", id="type"
            ),
            pytest.param({"fc": {"stride": 2}, **ALL}, "'fc': stride concerns no layer", id="other kind's"),
            pytest.param(
                {"fc": {"kind": "YatEmbed"}}, "fc: has the tensors of a YatNMN, not of a YatEmbed", id="fit"
            ),
        ],
    )
    def test_wrong_options(self, options, text):
        """Options that can't be meant are refused with their glob and what would do."""
        assert any(text in line for line in problems(linear(), generation="0.3", options=options))

    def test_impossible_layer(self):
        """Options that no layer can have are refused with its name."""
        state = record("MultiHeadYatAttention plain").state
        (line,) = problems(state, options={"**": {"num_heads": 3, "defaults": True}})
        assert line.startswith("  the model itself: as a MultiHeadYatAttention: embed_dim must be divisible")

    def test_unknown_generation(self):
        """A generation is one of two."""
        with pytest.raises(OptionError, match=r"must be 0\.1 for nmn 0\.1\.0 to 0\.2\.6, .*, not '0\.2'"):
            read(linear(), generation="0.2")

    @pytest.mark.parametrize("state", [{}, {"fc.weight": torch.zeros(2, 2)}, {"bn.weight": torch.zeros(2)}])
    def test_no_checkpoint_of_nmn(self, state):
        """A state dict without any of nmn's layers is refused with its names."""
        with pytest.raises(
            ArchitectureError, match=f"no checkpoint of nmn.*names are {next(iter(state), '')}"
        ):
            read(state, generation="0.1", options=ALL)

    def test_one_layer_must_be_one(self):
        """load_layer takes the tensors of one layer, without a path."""
        with pytest.raises(ArchitectureError, match=r"must be the tensors of one layer of nmn: fc\.weight"):
            load_layer(linear(), "YatNMN", generation="0.1", defaults=True)

    def test_spherical_attention_warns(self, caplog):
        """That nmn's spherical attention is another by ε/‖q‖² is said."""
        recorded = record("MultiHeadYatAttention spherical")
        load_layer(recorded.state, recorded.kind, generation="0.3", **recorded.options)
        assert "they differ by ε/‖q‖²" in caplog.text


class TestLayersOnly:
    def test_layers_have_their_names_and_values(self):
        """The tree holds each layer under its name, and loads what was read."""
        state = linear() | {"bn.running_mean": torch.ones(2)}
        imported = read(state, generation="0.3", options=ALL)
        model = LayersOnly(**arguments_for(imported))
        model.load_state_dict(dict(imported.state))
        assert type(model.get_submodule("fc")) is bc.layers.YatLinear
        assert torch.equal(model.get_buffer("bn.running_mean"), state["bn.running_mean"])

    def test_bank_stays_shared(self):
        """Layers that share a bank of kernels share it afterwards."""
        bank = torch.randn(6, 5)
        state = {"a.weight": bank, "a.alpha": torch.ones(1), "a.bias": torch.zeros(4)}
        state |= {"b.weight": bank, "b.alpha": torch.ones(1), "b.bias": torch.zeros(3)}
        model = LayersOnly(**arguments_for(read(state, options=ALL)))
        assert model.get_parameter("a.weight") is model.get_parameter("b.weight")
        assert model.get_submodule("b")(torch.zeros(2, 5)).shape == (2, 3)

    def test_has_no_forward(self):
        """It can't be called, and says what can."""
        with pytest.raises(NotImplementedError, match="get_submodule"):
            LayersOnly({})(torch.zeros(1))

    @pytest.mark.parametrize("name", ["a..b", "training"])
    def test_impossible_names(self, name):
        """A name that no part of a module can have is refused."""
        with pytest.raises(ArchitectureError, match="can't be the name"):
            LayersOnly({}, {name: [1]})

    def test_builds_nothing_else(self):
        """Only layers that nmn's become are built by name."""
        with pytest.raises(ArchitectureError, match="there is no layer 'yat_attributes'"):
            LayersOnly({"a": {"class": "yat_attributes"}})
