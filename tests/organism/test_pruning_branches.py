"""Branches and blocks that go, with what the layers around take over from them."""

import copy

import pytest
import torch
from growing_models import wrapping
from small_models import seeded
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError

ROWS = torch.randn(64, 4, generator=torch.Generator().manual_seed(4))


class Hosting(nn.Module):
    """A block between two layers.

    Args:
        block: the block.
    """

    def __init__(self, *block):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.block = nn.Sequential(*block) if len(block) > 1 else block[0]
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        """Pass x through all."""
        return self.head(torch.relu(self.block(self.stem(x))))


def ending_in_linear():
    """A block whose output is that of its last layer."""
    return Hosting(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))


def ending_in_tanh():
    """A block whose output is bent."""
    return Hosting(nn.Linear(4, 4), nn.Tanh())


def ending_in_place():
    """A block whose last layer's output is written over."""
    return Hosting(nn.Linear(4, 4), nn.ReLU(inplace=True))


def one_layer():
    """A block that is a layer itself."""
    return Hosting(nn.Linear(4, 4))


BLOCKS = [
    pytest.param(ending_in_linear, {"block.2", "head"}, id="ends in Linear"),
    pytest.param(ending_in_tanh, {"head"}, id="ends in Tanh"),
    pytest.param(ending_in_place, {"head"}, id="ends in place"),
    pytest.param(one_layer, {"block", "head"}, id="one Linear"),
]


def grown(make, gate=0.7):
    """Give a model whose block has a branch of its own mind, with the organism."""
    model = bc.convert(seeded(make), wrapping("block"))
    organism = bc.Organism(model)
    organism.grow("block", tag="expert")
    with torch.no_grad():
        for name, parameter in model.block.grown.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(gate)
            else:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9)))
    return model, organism


@pytest.mark.parametrize(("make", "takers"), BLOCKS)
class TestEveryBlock:
    def test_without_a_refit_the_host_is_as_it_was(self, make, takers):
        """A branch that goes leaves every bit as before it came."""
        model, organism = grown(make)
        organism.prune("expert")
        assert takers
        assert torch.equal(model(ROWS), seeded(make)(ROWS))
        assert "refit" not in organism.history[-1]

    def test_layers_around_take_over(self, make, takers):
        """Refitted, the output is closer to what it was with the branch, by the layers that can help."""
        model, organism = grown(make)
        y = model(ROWS).detach()
        without, _ = grown(make)
        bc.Organism(without).prune("expert")
        organism.prune("expert", refit=[ROWS[:40], ROWS[40:]])
        assert (model(ROWS) - y).square().mean() < 0.5 * (without(ROWS) - y).square().mean()
        assert set(organism.history[-1]["refit"]) == takers

    def test_the_last_layer_can_stay_out(self, make, takers):
        """Without folding, only what stands behind takes over."""
        model, organism = grown(make)
        before = {
            name: p.detach().clone() for name, p in model.block.named_parameters() if "grown" not in name
        }
        organism.prune("expert", refit=[ROWS], fold_bias=False)
        assert all(torch.equal(p, before[name]) for name, p in model.block.named_parameters())
        assert set(organism.history[-1]["refit"]) == takers - {"block", "block.2"}

    def test_revert_keeps_refitted_values(self, make, takers):
        """Afterwards the model is a plain one, with the values that the refit found."""
        model, organism = grown(make)
        organism.prune("expert", refit=[ROWS])
        y = model(ROWS)
        bc.revert(model)
        assert takers
        assert torch.equal(model(ROWS), y)
        assert model.state_dict().keys() == make().state_dict().keys()


