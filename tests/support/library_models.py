"""Small models of transformers with random weights, importable by name."""

from __future__ import annotations

from torch import nn


def gpt2() -> nn.Module:
    """Build a GPT-2 with tied words."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=200, n_positions=64, n_embd=64, n_layer=2, n_head=4))


def bert() -> nn.Module:
    """Build a BERT."""
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    return BertForMaskedLM(BertConfig(vocab_size=200, **sizes))


def t5() -> nn.Module:
    """Build a T5."""
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    return T5ForConditionalGeneration(T5Config(vocab_size=200, **sizes))


def llama() -> nn.Module:
    """Build a Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    return LlamaForCausalLM(LlamaConfig(vocab_size=200, num_key_value_heads=2, **sizes))
