"""From a state dict on disk to a converted folder, back into memory, and back to the original."""

import json
import subprocess
import sys

import pytest
import torch
from small_models import seeded

import bioconvert as bc


def bioconvert(*arguments, code=0):
    """Run the command as a user does, and give its JSON document."""
    command = [sys.executable, "-m", "bioconvert", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def resnet18(torchvision, transformers):
    """Give torchvision's resnet18, how to name it, and an input."""
    model = seeded(lambda: torchvision.models.resnet18(num_classes=5))
    return (
        model,
        ["--arch", "torchvision:resnet18", "--arch-args", '{"num_classes": 5}'],
        (torch.randn(2, 3, 64, 64),),
    )


def gpt2(torchvision, transformers):
    """Give a GPT-2 of two layers, how to name it (by its config alone), and an input."""
    config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=50, n_positions=16)
    config.architectures = ["GPT2LMHeadModel"]
    model = seeded(lambda: transformers.GPT2LMHeadModel(config))
    return model, config, (torch.randint(0, 50, (2, 8)),)


@pytest.mark.parametrize("make", [resnet18, gpt2])
def test_a_state_dict_through_the_command_line(make, tmp_path, torchvision, transformers):
    """convert → load equals the in-memory conversion bit for bit; revert gives the original tensors back."""
    model, arch, inputs = make(torchvision, transformers)
    model.eval()
    if not isinstance(arch, list):
        arch.save_pretrained(tmp_path / "config")
        arch = ["--arch", f"hf:{tmp_path / 'config'}"]
    original = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save(model.state_dict(), tmp_path / "model.pt")

    bioconvert("convert", tmp_path / "model.pt", *arch, "--rules", "yat-all", "--out", tmp_path / "out")
    loaded = bc.load(tmp_path / "out").eval()
    bc.convert(model, "yat-all")
    with torch.no_grad():
        expected, found = model(*inputs), loaded(*inputs)
    expected, found = (getattr(output, "logits", output) for output in (expected, found))
    assert torch.equal(found, expected)

    bioconvert("verify", tmp_path / "out")
    bioconvert("revert", tmp_path / "out", "--out", tmp_path / "back")
    from bioconvert.checkpoint import read_checkpoint

    back = read_checkpoint(tmp_path / "back").tensors
    tied = {name for name in original if name not in back}
    assert tied <= {"lm_head.weight", "transformer.wte.weight"}
    assert all(torch.equal(value, original[name]) for name, value in back.items())

    weights = tmp_path / "out" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-5] ^= 4
    weights.write_bytes(damaged)
    document = bioconvert("verify", tmp_path / "out", code=1)
    assert "model.safetensors" in json.dumps(document)
    with pytest.raises(bc.BioconvertError, match=r"model\.safetensors"):
        bc.load(tmp_path / "out")


def test_a_rewritten_model_survives_the_disk(tmp_path, torchvision):
    """A resnet18 without its blocks' first activations, fitted to data, is saved and loaded bit for bit."""
    model = seeded(lambda: torchvision.models.resnet18(num_classes=5)).eval()
    x = torch.randn(4, 3, 64, 64)
    original = model(x)
    bc.convert(model, "yat", example_inputs=(x,))
    bc.save(model, tmp_path / "out")
    loaded = bc.load(tmp_path / "out").eval()
    assert torch.equal(loaded(x), model(x))
    assert type(loaded.layer1[0].relu) is torch.nn.ReLU
    assert torch.equal(bc.revert(loaded)(x), original)
    with pytest.raises(bc.BioconvertError, match="isn't empty"):
        bc.save(model, tmp_path / "out")


def test_a_model_that_no_manifest_can_name(tmp_path):
    """Saving always succeeds; loading then needs a factory and says so."""

    def build():
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

    model = bc.convert(build(), "yat").eval()
    bc.save(model, tmp_path / "out")
    with pytest.raises(bc.BioconvertError, match="factory="):
        bc.load(tmp_path / "out")
    x = torch.randn(3, 4)
    assert torch.equal(bc.load(tmp_path / "out", factory=build).eval()(x), model(x))
