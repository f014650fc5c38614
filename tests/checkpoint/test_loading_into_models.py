"""A checkpoint is loaded into a base model strictly, and every misfit is named."""

import pytest
import torch
from checkpoint_samples import Plain, Tied, same_state
from torch import nn

from bioconvert.checkpoint import load_into, read_checkpoint
from bioconvert.core.errors import ArchitectureError


def checkpoint(tmp_path, tensors):
    """Read a checkpoint of some tensors."""
    torch.save(tensors, tmp_path / "x.pt")
    return read_checkpoint(tmp_path / "x.pt")


def renamed(change):
    """Give the state of a model under changed names."""
    return {change(name): value for name, value in Plain().state_dict().items()}


class Lightning(nn.Module):
    """A model inside a model, as Lightning has it."""

    def __init__(self):
        super().__init__()
        self.model = nn.Linear(2, 2)


FITTING = [
    pytest.param(Plain, lambda m: m.state_dict(), id="as it is"),
    pytest.param(
        Plain, lambda m: {f"module.{k}": v for k, v in m.state_dict().items()}, id="wrapper's prefix"
    ),
    pytest.param(Lightning, lambda m: m.state_dict(), id="prefix of its own"),
    pytest.param(
        Lightning, lambda m: {f"module.{k}": v for k, v in m.state_dict().items()}, id="both prefixes"
    ),
    pytest.param(Plain, lambda m: m.half().state_dict(), id="half precision"),
    pytest.param(
        Tied, lambda m: {k: v for k, v in m.state_dict().items() if k != "decoder.weight"}, id="tied name"
    ),
    pytest.param(
        Tied, lambda m: {k: v for k, v in m.state_dict().items() if k != "encoder.weight"}, id="other name"
    ),
    pytest.param(Tied, lambda m: {k: v.clone() for k, v in m.state_dict().items()}, id="tied, saved twice"),
]


@pytest.mark.parametrize(("make", "saved"), FITTING)
def test_a_fitting_checkpoint_gives_every_tensor_its_value(tmp_path, make, saved):
    """Values and number formats are those of the checkpoint; the parameters stay the same objects."""
    given, model = make(), make()
    before = {name: id(value) for name, value in model.state_dict(keep_vars=True).items()}
    load_into(model, checkpoint(tmp_path, saved(given)))
    assert same_state(model.state_dict(), given.state_dict())
    assert {name: id(value) for name, value in model.state_dict(keep_vars=True).items()} == before


MISFITS = [
    pytest.param(
        lambda: {k: v for k, v in Plain().state_dict().items() if k != "last.bias"},
        "1 names are missing there: last.bias",
        id="missing",
    ),
    pytest.param(
        lambda: {**Plain().state_dict(), "more": torch.ones(1)},
        "1 names are unknown to the model: more",
        id="unexpected",
    ),
    pytest.param(
        lambda: renamed(lambda name: f"x{name}"),
        r"9 names are missing.*first\.bias, first\.weight, last\.bias.* and 4 more; 9 names are unknown",
        id="first five named",
    ),
    pytest.param(
        lambda: {**Plain().state_dict(), "last.bias": torch.ones(3), "last.weight": torch.ones(3, 8)},
        r"last\.weight is \[3, 8\] there and \[2, 8\] in the model.*--arch-args '\{\"num_classes\": 3\}'",
        id="other number of classes",
    ),
    pytest.param(
        lambda: {**Plain().state_dict(), "last.bias": torch.ones(3), "first.weight": torch.ones(9, 4)},
        r"2 shapes differ[^}]*$",
        id="no hint where it isn't the classes",
    ),
    pytest.param(
        lambda: {**Plain().state_dict(), "last.bias": torch.ones(1, 2)},
        r"1 shapes differ[^}]*$",
        id="dimensions",
    ),
    pytest.param(
        lambda: renamed(lambda name: name.replace("first", "one")), "missing.*unknown", id="all at once"
    ),
]


@pytest.mark.parametrize(("saved", "message"), MISFITS)
def test_a_misfit_is_named_and_the_model_is_as_it_was(tmp_path, saved, message):
    """Missing, unexpected and misshapen names are all told at once."""
    model = Plain()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ArchitectureError, match=message):
        load_into(model, checkpoint(tmp_path, saved()))
    assert same_state(model.state_dict(), before)