class TestBranches:
    def test_a_constant_is_folded_into_the_bias(self):
        """What a branch always gives goes into the bias of the host's last layer, and no output changes."""
        model, organism = grown(ending_in_linear)
        with torch.no_grad():
            last = model.block.grown["1"].block[2]
            last.weight.zero_()
            last.bias.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
        y, weight = model(ROWS), model.block[2].weight.detach().clone()
        bias = model.block[2].bias + 0.7 * last.bias
        organism.prune("expert", refit=[ROWS])
        assert torch.allclose(model.block[2].bias, bias, atol=1e-6)
        assert torch.allclose(model.block[2].weight, weight, atol=1e-6)
        assert torch.allclose(model(ROWS), y, atol=1e-5)

    def test_of_a_linear_branch_nothing_is_lost(self):
        """A linear branch beside a linear host goes into its weights."""
        model, organism = grown(one_layer)
        y = model(ROWS)
        organism.prune("expert", refit=[ROWS], ridge=1e-10)
        assert torch.allclose(model(ROWS), y, atol=1e-4)

    def test_other_branches_stay_beside(self):
        """The refit is about what one branch gave, with all others at work."""
        model, organism = grown(ending_in_linear)
        organism.grow("block", tag="second")
        with torch.no_grad():
            model.block.grown["2"].gate.fill_(-0.4)
        x, y, twin = model.stem(ROWS), model(ROWS).detach(), copy.deepcopy(model)
        added, wanted = model.block.grown["1"](x), model.block(x) - model.block.grown["2"](x)
        bc.Organism(twin).prune("expert")
        organism.prune("expert", refit=[ROWS])
        assert [node.dynamic_id for node in organism.nodes()] == ["block", "block+2"]
        assert (model(ROWS) - y).square().mean() < 0.5 * (twin(ROWS) - y).square().mean()
        alone = model.block(x) - model.block.grown["2"](x)
        assert (alone - wanted).square().mean() < 0.2 * added.square().mean()

    def test_a_branch_that_takes_no_part_leaves_nothing(self):
        """Routed around, a branch goes without a refit."""
        model, organism = grown(ending_in_linear)
        organism.grow("block", tag="second")
        organism.route("second")
        y = model(ROWS)
        organism.prune("expert", refit=[ROWS])
        assert torch.equal(model(ROWS), y)

    def test_optimizers_forget(self):
        """Parameters of a branch leave groups and state; moments of the rest keep every bit."""
        model, organism = grown(ending_in_linear)
        optimizer = torch.optim.Adam(model.parameters())
        organism.bind(optimizer)
        model(ROWS).sum().backward()
        optimizer.step()
        gone = list(model.block.grown.parameters())
        kept = optimizer.state[model.head.weight]["exp_avg"].clone()
        organism.prune("expert", refit=[ROWS])
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert not held & {id(p) for p in gone}
        assert not {id(p) for p in optimizer.state} & {id(p) for p in gone}
        assert torch.equal(optimizer.state[model.head.weight]["exp_avg"], kept)


def widening():
    """A block that changes the shape."""
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))


