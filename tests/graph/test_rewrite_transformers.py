"""Containers of real transformers: those that can be traced compute the same bits when rewritten."""

import pytest
import torch

from bioconvert.graph.flow import has_forward
from bioconvert.graph.rewrite import rewrite_of, rewritten_class
from bioconvert.graph.session import sweep
from bioconvert.graph.trace import Untraceable, trace

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TOKENS = {"eos_token_id": 1, "bos_token_id": 1}
MODELS = [
    pytest.param(
        (
            "GPT2Config",
            "GPT2Model",
            {"n_embd": 16, "n_layer": 1, "n_head": 2, "eos_token_id": 1, "bos_token_id": 1},
        ),
        {"GPT2Block", "GPT2MLP"},
        id="GPT-2",
    ),
    pytest.param(
        ("BertConfig", "BertModel", SIZES),
        {"BertEncoder", "BertLayer", "BertAttention", "BertSelfAttention", "BertIntermediate", "BertOutput"},
        id="BERT",
    ),
    pytest.param(
        ("MistralConfig", "MistralModel", {**SIZES, "num_key_value_heads": 2}),
        {"MistralDecoderLayer", "MistralAttention", "MistralMLP"},
        id="Mistral",
    ),
    pytest.param(
        ("LlamaConfig", "LlamaModel", {**SIZES, "num_key_value_heads": 2}),
        {"LlamaDecoderLayer", "LlamaMLP"},
        id="Llama",
    ),
    pytest.param(
        (
            "T5Config",
            "T5EncoderModel",
            {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
        ),
        {"T5LayerSelfAttention", "T5LayerFF"},
        id="T5",
    ),
]


def build(transformers, config, model, sizes):
    """Build a small model with random weights."""
    torch.manual_seed(0)
    config = getattr(transformers, config)(vocab_size=64, attn_implementation="eager", **sizes)
    return getattr(transformers, model)(config).eval()


def traceable(model):
    """Name the classes of the containers that can be traced."""
    names = set()
    for container in (m for m in model.modules() if m._modules and has_forward(m)):
        try:
            trace(container)
        except Untraceable:
            continue
        names.add(type(container).__name__)
    return names


def rewrite_all(model, names):
    """Give every container of these classes a rewritten forward without edits."""
    for container in [m for m in model.modules() if type(m).__name__ in names]:
        cls = rewritten_class(type(container), ())
        rewrite_of(cls).prepare(container)
        container.__class__ = cls


@pytest.mark.parametrize(("make", "expected"), MODELS)
def test_rewritten_containers_compute_the_same(transformers, make, expected):
    """The named containers can be traced, and with all of them rewritten the outputs are the same bits."""
    model = build(transformers, *make)
    tokens = torch.arange(3, 17).view(2, 7)
    with torch.no_grad():
        before = model(input_ids=tokens)[0]
    assert sweep(lambda: traceable(model)) >= expected
    rewrite_all(model, expected)
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens)[0], before)
        assert torch.equal(model(input_ids=tokens, attention_mask=torch.ones_like(tokens))[0], before)


def test_a_configuration_takes_effect_after_the_rewrite(transformers):
    """Another `config` value that a container reads in its forward is followed."""
    model = build(transformers, "BertConfig", "BertModel", SIZES)
    twin = build(transformers, "BertConfig", "BertModel", SIZES)
    rewrite_all(model, {"BertModel", "BertEncoder"})
    tokens = torch.arange(3, 17).view(2, 7)
    for each in (model, twin):
        each.config.return_dict = False
    with torch.no_grad():
        outputs = [each(input_ids=tokens) for each in (model, twin)]
    assert [type(output) for output in outputs] == [tuple, tuple]
    assert torch.equal(outputs[0][0], outputs[1][0])
