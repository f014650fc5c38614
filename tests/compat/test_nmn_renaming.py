"""State dicts of nmn's layers loaded into models that are built from ours."""

import pytest
import torch
from nmn_golden import record
from torch import nn

import bioconvert as bc
from bioconvert.compat.nmn import describe_ours, rename
from bioconvert.core.errors import ArchitectureError, OptionError


def prefixed(state, path):
    """Give tensors the name of the module that they are of."""
    return {f"{path}.{name}": tensor for name, tensor in state.items()}


class TestRename:
    def test_loads_strictly_into_our_layers(self):
        """Renamed tensors fit a model of ours: a learnable epsilon, rows, projections."""
        names = ["YatNMN learnable epsilon", "YatEmbed plain", "MultiHeadYatAttention plain"]
        model = nn.Sequential(
            bc.layers.YatLinear(5, 3, learnable_epsilon=True),
            bc.layers.YatEmbedding(7, 5),
            bc.layers.YatMultiheadAttention(8, 2),
            nn.BatchNorm1d(3),
        )
        state = {
            name: tensor
            for index, each in enumerate(names)
            for name, tensor in prefixed(record(each).state, str(index)).items()
        }
        state |= prefixed(nn.BatchNorm1d(3).state_dict(), "3")
        model.load_state_dict(rename(state, model))
        assert torch.equal(model[1].weight, record("YatEmbed plain").state["embedding"])
        assert torch.equal(model[0].raw_epsilon, record("YatNMN learnable epsilon").state["epsilon_param"])

    def test_given_state_dict_is_unchanged(self):
        """The caller's dict is not touched."""
        state = dict(record("YatNMN learnable epsilon").state)
        before = dict(state)
        rename(state, bc.layers.YatLinear(5, 3, learnable_epsilon=True))
        assert state == before

    def test_generation_must_be_known(self):
        """Where tensors don't tell the generation, the model's options aren't taken for it."""
        with pytest.raises(OptionError, match="say of which generation"):
            rename(record("YatNMN plain").state, bc.layers.YatLinear(5, 3))

    @pytest.mark.parametrize(
        ("generation", "options", "text"),
        [
            pytest.param("0.1", {}, "bias_mode must be 'post', but is 'pre'", id="bias inside"),
            pytest.param(
                "0.1", {"bias_mode": "post"}, "alpha must be 'exponent', but is 'learnable'", id="factor"
            ),
            pytest.param(
                "0.3", {"bias_mode": "post"}, "bias_mode must be 'pre', but is 'post'", id="bias behind"
            ),
            pytest.param(
                "0.3", {"alpha": "exponent"}, "alpha must be 'learnable', but is 'exp", id="exponent"
            ),
        ],
    )
    def test_model_of_the_other_generation(self, generation, options, text):
        """A model that computes what the other generation did is refused with the layer's name."""
        model = nn.Sequential(bc.layers.YatLinear(5, 3, **options))
        with pytest.raises(ArchitectureError, match=f"0: {text}"):
            rename(prefixed(record("YatNMN plain").state, "0"), model, generation=generation)

    def test_taps_must_be_those_of_the_kernel(self):
        """nmn's transposed convolutions take the norm of the whole kernel."""
        with pytest.raises(ArchitectureError, match="taps must be 'kernel', but is 'contributing'"):
            rename(
                record("YatConvTranspose1D plain").state,
                bc.layers.YatConvTranspose1d(4, 6, 3),
                generation="0.3",
            )

    def test_model_without_yat_layers(self):
        """A model without Yat layers is refused."""
        with pytest.raises(ArchitectureError, match=r"the model \(Linear\) has no Yat layer"):
            rename(record("YatNMN plain").state, nn.Linear(5, 3), generation="0.3")

    def test_layers_are_described_by_the_model(self):
        """The model says what nmn's layers were."""
        model = nn.Sequential(bc.layers.YatConv2d(4, 6, 3, stride=2, epsilon=0.1))
        (layer,) = describe_ours(prefixed(record("YatConv2D plain").state, "0"), model, generation="0.3")
        assert (layer.path, layer.kind, layer.becomes) == ("0", "YatConv2D", "YatConv2d")
        assert layer.options["stride"] == 2
        assert layer.options["epsilon"] == 0.1
