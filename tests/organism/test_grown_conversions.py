"""Nodes beside other conversions: rewritten forwards and replaced layers, before and after growth."""

import copy
import json
import pickle

import pytest
import torch
from growing_models import ROWS
from small_models import seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.core.errors import ConversionError
from bioconvert.surgery import describe, replay
from bioconvert.surgery.step import steps_of


class Block(nn.Module):
    """Two layers, one activation a function, the other a module."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        """Add to the input."""
        return self.act(self.b(F.relu(self.a(x)))) + x


class Written(nn.Module):
    """Holds a block of its own class."""

    def __init__(self):
        super().__init__()
        self.block, self.head = Block(), nn.Linear(4, 2)

    def forward(self, x):
        """Pass x through both."""
        return self.head(self.block(x))


class Listed(nn.Module):
    """Holds a Sequential."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        """Pass x through both."""
        return self.head(self.block(x))


YAT = {
    "name": "yat",
    "match": {"path": "block.*", "type": "linear", "followed_by": ["ReLU"]},
    "replace": {"with": "YatLinear", "activation": "drop"},
}
WRAP = {"name": "nodes", "match": {"path": "block"}, "wrap": {}}


def rules(*which):
    return {"version": 1, "rules": list(which)}


def wrapped_and_replaced(make, order):
    """Convert in one call, or grow between two."""
    model = seeded(make)
    if order == "one call":
        return bc.convert(model, rules(WRAP, YAT))
    bc.convert(model, rules(WRAP))
    if order == "grown between":
        bc.Organism(model).grow("block")
    return bc.convert(model, rules(YAT))


@pytest.mark.parametrize("order", ["one call", "two calls", "grown between"])
@pytest.mark.parametrize("make", [Written, Listed])
class TestRewrittenNodes:
    def test_compute_what_they_would_without_a_node(self, make, order):
        """Dropped activations stay dropped when the block grows."""
        model = wrapped_and_replaced(make, order)
        expected = bc.convert(seeded(make), rules(YAT))(ROWS)
        assert torch.equal(model(ROWS), expected)
        bc.Organism(model).grow("block")
        assert torch.equal(model(ROWS), expected)
        assert steps_of(model.block)[-1].action == "wrap"

    def test_copy_pickle_compile_replay_and_revert(self, make, order):
        """With open gates everything that works on a converted model works."""
        model = wrapped_and_replaced(make, order)
        bc.Organism(model).grow("block")
        with torch.no_grad():
            for branch in model.block.grown.values():
                branch.gate.fill_(0.5)
        y = model(ROWS)
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), seeded(make)]
        replay(twins[2], json.loads(json.dumps(describe(model))))
        twins[2].load_state_dict(model.state_dict())
        assert all(torch.equal(twin(ROWS), y) for twin in twins)
        assert describe(twins[2]) == describe(model)
        torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(ROWS), y)
        assert torch.equal(bc.revert(model)(ROWS), seeded(make)(ROWS))
        assert type(model.block) is type(make().block)


def test_a_failed_conversion_of_a_grown_model_leaves_it_as_it_was(monkeypatch):
    """A step beneath the node is undone, and the node stays."""
    model = wrapped_and_replaced(Written, "two calls")
    bc.revert(model)
    bc.convert(model, rules(WRAP))
    bc.Organism(model).grow("block")
    before, told = type(model.block), describe(model)
    monkeypatch.setattr("bioconvert.surgery.apply._additions", lambda _: 1 / 0)
    with pytest.raises(ConversionError, match="undone"):
        bc.convert(model, rules(YAT), optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    assert type(model.block) is before
    assert describe(model) == told
    assert torch.equal(model(ROWS), seeded(Written)(ROWS))
