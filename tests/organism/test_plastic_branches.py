"""Mechanisms of plasticity on weights inside of nodes: what grows has them, too, and obeys them."""

import copy

import pytest
import torch
from growing_models import ROWS, Residual, train
from small_models import seeded
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError

MECHANISMS = [
    {"fuzzy_lr": {"distribution": "lognormal", "nu": 0.16}},
    {"dale": {}},
    {"crystallize": {"threshold": 4.5e-5, "every": 1}},
]
PLASTIC = {
    "version": 1,
    "rules": [
        {"name": "synapses", "match": {"type": ["linear"]}, "attach": MECHANISMS},
        {"name": "growth", "match": {"path": "block"}, "wrap": {}},
    ],
}


def plastic():
    """Give a model with a node, its plasticity, an optimizer that drives both, and the organism."""
    model = bc.convert(seeded(Residual), PLASTIC)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    plasticity = bc.Plasticity(model).bind(optimizer)
    organism = bc.Organism(model).bind(optimizer)
    train(model, optimizer, 3)
    return model, plasticity, optimizer, organism


def opened(model):
    """Let every branch count."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(0.5)


def obeys_dale(layer):
    """Say whether no weight has another sign than what it comes from."""
    return bool((layer.weight.sign() * layer.dale_sign.sign() >= 0).all())


class TestABranchOfAPlasticNode:
    def test_changes_no_output_at_birth(self):
        """What is attached doesn't either."""
        model, _, _, organism = plastic()
        before = model(ROWS)
        organism.grow("block")
        assert torch.equal(model(ROWS), before)

    def test_obeys_its_mechanisms_from_the_first_step_on(self):
        """Plasticity that was bound before the birth drives the clone: signs stay, weights crystallize."""
        model, plasticity, optimizer, organism = plastic()
        layer = organism.grow("block")[1]
        opened(model)
        rates = layer.crystallize_rate.clone()
        train(model, optimizer, 5)
        assert layer.weight in {synapses.held for synapses in plasticity.synapses}
        assert obeys_dale(layer)
        assert not torch.equal(layer.crystallize_rate, rates)

    def test_goes_on_after_loading_as_if_nothing_had_been(self, tmp_path):
        """Saved and loaded, with everything made anew, the next steps are the same bits."""
        model, plasticity, optimizer, organism = plastic()
        organism.grow("block")
        opened(model)
        train(model, optimizer, 3)
        bc.save(model, tmp_path / "saved")
        twin = bc.load(tmp_path / "saved", factory=Residual)
        assert torch.equal(twin(ROWS), model(ROWS))
        fresh = torch.optim.Adam(twin.parameters(), lr=0.01)
        again = bc.Plasticity(twin).bind(fresh)
        again.load_state_dict(plasticity.state_dict())
        bc.Organism(twin).bind(fresh)
        fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        train(model, optimizer, 3)
        train(twin, fresh, 3)
        found = twin.state_dict()
        assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())

    def test_is_let_go_of_when_it_dies(self):
        """Plasticity forgets the weights of a branch that was pruned."""
        model, plasticity, optimizer, organism = plastic()
        count = len(plasticity.synapses)
        born = organism.grow("block")
        train(model, optimizer, 1)
        assert len(plasticity.synapses) == count + 2
        organism.prune(born)
        train(model, optimizer, 1)
        assert len(plasticity.synapses) == count

    def test_is_reverted_with_everything(self):
        """The original is left, and trains."""
        model, plasticity, optimizer, organism = plastic()
        organism.grow("block")
        train(model, optimizer, 1)
        plasticity.unbind()
        organism.unbind()
        bc.revert(model, optimizer=optimizer)
        train(model, optimizer, 1)
        assert type(model.block) is nn.Sequential
        assert model.state_dict().keys() == Residual().state_dict().keys()


def test_layers_of_a_branch_morph_by_the_steps_of_the_optimizer():
    """A clone of a node whose layers are on the way to a replacement is counted on with them."""
    rules = {
        "version": 1,
        "rules": [
            {
                "name": "yat",
                "match": {"path": "block.3"},
                "replace": {"with": "YatLinear", "morph": {"steps": 10}},
            },
            {"name": "growth", "match": {"path": "block"}, "wrap": {}},
        ],
    }
    model = bc.convert(seeded(Residual), rules)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    bc.Plasticity(model).bind(optimizer)
    organism = bc.Organism(model).bind(optimizer)
    train(model, optimizer, 2)
    born = organism.grow("block")
    train(model, optimizer, 3)
    assert (model.block[3].morph_step.item(), born[3].morph_step.item()) == (5, 5)


CHANGES = [
    pytest.param(lambda organism: organism.grow("block", "width", units=2), id="growth in width"),
    pytest.param(lambda organism: organism.prune_units("block", units=2, by="magnitude"), id="pruning"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_units_of_plastic_layers_stay(change):
    """What is kept of each weight fits the old size only: refused, and nothing has changed."""
    model, _, _, organism = plastic()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(OptionError, match="fuzzy_lr"):
        change(organism)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
