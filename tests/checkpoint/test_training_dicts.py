"""The weights inside a training checkpoint are found by a fixed order, and wrappers' prefixes taken off."""

import pytest
import torch
from checkpoint_samples import same_state
from hypothesis import given, settings
from hypothesis import strategies as st

from bioconvert.checkpoint import read_checkpoint
from bioconvert.checkpoint.formats.nesting import KEYS
from bioconvert.checkpoint.formats.prefix import PREFIXES, common_prefix
from bioconvert.core.errors import CheckpointError

A, B = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
OPTIMIZER = {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]}
NESTED = [
    pytest.param({"w": torch.zeros(1)}, (), (), id="none"),
    *[pytest.param({"epoch": 3, key: A, "optimizer": OPTIMIZER}, (key,), (), id=key) for key in KEYS],
    pytest.param(
        {"ema": B, "state_dict": A}, ("state_dict",), ("ema",), id="the order decides, not the file"
    ),
    pytest.param({"model": A, "net": B, "ema": B}, ("model",), ("net", "ema"), id="three candidates"),
    pytest.param(
        {"model": {"state_dict": A, "ema": B}}, ("model", "state_dict"), ("model/ema",), id="two levels"
    ),
    pytest.param({"model": {"epoch": 3}, "net": A}, ("net",), (), id="a key without weights"),
    pytest.param({"state_dict": A, "loss": torch.ones(1)}, ("state_dict",), (), id="a tensor beside"),
    pytest.param({"my_weights": A, "epoch": 3}, ("my_weights",), (), id="one unknown key"),
    pytest.param(
        {"state_dict": A, "pytorch-lightning_version": "2", "optimizer_states": [OPTIMIZER], "callbacks": {}},
        ("state_dict",),
        (),
        id="Lightning",
    ),
]


@pytest.mark.parametrize(("content", "nesting", "passed_over"), NESTED)
def test_the_place_of_the_weights_is_recorded(tmp_path, content, nesting, passed_over):
    """The state dict is the first by the fixed order of keys; the others are named."""
    torch.save(content, tmp_path / "x.pt")
    found = read_checkpoint(tmp_path / "x.pt")
    assert (found.nesting, found.passed_over) == (nesting, passed_over)
    assert same_state(dict(found.tensors), A)


def test_several_unknown_keys_are_not_chosen_from(tmp_path):
    """Where nothing is known of the names, the user says which is meant."""
    torch.save({"generator": A, "discriminator": B}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"several state dicts.*'generator', 'discriminator'"):
        read_checkpoint(tmp_path / "x.pt")


def test_a_dict_that_holds_itself_ends(tmp_path):
    """A recursive dict has no state dict in it and is said to have none."""
    content: dict = {}
    content["model"] = content
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="no state dict"):
        read_checkpoint(tmp_path / "x.pt")


PREFIXED = [
    pytest.param(["a", "b"], "", id="none"),
    pytest.param(["module.a", "module.b"], "module.", id="DataParallel"),
    pytest.param(["module.a", "b"], "", id="not every name"),
    pytest.param(["module._orig_mod.model.a"], "module._orig_mod.model.", id="nested"),
    pytest.param(["model.module.a", "model.b"], "model.", id="only the outer one on all"),
    pytest.param(
        ["_fsdp_wrapped_module._checkpoint_wrapped_module.a"],
        "_fsdp_wrapped_module._checkpoint_wrapped_module.",
        id="FSDP",
    ),
    pytest.param(["module."], "", id="nothing would be left"),
    pytest.param(["modules.a"], "", id="look-alike"),
    pytest.param([], "", id="no names"),
]


@pytest.mark.parametrize(("names", "prefix"), PREFIXED)
def test_a_prefix_is_what_every_name_has(tmp_path, names, prefix):
    """A prefix is taken off, in any nesting, if every name has it."""
    assert common_prefix(names) == prefix
    if names:
        torch.save({name: torch.ones(1) for name in names}, tmp_path / "x.pt")
        found = read_checkpoint(tmp_path / "x.pt")
        assert found.prefix == prefix
        assert [prefix + name for name in found.tensors] == names


@settings(deadline=None)
@given(st.lists(st.sampled_from(PREFIXES)), st.sets(st.text("abc.", min_size=1), min_size=1))
def test_taking_a_prefix_off_is_undone_by_putting_it_on(parts, names):
    """Prefix plus remaining name is the name, and no further prefix is left on all of them."""
    given_names = ["".join(parts) + name for name in names]
    prefix = common_prefix(given_names)
    rest = [name[len(prefix) :] for name in given_names]
    assert all(name.startswith(prefix) for name in given_names)
    assert all(rest)
    assert common_prefix(rest) == ""
