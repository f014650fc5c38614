"""A folder of transformers, which says itself what it is."""

import json

import pytest

MAKE = """
from bioconvert.checkpoint import import_torchvision
import_torchvision()
import torch, transformers
from safetensors.torch import save_file
config = transformers.GPT2Config(
    n_layer=2, n_embd=8, n_head=2, vocab_size=20, n_positions=16, bos_token_id=0, eos_token_id=0
)
transformers.GPT2LMHeadModel(config).save_pretrained("gpt2")
save_file({"input_ids": torch.arange(8).view(1, 8)}, "ids.safetensors")
"""


@pytest.mark.slow
def test_folder_needs_no_arch(process, script, tmp_path):
    """A folder with a config converts without --arch, keeps its side files, loads and verifies."""
    pytest.importorskip("transformers")
    assert script("-c", MAKE).code == 0
    ran = process("convert", "gpt2", "-r", "yat", "-o", "out", "--inputs", "ids.safetensors", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["architecture"] == "transformers:GPT2LMHeadModel"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "gpt2"
    assert process("verify", "out").code == 0
    drift = process("drift", "out", "--inputs", "ids.safetensors", "--json").document["drift"]
    assert len(drift["layers"]) == 2
