"""A conversion whose values are read one by one writes the files of the one in memory, bit for bit."""

import pytest
import torch
from both_ways import in_memory, saved, streamed
from checkpoint_samples import files_in
from safetensors.torch import save_file
from streamed_models import Blocks
from torch import nn

from bioconvert.checkpoint import save_model, verify_folder
from bioconvert.checkpoint.models.page_faults import StreamingError
from bioconvert.core.errors import ArchitectureError

BUILT_IN = ["yat", "yat-all", "yat-cnn", "plastic", "continual", "dale", "dynamic", "identity"]


def attaching(*mechanisms, **match):
    """Give rules that attach mechanisms to layers."""
    rule = {"match": match or {"type": ["linear", "conv"]}, "attach": list(mechanisms)}
    return {"version": 1, "rules": [rule]}


RULES = {
    **{name: name for name in BUILT_IN},
    "folded norms": {
        "version": 1,
        "rules": [
            {
                "match": {"type": "Conv2d", "followed_by": ["BatchNorm2d", "ReLU"]},
                "replace": {"with": "YatConv2d", "norm": "fold", "activation": "drop"},
            }
        ],
    },
    "fresh weights": {
        "version": 1,
        "rules": [{"match": {"type": "Linear"}, "replace": {"with": "YatLinear", "init": "fresh"}}],
    },
    "morph": {
        "version": 1,
        "rules": [{"match": {"path": "hidden.0"}, "replace": {"with": "YatLinear", "morph": {"steps": 10}}}],
    },
    "all mechanisms of weights": attaching(
        {"fuzzy_lr": {"distribution": "lognormal"}},
        "crystallize",
        "volume_lr",
        "rejuvenate",
        "synaptic_scaling",
    ),
    "split synapses": attaching("weight_splitting", path="hidden.*"),
    "signs of a named parameter": attaching("dale", parameter="cell.weight_ih_l0"),
    "nodes": {"version": 1, "rules": [{"match": {"path": "hidden"}, "wrap": {"tag": "general"}}]},
    "replaced, plastic and evolvable": {
        "version": 1,
        "rules": [
            {
                "match": {"path": "hidden.0"},
                "replace": {"with": "YatLinear"},
                "attach": ["fuzzy_lr"],
                "wrap": {"tag": "general"},
            }
        ],
    },
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_the_files_are_those_of_the_conversion_in_memory(rules, tmp_path):
    """Whatever the rules do, both conversions give the same outcomes and the same bytes."""
    source = saved(tmp_path, Blocks())
    one, other = in_memory(source, rules, tmp_path / "one"), streamed(source, rules, tmp_path / "other")
    assert other.to_dict() == one.to_dict()
    assert files_in(tmp_path / "other") == files_in(tmp_path / "one")
    assert verify_folder(tmp_path / "other") == []


class TestCheckpoints:
    """What checkpoints look like makes no difference either."""

    def test_shards(self, tmp_path):
        """Shards and their index are read and written."""
        model = Blocks()
        save_model(model, tmp_path / "source", shard_size=50_000)
        (tmp_path / "source" / "bioconvert.json").unlink()
        assert len(list((tmp_path / "source").glob("*.safetensors"))) > 3
        in_memory(tmp_path / "source", "plastic", tmp_path / "one", shard_size=30_000)
        streamed(tmp_path / "source", "plastic", tmp_path / "other", shard_size=30_000)
        assert files_in(tmp_path / "other") == files_in(tmp_path / "one")

    def test_prefixes(self, tmp_path):
        """What wrappers put before every name is taken off."""
        source = saved(tmp_path, Blocks(), prefix="module._orig_mod.")
        in_memory(source, "yat", tmp_path / "one")
        streamed(source, "yat", tmp_path / "other")
        assert files_in(tmp_path / "other") == files_in(tmp_path / "one")

    def test_half_precision(self, tmp_path):
        """The model takes the number formats of the checkpoint."""
        source = saved(tmp_path, Blocks().to(torch.bfloat16))
        in_memory(source, "yat-all", tmp_path / "one")
        streamed(source, "yat-all", tmp_path / "other")
        assert files_in(tmp_path / "other") == files_in(tmp_path / "one")

    def test_values_that_are_not_finite(self, tmp_path):
        """A weight with NaN is left alone by both for the same reason."""
        model = Blocks()
        with torch.no_grad():
            model.hidden[0].weight[0, 0] = float("nan")
        source = saved(tmp_path, model)
        one = in_memory(source, "plastic", tmp_path / "one")
        other = streamed(source, "plastic", tmp_path / "b")
        assert other.to_dict() == one.to_dict()
        assert files_in(tmp_path / "b") == files_in(tmp_path / "one")

    def test_ties_that_are_contradicted_are_refused(self, tmp_path):
        """Two values for one tied tensor don't fit the model."""
        state = {name: tensor.clone() for name, tensor in Blocks().state_dict().items()}
        state["head.weight"] += 1
        save_file(state, tmp_path / "model.safetensors")
        said = r"ties head\.weight and words\.weight, which differ there"
        with pytest.raises(ArchitectureError, match=said):
            streamed(tmp_path / "model.safetensors", "yat", tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestRefusals:
    """What needs all values at once says so."""

    def test_pickles(self, tmp_path):
        """A file of torch isn't read piece by piece."""
        torch.save(Blocks().state_dict(), tmp_path / "model.pt")
        with pytest.raises(StreamingError, match="only safetensors files can be converted piece by piece"):
            streamed(tmp_path / "model.pt", "yat", tmp_path / "out")

    def test_converted_folders(self, tmp_path):
        """A folder that was converted before isn't either."""
        save_model(Blocks(), tmp_path / "source")
        with pytest.raises(StreamingError, match="converted in memory only"):
            streamed(tmp_path / "source", "yat", tmp_path / "out")

    def test_names_that_do_not_fit(self, tmp_path):
        """Missing and unexpected names are an error as in memory."""
        source = saved(tmp_path, nn.Linear(3, 3))
        with pytest.raises(ArchitectureError, match=r"doesn't fit the model: .* names are missing there"):
            streamed(source, "yat", tmp_path / "out")

    def test_models_that_change_values_when_loaded(self, tmp_path):
        """A model whose own code computes something while loading is named."""
        source = saved(tmp_path, nn.Sequential(nn.Linear(3, 3)))
        with pytest.raises(StreamingError, match=r"Scaling's own code does something to '0\.weight'"):
            streamed(source, "yat", tmp_path / "out", arch="test_streaming:Scaling")


class Scaling(nn.Sequential):
    """A model that doubles what it loads."""

    def __init__(self):
        super().__init__(nn.Linear(3, 3))

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        state_dict["0.weight"] = 2 * state_dict["0.weight"]
        super()._load_from_state_dict(state_dict, prefix, *rest)
