"""Grown models on disk: they come back without a factory, and go on as if nothing had been."""

import json

import pytest
import torch
from growing_models import ROWS, growing, train, wrapping
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import ConversionError
from bioconvert.surgery import added_tensors, describe, replay

IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
TOKENS = torch.arange(14).view(2, 7) % 11
BOTH = {
    "version": 1,
    "rules": [
        {"name": "yat", "match": {"path": "block.*", "type": "linear"}, "replace": {"with": "YatLinear"}},
        {"name": "nodes", "match": {"path": ["block", "block.3"]}, "wrap": {}},
    ],
}


def open_gates(model):
    """Let every branch count."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(0.5)
    return model


def reloaded(model, folder):
    """Save and load."""
    bc.save(model, folder, overwrite=True)
    return bc.load(folder)


def adamw(model):
    """Give an optimizer of all parameters."""
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def same(one, other):
    """Say whether two models hold the same bits under the same names."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class TestALoadedModel:
    def test_of_torchvision_comes_back(self, torchvision, tmp_path):
        """A grown stage of resnet18 is rebuilt without a factory, pruned keys and all."""
        model = bc.convert(torchvision.models.resnet18(num_classes=3), wrapping(["layer1", "layer4"]))
        organism = bc.Organism(model)
        first = organism.grow("layer4")
        organism.grow(first)
        organism.prune(first)
        organism.grow("layer1", tag="early")
        twin = reloaded(open_gates(model).eval(), tmp_path / "saved")
        assert torch.equal(twin(IMAGES), model(IMAGES))
        found = bc.Organism(twin)
        assert [node.dynamic_id for node in found.nodes()] == ["layer1", "layer1+1", "layer4", "layer4+2"]
        assert [node.node_record for node in found.nodes()] == [n.node_record for n in organism.nodes()]
        assert found.record == organism.record
        assert found.grow("layer4").dynamic_id == "layer4+3"

    def test_of_transformers_comes_back(self, transformers, tmp_path):
        """A GPT-2 with a grown block is rebuilt from its configuration; so is its text."""
        model = gpt2(transformers)
        bc.Organism(model).grow("transformer.h.1", tag="expert")
        twin = reloaded(open_gates(model), tmp_path / "saved")
        assert torch.equal(twin(TOKENS).logits, model(TOKENS).logits)

    def test_keeps_replaced_layers_and_nodes_inside_clones(self, tmp_path):
        """What a clone took over from its block, layers and nodes that have grown, comes back with it."""
        model = growing_both()
        organism = bc.Organism(model)
        organism.grow("block.3")
        organism.grow("block")
        organism.grow("block+1.3")
        twin = reloaded(open_gates(model), tmp_path / "saved")
        assert torch.equal(twin(ROWS), model(ROWS))
        ids = ["block", "block.3", "block.3+1", "block+1", "block+1.3", "block+1.3+1", "block+1.3+2"]
        assert [node.dynamic_id for node in bc.Organism(twin).nodes()] == ids
        assert describe(twin) == describe(model)

    @pytest.mark.parametrize("pause", [1, 3])
    def test_goes_on_bit_for_bit(self, pause, tmp_path):
        """Killed between two steps and loaded, weights, moments, rates and later births are the same."""
        straight, resumed = growing(), growing()
        for model in (straight, resumed):
            optimizer = adamw(model)
            organism = bc.Organism(model, seed=5, stabilization_steps=4)
            train(model, optimizer, 2)
            organism.grow("block", optimizer=optimizer)
            organism.grow("block", tag="second", optimizer=optimizer)
            train(model, optimizer, 1)
            organism.prune("second")
            organism.freeze_all_except("expert_1")
            train(model, optimizer, pause)
            if model is resumed:
                model = reloaded(model, tmp_path / "saved")
                saved = optimizer.state_dict()
                optimizer = adamw(model)
                organism = bc.Organism(model, stabilization_steps=4).bind(optimizer)
                optimizer.load_state_dict(saved)
            organism.unfreeze()
            train(model, optimizer, 2)
            organism.grow("block", tag="late")
            train(model, optimizer, 2)
            last = (model, optimizer.state_dict(), organism.record)
            if model is straight:
                expected = last
        assert same(last[0], expected[0])
        assert last[2] == expected[2]
        assert last[1]["param_groups"] == expected[1]["param_groups"]
        for key, state in expected[1]["state"].items():
            assert all(torch.equal(value, last[1]["state"][key][name]) for name, value in state.items())

    def test_stays_frozen_where_it_was(self, tmp_path):
        """What organism froze is frozen after loading, and can be let go."""
        model = growing()
        organism = bc.Organism(model)
        organism.grow("block", tag="expert")
        organism.freeze_all_except("expert")
        twin = reloaded(model, tmp_path / "saved")
        trained = [name for name, p in twin.named_parameters() if p.requires_grad]
        assert not any(name.startswith("block.1") for name in trained)
        bc.Organism(twin).unfreeze()
        assert all(p.requires_grad for p in twin.parameters())

    def test_reverts_to_the_base(self, tmp_path):
        """A loaded grown model reverts as the one that was saved does."""
        model = growing_both()
        bc.Organism(model).grow("block")
        twin = bc.revert(reloaded(model, tmp_path / "saved"))
        assert same(twin, bc.revert(model))


def test_the_description_is_a_snapshot_of_plain_values():
    """It is what JSON holds, and doesn't change when the model grows on."""
    model = growing()
    organism = bc.Organism(model)
    organism.grow("block")
    told = describe(model)
    before = json.dumps(told)
    organism.grow("block")
    assert json.dumps(told) == before
    assert {name.split(".")[1] for name in added_tensors(model)} == {"grown"}


def test_a_description_that_does_not_fit_leaves_no_trace():
    """Where a model isn't what had grown, nothing is left of the attempt."""
    model = growing_both()
    bc.Organism(model).grow("block")
    told = describe(model)
    other = nn.Module()
    other.block = nn.Sequential(nn.ReLU(), nn.Linear(4, 6))
    names = [name for name, _ in other.named_modules()]
    with pytest.raises(ConversionError, match="there is no such module"):
        replay(other, told)
    assert [name for name, _ in other.named_modules()] == names


def growing_both():
    """Give a model with replaced layers and a node inside a node."""
    from growing_models import Residual
    from small_models import seeded

    return bc.convert(seeded(Residual), BOTH)


def gpt2(transformers):
    """Give a small GPT-2 with a node."""
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=8, vocab_size=11, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).eval()
    return bc.convert(model, wrapping("transformer.h.1"))
