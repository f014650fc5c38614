"""Blocks and branches that work in place, and the short cuts of a forward pass."""

import copy

import pytest
import torch
from growing_models import ROWS, growing, wrapping
from torch import nn
from torch.nn.utils import parametrize

import bioconvert as bc
from bioconvert.organism import DynamicNetwork


def open_gates(model):
    """Let every branch count by half."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(0.5)
    return model


def linear_block():
    """Give a block that is known to leave its input as it is."""
    return nn.Sequential(nn.Identity(), nn.Linear(4, 4))


def with_branch(block):
    """Give a node with a branch whose gate is open, and the branch's block."""
    model = bc.convert(nn.Sequential(block), wrapping("0"))
    bc.Organism(model).grow("0")
    open_gates(model)
    return model[0], model[0].grown["1"].block


class Halving(nn.Module):
    """Works in place on what it is given, of any type, wherever that stands."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x, *, more):
        """Halve it all."""
        more["rows"][0].div_(2, rounding_mode="floor")
        return self.fc(x.div_(2).real)


EDITS = {
    "none": lambda block: None,
    "a layer that works in place": lambda block: block.__setitem__(0, nn.ReLU(inplace=True)),
    "a hook that does": lambda block: block[0].register_forward_pre_hook(lambda block, x: x[0].relu_()),
}
"""What is done to a block after its first forward pass; each changes how it reads its input."""


@pytest.mark.parametrize("grad", [True, False], ids=["gradients", "no gradients"])
class TestWorkInPlace:
    @pytest.mark.parametrize("of_branch", EDITS.values(), ids=EDITS)
    @pytest.mark.parametrize("of_parent", EDITS.values(), ids=EDITS)
    def test_block_and_branch_read_what_the_node_was_given(self, grad, of_parent, of_branch):
        """Neither sees what the other writes, also where it began to write after the first pass."""
        with torch.set_grad_enabled(grad):
            node, branch = with_branch(linear_block())
            node(ROWS.clone())
            alone = copy.deepcopy(node[:]), copy.deepcopy(branch[:])
            for edit, blocks in ((of_parent, (node, alone[0])), (of_branch, (branch, alone[1]))):
                for block in blocks:
                    edit(block)
            expected = alone[0](ROWS.clone()) + 0.5 * alone[1](ROWS.clone())
            assert torch.equal(node(ROWS.clone()), expected)

    def test_a_branch_leaves_no_trace_in_what_its_parent_is_given(self, grad):
        """A clone that works in place does so on a copy: its parent alone changes the input."""
        model = open_gates(growing())
        bc.Organism(model).grow("block")
        x = ROWS.clone()
        with torch.set_grad_enabled(grad):
            model.block(x)
        assert torch.equal(x, torch.relu(ROWS))

    def test_tensors_of_every_type_are_copied(self, grad):
        """Whole and complex numbers inside of other things are written to once, by the parent."""
        x, count = torch.ones(3, 4, dtype=torch.complex64), torch.tensor([8])
        with torch.set_grad_enabled(grad):
            node, _ = with_branch(Halving())
            node(x, more={"rows": [count]})
        assert count.item() == 4
        assert torch.equal(x, torch.full_like(x, 0.5))

    def test_gradients_are_those_of_the_sum(self, grad):
        """A parent that writes to its input does no harm to what a branch keeps for the backward pass."""
        node, branch = with_branch(linear_block())
        EDITS["a layer that works in place"](node)
        node.requires_grad_(grad)
        branch.requires_grad_(True)
        node(ROWS.clone()).sum().backward()
        expected = 0.5 * ROWS.sum(0).expand(4, 4)
        torch.testing.assert_close(branch[1].weight.grad, expected)


class TestAShortCut:
    def test_hooks_on_what_a_node_of_a_network_holds_are_called(self):
        """A node, its branch, the branch's block and what that holds all call their hooks."""
        network = DynamicNetwork()
        name = network.add_layer(nn.Linear(4, 4))
        network.organism.grow(name)
        node = network.members[name]
        branch = node.grown["1"]
        network(ROWS)
        called = []
        for module in (node, branch, branch.block, branch.block.child_module):
            module.register_forward_hook(lambda module, x, y: called.append(module))
        network(ROWS)
        assert called == [branch.block.child_module, branch.block, branch, node]

    def test_a_gate_may_be_parametrized(self):
        """A gate that is computed counts as it is computed."""
        node, branch = with_branch(linear_block())
        parametrize.register_parametrization(node.grown["1"], "gate", nn.Tanh())
        with torch.no_grad():
            expected = node[:](ROWS) + torch.tanh(torch.tensor(0.5)) * branch(ROWS)
            torch.testing.assert_close(node(ROWS), expected)

    def test_vmap_gives_what_a_loop_gives(self):
        """Mapped over samples, with and without gradients, a grown block computes the same."""
        node, _ = with_branch(linear_block())
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                torch.testing.assert_close(torch.vmap(node)(ROWS), node(ROWS))
