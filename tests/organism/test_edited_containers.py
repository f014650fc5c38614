"""Containers that are nodes with branches and are edited afterwards, as their users do."""

import pytest
import torch
from growing_models import ROWS, wrapping
from small_models import seeded
from torch import nn

import bioconvert as bc

EDITS = [
    pytest.param(lambda s: s.append(nn.Identity()), "LTLI", id="append"),
    pytest.param(lambda s: s.extend([nn.Identity(), nn.ReLU()]), "LTLIR", id="extend"),
    pytest.param(lambda s: s.insert(0, nn.Identity()), "ILTL", id="insert"),
    pytest.param(lambda s: s.__delitem__(1), "LL", id="delete"),
    pytest.param(lambda s: s.pop(1), "LL", id="pop"),
    pytest.param(lambda s: s.__setitem__(1, nn.ReLU()), "LRL", id="replace"),
]


def grown():
    """Give a model with a Sequential that has an open branch."""

    def make():
        return nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)), nn.Linear(4, 2))

    model = bc.convert(seeded(make), wrapping("0"))
    bc.Organism(model).grow("0")
    with torch.no_grad():
        model[0].grown["1"].gate.fill_(0.5)
    return model


def initials(layers):
    """Give the first letters of the layers' classes."""
    return "".join(type(each).__name__[0] for each in layers)


@pytest.mark.parametrize(("edit", "expected"), EDITS)
class TestASequentialWithABranch:
    def test_is_edited_as_one_without(self, edit, expected):
        """Its own children change, by the numbers that they have; the branch stays."""
        node = grown()[0]
        edit(node)
        assert initials(node) == expected
        assert initials([node[i] for i in range(len(node))]) == expected
        assert initials([node[-1]]) == expected[-1]
        assert set(node.grown) == {"1"}

    def test_computes_what_its_parts_do(self, edit, expected):
        """Output is that of the layers one after the other, plus the branch's."""
        del expected
        node = grown()[0]
        edit(node)
        y = ROWS
        for layer in node:
            y = layer(y)
        assert torch.equal(node(ROWS), y + node.grown["1"](ROWS))


class ByChildren(nn.Sequential):
    """Goes through its children, as Sequentials of old did."""

    def forward(self, x):
        """Pass x through all."""
        for layer in self._modules.values():
            x = layer(x)
        return x


def test_a_container_whose_own_forward_would_meet_what_grew_is_refused():
    """It would call what holds the branches as one of its layers."""
    model = nn.Sequential(ByChildren(nn.Linear(4, 4), nn.Tanh()))
    skipped = bc.plan(model, wrapping("0")).skipped
    assert ["goes through its children" in each.reason for each in skipped] == [True]