def test_a_tie_that_the_checkpoint_contradicts_is_named(tmp_path):
    """Two values for one tensor are not chosen from."""
    saved = {**Tied().state_dict(), "decoder.weight": torch.ones(6, 4)}
    with pytest.raises(ArchitectureError, match=r"the model ties decoder\.weight and encoder\.weight"):
        load_into(Tied(), checkpoint(tmp_path, saved))


def test_a_model_that_does_not_load_what_it_saves_is_an_error(tmp_path):
    """A hook that saves more than is loaded again doesn't go unnoticed."""
    model = Plain()
    model.register_state_dict_post_hook(
        lambda module, state, prefix, local: state.update(derived=torch.ones(1))
    )
    with pytest.raises(ArchitectureError, match="its loading left out derived"):
        load_into(model, checkpoint(tmp_path, model.state_dict()))


class TestAllowedToBeMissing:
    def test_globs_name_what_may_keep_its_value(self, tmp_path, caplog):
        """What is allowed to be missing keeps its value, which is said."""
        model = Plain()
        kept = model.last.weight.clone()
        saved = {name: value for name, value in Plain().state_dict().items() if not name.startswith("last")}
        load_into(model, checkpoint(tmp_path, saved), allow_missing=["last.*"])
        assert torch.equal(model.last.weight, kept)
        assert "2 tensors keep the values they were built with: last.bias, last.weight" in caplog.text

    def test_other_names_are_still_required(self, tmp_path):
        """A glob allows what it matches and no more."""
        saved = {"first.weight": torch.ones(8, 4)}
        with pytest.raises(ArchitectureError, match=r"missing there: last\.bias, last\.weight"):
            load_into(Plain(), checkpoint(tmp_path, saved), allow_missing=["first.*", "norm.*"])

    def test_what_is_there_is_loaded_all_the_same(self, tmp_path):
        """A name that may be missing and isn't gets its value."""
        given, model = Plain(), Plain()
        load_into(model, checkpoint(tmp_path, given.state_dict()), allow_missing=["*"])
        assert same_state(model.state_dict(), given.state_dict())


class TestTransformers:
    def config(self, transformers):
        """Give a small configuration."""
        return transformers.GPT2Config(
            n_layer=1, n_embd=8, n_head=2, vocab_size=16, n_positions=8, bos_token_id=0, eos_token_id=0
        )

    def test_a_folder_of_transformers_is_read_and_loaded(self, tmp_path, transformers):
        """The tied head, which save_pretrained leaves out, is filled in."""
        model = transformers.GPT2LMHeadModel(self.config(transformers))
        model.save_pretrained(tmp_path)
        found = read_checkpoint(tmp_path)
        assert found.format == "huggingface"
        assert "lm_head.weight" not in found.tensors
        other = transformers.GPT2LMHeadModel(self.config(transformers))
        load_into(other, found)
        assert same_state(other.state_dict(), model.state_dict())
        assert other.lm_head.weight is other.transformer.wte.weight

    def test_a_sharded_folder_of_transformers_is_read(self, tmp_path, transformers):
        """Shards of transformers are read by their index."""
        model = transformers.GPT2LMHeadModel(self.config(transformers))
        model.save_pretrained(tmp_path, max_shard_size="2KB")
        assert (tmp_path / "model.safetensors.index.json").exists()
        found = read_checkpoint(tmp_path)
        assert set(found.tensors) == model.state_dict().keys() - {"lm_head.weight"}

    def test_what_the_class_says_it_ignores_is_ignored(self, tmp_path, transformers, monkeypatch):
        """Masks that old checkpoints hold don't count as unknown names where the class says so."""
        model = transformers.GPT2LMHeadModel(self.config(transformers))
        monkeypatch.setattr(
            type(model), "_keys_to_ignore_on_load_unexpected", [r"attn\.masked"], raising=False
        )
        saved = {**model.state_dict(), "transformer.h.0.attn.masked": torch.ones(2)}
        other = transformers.GPT2LMHeadModel(self.config(transformers))
        load_into(other, checkpoint(tmp_path, saved))
        saved["transformer.h.0.attn.other"] = torch.ones(2)
        with pytest.raises(ArchitectureError, match=r"unknown to the model: transformer\.h\.0\.attn\.other$"):
            load_into(other, checkpoint(tmp_path, saved))
