"""Which optimizer gets what of a birth, and at which rate, where there are several of them."""

import copy

import pytest
import torch
from growing_models import ROWS, Residual, growing, train, wrapping
from small_models import seeded

import bioconvert as bc
from bioconvert.organism import GrowthCallback, GrowthConfig


def by_dimensions(model):
    """Give an optimizer of the matrices and one of everything else."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    return torch.optim.SGD(matrices, lr=0.1, momentum=0.9), torch.optim.AdamW(rest, lr=0.01)


def by_part(model):
    """Give an optimizer of the block and one of everything else."""
    block = {id(p) for p in model.block.parameters()}
    rest = [p for p in model.parameters() if id(p) not in block]
    return torch.optim.Adam(rest, lr=0.01), torch.optim.Adam(model.block.parameters(), lr=0.02)


def loaded(model, folder):
    """Save and load, and make new optimizers."""
    bc.save(model, folder / "saved")
    twin = bc.load(folder / "saved", factory=Residual)
    return twin, by_part(twin)


def shapes(group):
    """Give the shapes of what a group holds."""
    return [tuple(p.shape) for p in group["params"]]


def step_both(model, optimizers, steps=1):
    """Do some steps with several optimizers."""
    for _ in range(steps):
        model.zero_grad()
        model(ROWS).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()


class TestSeveralOptimizers:
    def test_each_gets_what_is_a_copy_of_its_own(self):
        """Either gets the copies of what it trains of a node; the gate goes with the biases."""
        model = growing()
        matrices, rest = by_dimensions(model)
        bc.Organism(model).bind(matrices).bind(rest).grow("block")
        assert [shapes(group) for group in matrices.param_groups[1:]] == [[(6, 4), (4, 6)]]
        assert [shapes(group) for group in rest.param_groups[1:]] == [[(6,), (4,)], [(1,)]]
        step_both(model, (matrices, rest), 2)

    def test_one_that_is_given_gets_all(self):
        """Whoever names the optimizer decides."""
        model = growing()
        matrices, rest = by_dimensions(model)
        bc.Organism(model).bind(matrices).grow("block", optimizer=rest)
        assert len(matrices.param_groups) == 1
        assert sum(map(len, map(shapes, rest.param_groups[1:]))) == 5

    def test_each_gets_its_own_in_a_training_loop(self):
        """A callback is given one of them; what it lets grow goes to both, as by hand."""
        model = growing()
        matrices, rest = by_dimensions(model)
        organism = bc.Organism(model).bind(matrices)
        callback = GrowthCallback(organism, rest, GrowthConfig(trigger="manual", check_every=1))
        callback.request()
        callback(loss=1.0)
        assert [shapes(group) for group in matrices.param_groups[1:]] == [[(6, 4), (4, 6)]]
        assert [shapes(group) for group in rest.param_groups[1:]] == [[(6,), (4,)], [(1,)]]

    def test_what_a_callback_grows_of_frozen_blocks_learns(self):
        """An optimizer that was made without a frozen block gets the branch nevertheless."""
        model = growing()
        model.block.requires_grad_(False)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        callback = GrowthCallback(
            bc.Organism(model), optimizer, GrowthConfig(trigger="manual", check_every=1)
        )
        callback.request()
        born = callback(loss=1.0)
        groups = [group for group in optimizer.param_groups if group.get("name") == "block+1"]
        assert [shapes(group)[-1] for group in groups] == [(1,)]
        assert born.dynamic_id == "block+1"

    def test_that_of_the_inner_nodes_trains_a_node_without_weights_of_its_own(self):
        """A branch goes to the optimizer of what it is a clone of, also where that is in nodes inside."""
        model = growing(["block", "block.1", "block.3"])
        rest, block = by_part(model)
        bc.Organism(model).bind(rest).bind(block).grow("block")
        assert len(rest.param_groups) == 1
        assert len(block.param_groups) > 1

    def test_go_on_after_loading(self, tmp_path):
        """Groups are found by what they hold; the saved states fit, and every bit goes on."""
        model = growing()
        optimizers = by_part(model)
        organism = bc.Organism(model, stabilization_steps=4).bind(optimizers[0]).bind(optimizers[1])
        organism.grow("block")
        step_both(model, optimizers, 2)
        twin, fresh = loaded(model, tmp_path)
        bc.Organism(twin, stabilization_steps=4).bind(fresh[0]).bind(fresh[1])
        for one, new in zip(optimizers, fresh, strict=True):
            new.load_state_dict(copy.deepcopy(one.state_dict()))
        step_both(model, optimizers, 3)
        step_both(twin, fresh, 3)
        found = twin.state_dict()
        assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())

    def test_get_their_groups_in_any_order(self, tmp_path):
        """Which one is bound first after loading makes no difference to the groups of the living."""
        model = growing()
        optimizers = by_part(model)
        bc.Organism(model).bind(optimizers[0]).bind(optimizers[1]).grow("block")
        twin, fresh = loaded(model, tmp_path)
        bc.Organism(twin).bind(fresh[1]).bind(fresh[0])
        told, found = (
            [list(map(shapes, each.param_groups)) for each in pair] for pair in (optimizers, fresh)
        )
        assert told == found

    def test_keep_the_dead_apart(self, tmp_path):
        """The empty group of a branch that died comes back in the optimizer that it was in alone."""
        model = growing()
        optimizers = by_part(model)
        organism = bc.Organism(model).bind(optimizers[0]).bind(optimizers[1])
        organism.prune(organism.grow("block"))
        twin, fresh = loaded(model, tmp_path)
        bc.Organism(twin).bind(fresh[0]).bind(fresh[1])
        counts = [[len(each.param_groups) for each in pair] for pair in (optimizers, fresh)]
        assert counts[0] == counts[1]
        assert counts[0][0] == 1


class TestABranchOfABranch:
    def test_starts_at_ten_times_the_rate_of_the_block(self):
        """That its parent is still warm doesn't make it hotter."""
        model = growing()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        organism = bc.Organism(model, stabilization_steps=4).bind(optimizer)
        second = organism.grow(organism.grow("block"))
        organism.grow(second)
        assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1.0, 1.0, 1.0]
        train(model, optimizer, 5)
        assert [group["lr"] for group in optimizer.param_groups] == [0.1] * 4

    def test_goes_by_its_parent_where_that_is_warm_no_more(self):
        """A rate that the parent's group was given since is the base."""
        model = growing()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        organism = bc.Organism(model, stabilization_steps=1).bind(optimizer)
        first = organism.grow("block")
        train(model, optimizer, 3)
        optimizer.param_groups[1]["lr"] = 0.02
        organism.grow(first)
        assert optimizer.param_groups[2]["lr"] == pytest.approx(0.2)


