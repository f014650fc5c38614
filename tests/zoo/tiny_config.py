"""Configurations of transformers models, made tiny."""

from collections.abc import Mapping
from typing import Any

_WIDTH, _WIDER, _LAYERS, _HEADS, _HEAD = 32, 64, 2, 4, 8
_EXPERTS, _CHOSEN, _WORDS, _POSITIONS = 4, 2, 100, 64
_SIDE, _PATCH = 32, 8

TINY: dict[str, Any] = {
    **dict.fromkeys(
        (
            "hidden_size",
            "d_model",
            "n_embd",
            "dim",
            "embedding_size",
            "emb_dim",
            "n_embed",
            "projection_dim",
            "word_embed_proj_dim",
            "decoder_hidden_size",
            "projection_size",
            "state_size",
            "entity_emb_size",
        ),
        _WIDTH,
    ),
    **dict.fromkeys(
        (
            "intermediate_size",
            "ffn_dim",
            "encoder_ffn_dim",
            "decoder_ffn_dim",
            "d_ff",
            "n_inner",
            "hidden_dim",
            "dim_feedforward",
            "d_inner",
            "dff",
            "ffn_hidden_size",
            "shared_expert_intermediate_size",
            "decoder_intermediate_size",
            "intermediate_size_mlp",
            "mamba_intermediate",
        ),
        _WIDER,
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers",
            "n_layer",
            "n_layers",
            "num_layers",
            "encoder_layers",
            "decoder_layers",
            "num_encoder_layers",
            "num_decoder_layers",
            "decoder_num_hidden_layers",
            "encoder_num_hidden_layers",
        ),
        _LAYERS,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads",
            "n_head",
            "n_heads",
            "num_heads",
            "encoder_attention_heads",
            "decoder_attention_heads",
            "num_encoder_attention_heads",
            "num_decoder_attention_heads",
            "decoder_num_attention_heads",
            "encoder_num_attention_heads",
        ),
        _HEADS,
    ),
    **dict.fromkeys(("num_key_value_heads", "encoder_num_key_value_heads", "decoder_num_key_value_heads"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size", "d_head"), _HEAD),
    **dict.fromkeys(
        ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "encoder_num_experts"),
        _EXPERTS,
    ),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_k"), _CHOSEN),
    "moe_intermediate_size": _WIDTH,
    **dict.fromkeys(("vocab_size", "encoder_vocab_size", "decoder_vocab_size"), _WORDS),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), _POSITIONS),
    "image_size": _SIDE,
    "patch_size": _PATCH,
    **dict.fromkeys(("pad_token_id", "decoder_start_token_id"), 0),
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tiny_config(cls: Any, overrides: Mapping[str, Any]) -> Any:
    """Make a small configuration of a class.

    Args:
        cls: the configuration's class.
        overrides: what this model wants otherwise, by name; a dict for a configuration inside. A None leaves
            the class's own default.
    """
    default = cls()
    inner = {name: getattr(default, name) for name in getattr(cls, "sub_configs", {})}
    given = {name: value for name, value in overrides.items() if name not in inner}
    own = {**{name: value for name, value in TINY.items() if _holds(default, name)}, **given}
    parts = {
        name: tiny_config(type(part), overrides.get(name, {})).to_dict()
        for name, part in inner.items()
        if part is not None
    }
    return cls(**{name: value for name, value in own.items() if value is not None}, **parts)


def _holds(config: Any, name: str) -> bool:
    """Say whether a name is a plain number of this class: not one under an alias, nor one for each stage."""
    return name in vars(config) and not isinstance(getattr(config, name), (list, tuple, dict))
