"""Names in files of transformers that its models don't have any more."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from bioconvert.checkpoint import Checkpoint, load_into
from bioconvert.checkpoint.architectures.renamed import names_in_model
from bioconvert.checkpoint.architectures.torchvision_ops import import_with_torchvision
from bioconvert.core.errors import ArchitectureError

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed", allow_module_level=True)

transformers = import_with_torchvision("transformers")
if find_spec("transformers.conversion_mapping") is None:
    pytest.skip("this version of transformers renames nothing", allow_module_level=True)


def small(config, cls):
    """A small model on the meta device."""
    with torch.device("meta"):
        return cls(config(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, intermediate_size=8))


def vit():
    """A vision transformer."""
    return small(transformers.ViTConfig, transformers.ViTModel)


def test_old_names_lead_to_new_ones():
    """The files of ViT call the attention otherwise than its model does."""
    found = names_in_model(vit(), ["encoder.layer.0.attention.attention.query.weight", "layernorm.bias"])
    assert found == {
        "encoder.layer.0.attention.attention.query.weight": "layers.0.attention.q_proj.weight",
        "layernorm.bias": "layernorm.bias",
    }


def test_names_of_layer_norms_of_old():
    """Checkpoints converted from TensorFlow have gamma and beta."""
    model = small(transformers.BertConfig, transformers.BertModel)
    found = names_in_model(model, ["embeddings.LayerNorm.gamma", "embeddings.LayerNorm.beta"])
    assert list(found.values()) == ["embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]


@pytest.mark.parametrize(
    ("make", "names"),
    [
        pytest.param(vit, ["layers.0.attention.q_proj.weight"], id="names that the model has"),
        pytest.param(vit, ["unknown.weight"], id="names that nobody knows"),
        pytest.param(lambda: nn.Linear(2, 2), ["LayerNorm.gamma"], id="not a model of transformers"),
        pytest.param(
            vit,
            ["encoder.layer.0.attention.attention.query.bias", "layers.0.attention.q_proj.bias"],
            id="two names that would become one",
        ),
    ],
)
def test_other_names_stay(make, names):
    """What can't be a name of old, or would collide with another, is left for the strict comparison."""
    assert names_in_model(make(), names) == dict(zip(names, names, strict=True))


def test_tensors_that_are_computed_from_several_are_refused(tmp_path):
    """Experts that lie apart in the file and together in the model need transformers itself."""
    config = transformers.MixtralConfig(
        num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2, vocab_size=9,
        num_key_value_heads=1, num_local_experts=2,
    )  # fmt: skip
    model = transformers.MixtralForCausalLM(config)
    tensors = {"model.layers.0.block_sparse_moe.experts.0.w1.weight": torch.zeros(8, 8)}
    with pytest.raises(ArchitectureError, match=r"integrations\.transformers\.save_pretrained"):
        load_into(model, Checkpoint(tensors, tmp_path, "huggingface"))


def test_missing_names_are_still_named(tmp_path):
    """Renaming doesn't make loading any less strict."""
    model = transformers.ViTModel(
        transformers.ViTConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, intermediate_size=8)
    )
    tensors = {"encoder.layer.0.attention.attention.query.bias": torch.zeros(8)}
    with pytest.raises(ArchitectureError, match=r"names are missing there: .*cls_token"):
        load_into(model, Checkpoint(tensors, tmp_path, "huggingface"))