class TestTwoOrganismsOfOneModel:
    def test_count_each_step_once(self):
        """To make an organism anew and to bind the same optimizer changes nothing."""
        model = growing()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        first = bc.Organism(model).bind(optimizer)
        second = bc.Organism(model).bind(optimizer)
        train(model, optimizer, 2)
        assert (first.step, second.step) == (2, 2)

    def test_share_their_optimizers(self):
        """What one of them bound follows the growth of the other."""
        model = growing()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        bc.Organism(model).bind(optimizer)
        bc.Organism(model).grow("block")
        assert optimizer.param_groups[1]["name"] == "block+1"

    def test_of_a_copy_are_others(self):
        """The optimizer of the original doesn't count for a copy of the model."""
        model = growing()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        bc.Organism(model).bind(optimizer)
        twin = bc.Organism(copy.deepcopy(model))
        twin.grow("block")
        train(model, optimizer, 1)
        assert len(optimizer.param_groups) == 1
        assert twin.step == 0


def test_a_model_converted_again_begins_anew():
    """After a revert, the optimizer counts from zero, and warms up the new branch of that name."""
    model = growing()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    organism = bc.Organism(model, stabilization_steps=4).bind(optimizer)
    organism.grow("block")
    bc.revert(model, optimizer=optimizer)
    bc.convert(model, wrapping("block"))
    again = bc.Organism(model, stabilization_steps=4).bind(optimizer)
    again.grow("block")
    assert optimizer.param_groups[-1]["lr"] == 1.0
    train(model, optimizer, 5)
    assert again.step == 5
    assert optimizer.param_groups[-1]["lr"] == 0.1


def test_what_died_inside_a_branch_is_no_part_of_its_group(tmp_path):
    """A branch inside a clone may be pruned: the model comes back, and the optimizer's saved state fits."""
    model = growing(["block", "block.3"])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    organism = bc.Organism(model).bind(optimizer)
    organism.grow("block.3")
    organism.grow("block")
    organism.prune("block+1.3+1")
    train(model, optimizer, 2)
    bc.save(model, tmp_path / "saved")
    twin = bc.load(tmp_path / "saved", factory=lambda: seeded(Residual))
    fresh = torch.optim.Adam(twin.parameters(), lr=0.01)
    bc.Organism(twin).bind(fresh)
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, 2)
    train(twin, fresh, 2)
    assert torch.equal(model(ROWS), twin(ROWS))


class Single(torch.optim.SGD):
    """Takes one group of parameters."""

    def add_param_group(self, param_group):
        """Refuse a second one."""
        if self.param_groups:
            raise ValueError("one group only")
        super().add_param_group(param_group)


def test_a_birth_that_the_optimizer_refuses_leaves_no_trace():
    """The model has no branch then, and the history tells of none."""
    model = growing()
    organism = bc.Organism(model).bind(Single(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="one group only"):
        organism.grow("block")
    assert [node.dynamic_id for node in organism.nodes()] == ["block"]
    assert "grown" not in model.block._modules
    assert organism.history == ()