class Paired(nn.Module):
    """Gives a pair."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        """Give both."""
        return self.fc(x), x


class TakingPairs(nn.Module):
    """Holds what gives a pair."""

    def __init__(self):
        super().__init__()
        self.pair = Paired()

    def forward(self, x):
        """Add."""
        return sum(self.pair(x))


class TestBlocks:
    def test_a_block_becomes_a_pass_through(self):
        """It hands on its input, learns nothing and leaves the optimizer; what is behind is refitted."""
        model = bc.convert(seeded(ending_in_tanh), wrapping("block"))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        organism = bc.Organism(model).bind(optimizer)
        y = model(ROWS).detach()
        organism.prune("block", refit=[ROWS])
        plain = seeded(ending_in_tanh)
        without = plain.head(torch.relu(plain.stem(ROWS)))
        assert torch.equal(model(ROWS), model.head(torch.relu(model.stem(ROWS))))
        assert (model(ROWS) - y).square().mean() < 0.8 * (without - y).square().mean()
        assert set(organism.history[-1]["refit"]) == {"head"}
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert not any(id(p) in held or p.requires_grad for p in model.block.parameters())

    def test_branches_beside_it_go_on(self):
        """What grew beside a block still adds to what goes past."""
        model, organism = grown(ending_in_linear)
        organism.prune("block", refit=[ROWS])
        h = model.stem(ROWS)
        expected = model.head(torch.relu(h + model.block.grown["1"](h)))
        assert torch.allclose(model(ROWS), expected)
        organism.prune("expert")
        assert torch.equal(model(ROWS), model.head(torch.relu(model.stem(ROWS))))

    def test_revert_brings_it_back(self):
        """The block computes and learns again as it did."""
        model = bc.convert(seeded(ending_in_linear), wrapping("block"))
        organism = bc.Organism(model)
        organism.freeze_all_except("block")
        organism.prune("block", refit=[ROWS])
        bc.revert(model)
        plain = seeded(ending_in_linear)
        assert torch.equal(model.block(ROWS), plain.block(ROWS))
        assert all(p.requires_grad for p in model.parameters())
        assert model.state_dict().keys() == plain.state_dict().keys()

    def test_revert_brings_it_back_without_what_died_inside(self):
        """A branch inside a dead block may be pruned afterwards."""
        model = bc.convert(seeded(ending_in_linear), wrapping(["block", "block.2"]))
        organism = bc.Organism(model)
        inner = organism.grow("block.2")
        organism.prune("block", refit=[ROWS])
        organism.prune(inner)
        bc.revert(model)
        assert all(p.requires_grad for p in model.parameters())
        assert model.state_dict().keys() == ending_in_linear().state_dict().keys()

    def test_it_comes_back_from_disk_and_goes_on(self, tmp_path):
        """A loaded model hands on, its optimizer has the same groups, and the next step is the same."""
        steps = []
        for reloads in (False, True):
            model = bc.convert(seeded(ending_in_linear), wrapping("block"))
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
            organism = bc.Organism(model).bind(optimizer)
            for step in range(4):
                if step == 2:
                    organism.prune("block", refit=[ROWS])
                if step == 3 and reloads:
                    bc.save(model, tmp_path / "saved")
                    saved = optimizer.state_dict()
                    model = bc.load(tmp_path / "saved", factory=ending_in_linear)
                    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
                    bc.Organism(model).bind(optimizer)
                    optimizer.load_state_dict(saved)
                optimizer.zero_grad()
                model(ROWS).square().mean().backward()
                optimizer.step()
            steps.append((model, [p.requires_grad for p in model.parameters()]))
        (straight, flags), (resumed, others) = steps
        assert flags == others
        assert torch.equal(straight(ROWS), resumed(ROWS))
        assert all(
            torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True)
        )

    def test_copies_hand_on_too(self):
        """A deep copy hands on, and drift still compares with the block as it was."""
        model = bc.convert(seeded(ending_in_linear), wrapping("block"))
        bc.Organism(model).prune("block", refit=[ROWS])
        y = model(ROWS)
        assert torch.equal(copy.deepcopy(model)(ROWS), y)
        bc.drift(model, example_inputs=(ROWS,))
        assert torch.equal(model(ROWS), y)

    @pytest.mark.parametrize(
        ("make", "path", "refit", "said"),
        [
            (ending_in_linear, "block", None, "isn't known: give batches"),
            (widening, "0", [ROWS], "isn't a tensor of the shape"),
            (TakingPairs, "pair", [ROWS], "isn't a tensor of the shape"),
        ],
    )
    def test_what_nothing_can_stand_for_stays(self, make, path, refit, said):
        """Where shapes don't allow it, or aren't known, the block is left as it is."""
        model = bc.convert(seeded(make), wrapping(path))
        with pytest.raises(OptionError, match=said):
            bc.Organism(model).prune(path, refit=refit)
        assert torch.equal(model(ROWS), seeded(make)(ROWS))

    def test_a_second_time_is_refused(self):
        """A pass-through can't go once more."""
        model = bc.convert(seeded(ending_in_linear), wrapping("block"))
        organism = bc.Organism(model)
        organism.prune("block", refit=[ROWS])
        with pytest.raises(OptionError, match="it is one already"):
            organism.prune("block", refit=[ROWS])

    def test_what_grows_beside_it_learns(self):
        """A branch of a block that hands on is a clone of what the block was, and learns."""
        model = bc.convert(seeded(ending_in_linear), wrapping("block"))
        organism = bc.Organism(model)
        organism.prune("block", refit=[ROWS])
        y = model(ROWS)
        organism.grow("block")
        assert torch.equal(model(ROWS), y)
        assert all(p.requires_grad for p in model.block.grown.parameters())
        assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(ROWS), y)
