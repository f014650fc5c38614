"""Converted models of transformers in folders: round trips, and what transformers itself says to them."""

import json
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.checkpoint.architectures.torchvision_ops import import_with_torchvision
from bioconvert.checkpoint.folders.config_mark import NO_FILE
from bioconvert.core.errors import CheckpointError, OptionError, TargetError
from bioconvert.integrations.transformers import from_pretrained, save_pretrained

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed", allow_module_level=True)

transformers = import_with_torchvision("transformers")
RULES = {
    "version": 1,
    "name": "some",
    "rules": [
        {"match": {"type": "Linear"}, "replace": {"with": "YatLinear"}, "optional": True},
        {"match": {"parameter": "**.c_fc.weight"}, "attach": ["fuzzy_lr"], "optional": True},
    ],
}


def gpt2():
    """A language model whose head is tied to its embedding."""
    config = transformers.GPT2Config(
        n_layer=2, n_embd=16, n_head=2, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def bert():
    """An encoder with a classifier."""
    config = transformers.BertConfig(
        num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=24, vocab_size=50
    )
    return transformers.BertForSequenceClassification(config)


def vit():
    """A vision transformer with a classifier."""
    config = transformers.ViTConfig(
        num_hidden_layers=2,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=8,
        patch_size=4,
    )
    return transformers.ViTForImageClassification(config)


WORDS = {"input_ids": torch.arange(6).view(1, 6)}
MODELS = [
    pytest.param(gpt2, WORDS, id="GPT-2"),
    pytest.param(bert, WORDS, id="BERT"),
    pytest.param(vit, {"pixel_values": torch.linspace(-1, 1, 192).view(1, 3, 8, 8)}, id="ViT"),
]


def converted(make):
    """A converted model in eval mode."""
    torch.manual_seed(0)
    return bc.convert(make().eval(), RULES)


def same(one, other):
    """Whether two models have the same tensors, bit for bit."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def outputs(model, inputs):
    """What a model gives."""
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize(("make", "inputs"), MODELS)
class TestRoundTrip:
    def test_both_ways_of_loading_give_the_model(self, make, inputs, tmp_path):
        """What was saved comes back by from_pretrained and by bc.load, with tensors and outputs."""
        model = converted(make)
        save_pretrained(model, tmp_path / "out")
        for load in (from_pretrained, bc.load):
            loaded = load(tmp_path / "out")
            assert [type(m) for m in loaded.modules()] == [type(m) for m in model.modules()]
            assert same(loaded, model)
            assert torch.equal(outputs(loaded, inputs), outputs(model, inputs))

    def test_half_precision(self, make, inputs, tmp_path):
        """A model in bfloat16 comes back in bfloat16."""
        model = converted(make).to(torch.bfloat16)
        save_pretrained(model, tmp_path / "out")
        loaded = from_pretrained(tmp_path / "out")
        assert loaded.dtype == torch.bfloat16
        assert same(loaded, model)
        assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"

    def test_transformers_refuses_the_weights(self, make, inputs, tmp_path):
        """A plain from_pretrained fails, and the error names bioconvert; the configuration alone loads."""
        save_pretrained(converted(make), tmp_path / "out")
        for load in (transformers.AutoModel, make().__class__):
            with pytest.raises((OSError, ValueError), match="load-with-bioconvert"):
                load.from_pretrained(tmp_path / "out")
        assert (
            transformers.AutoConfig.from_pretrained(tmp_path / "out").model_type == make().config.model_type
        )

    def test_unconverted_folder_is_plain(self, make, inputs, tmp_path):
        """A model that isn't converted is saved so that transformers loads it."""
        torch.manual_seed(0)
        model = make().eval()
        save_pretrained(model, tmp_path / "out")
        assert NO_FILE not in (tmp_path / "out" / "config.json").read_text()
        assert same(type(model).from_pretrained(tmp_path / "out"), model)


def test_tied_weights_stay_tied(tmp_path):
    """The head of GPT-2 still is its embedding."""
    save_pretrained(converted(gpt2), tmp_path / "out")
    loaded = from_pretrained(tmp_path / "out")
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


def test_settings_for_generation_are_kept(tmp_path):
    """What a model was told of generating text is in the folder and comes back."""
    model = converted(gpt2)
    model.generation_config.max_new_tokens = 3
    save_pretrained(model, tmp_path / "out")
    loaded = from_pretrained(tmp_path / "out")
    assert loaded.generation_config.max_new_tokens == 3
    assert loaded.generate(WORDS["input_ids"], do_sample=False).shape == (1, 9)


def test_files_of_the_source_are_kept(tmp_path):
    """A tokenizer's files lie beside the weights; the configuration is the model's."""
    model = gpt2().eval()
    model.save_pretrained(tmp_path / "source")
    (tmp_path / "source" / "tokenizer.json").write_text("{}")
    save_pretrained(bc.convert(model, RULES), tmp_path / "out", source=tmp_path / "source")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert bc.integrations.transformers.from_pretrained(tmp_path / "out").config.n_layer == 2


def test_configuration_of_a_converted_folder_serves_for_others(tmp_path):
    """A model made from a marked configuration is saved plain, and marked once when it is converted."""
    save_pretrained(converted(bert), tmp_path / "out")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    model = transformers.BertForSequenceClassification(config)
    save_pretrained(model, tmp_path / "plain")
    assert NO_FILE not in (tmp_path / "plain" / "config.json").read_text()
    save_pretrained(bc.convert(model, RULES), tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_text().count(NO_FILE) == 1
    assert same(bc.load(tmp_path / "again"), model)


class TestRefusal:
    def test_folder_of_transformers(self, tmp_path):
        """A folder that bioconvert didn't write is an error that says how to go on."""
        bert().save_pretrained(tmp_path / "plain")
        with pytest.raises(CheckpointError, match=r"bioconvert convert .*plain --rules"):
            from_pretrained(tmp_path / "plain")

    def test_name_on_a_hub(self):
        """Nothing is downloaded."""
        with pytest.raises(CheckpointError, match="nothing is downloaded"):
            from_pretrained("openai-community/gpt2")

    def test_folder_without_anything(self, tmp_path):
        """Any other folder is an error too."""
        with pytest.raises(CheckpointError, match=r"with a bioconvert\.json in it"):
            from_pretrained(tmp_path)

    def test_model_of_another_library(self, tmp_path):
        """What isn't a model of transformers is loaded and saved by bioconvert.load and save."""
        with pytest.raises(OptionError, match=r"not a Linear; bioconvert\.save saves any"):
            save_pretrained(nn.Linear(2, 2), tmp_path / "out")
        bc.save(nn.ReLU(), tmp_path / "other")
        with pytest.raises(
            CheckpointError, match=r"isn't a model of transformers; load it by bioconvert\.load"
        ):
            from_pretrained(tmp_path / "other")

    def test_folder_in_use(self, tmp_path):
        """A folder with something in it stays, unless it may be overwritten."""
        save_pretrained(bert(), tmp_path)
        with pytest.raises(TargetError, match="empty"):
            save_pretrained(bert(), tmp_path)
        save_pretrained(bert(), tmp_path, overwrite=True)
