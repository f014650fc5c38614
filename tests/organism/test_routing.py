"""Who takes part and who learns: affinity, novelty, and a router's choice for each sample."""

import copy
import pickle

import pytest
import torch
from growing_models import ROWS, Residual, growing, wrapping
from small_models import seeded
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.organism import probe_expert_affinity, route_by_novelty
from bioconvert.organism.affinity import candidate_tags
from bioconvert.organism.router import imbalance

SURE, UNSURE = torch.eye(3) * 50, torch.zeros(3, 3)


def experts(**settings):
    """Give a model with a core and two experts that count."""
    model = bc.convert(seeded(Residual), wrapping(["block", "stem"]))
    organism = bc.Organism(model)
    if settings:
        organism.route("block", **settings)
    for name in ("one", "two"):
        organism.grow("block", tag=name)
    return model, organism


def open_gates(model, *sizes):
    """Set the gates of the block's branches."""
    with torch.no_grad():
        for branch, size in zip(model.block.grown.values(), sizes, strict=True):
            branch.gate.fill_(size)


def learning(model):
    """Give the names of the parameters that learn."""
    return {name for name, p in model.named_parameters() if p.requires_grad}


class TestAffinity:
    @pytest.mark.parametrize("batches", [ROWS, [ROWS, ROWS], [(ROWS,)], [{"x": ROWS}]], ids=str)
    def test_the_surest_node_claims(self, batches):
        """Data go to the node through which the outputs have the lowest entropy."""
        model, organism = experts()
        open_gates(model, 0.0, 200.0)
        affinity = probe_expert_affinity(organism, batches)
        assert list(affinity.entropies) == ["general", "one", "two"]
        assert affinity.claimed == "two"
        assert affinity.entropies["one"] == affinity.entropies["general"] > affinity.entropies["two"]

    def test_leaves_no_trace(self):
        """Which branches take part, training modes and gradients stay as they were."""
        model, organism = experts()
        organism.route("one")
        model.stem.eval()
        before = [(module.training) for module in model.modules()]
        probe_expert_affinity(organism, iter([ROWS]), steps=1)
        assert [node.node_record["active"] for node in organism.nodes()] == [True, True, True, False]
        assert [module.training for module in model.modules()] == before
        assert all(p.grad is None for p in model.parameters())

    def test_only_some_may_claim(self):
        """Candidates can be given, and without batches there is nothing to claim."""
        _, organism = experts()
        assert list(probe_expert_affinity(organism, ROWS, tags=["one"]).entropies) == ["one"]
        with pytest.raises(OptionError, match="at least one batch"):
            probe_expert_affinity(organism, [])

    def test_branches_of_a_tag_claim_together(self):
        """A tag on several nodes is one candidate."""
        _, organism = experts()
        organism.grow("stem", tag="one")
        assert candidate_tags(organism) == ["general", "one", "two"]


class TestNovelty:
    def test_novel_data_teach_experts(self):
        """Unsure outputs freeze the core and let experts learn; sure ones do the reverse."""
        model, organism = experts()
        assert route_by_novelty(organism, UNSURE)
        novel = learning(model)
        assert not route_by_novelty(organism, SURE)
        familiar = learning(model)
        outside = {"head.weight", "head.bias"}
        assert novel & familiar == outside
        assert novel | familiar == {name for name, _ in model.named_parameters()}
        assert {name for name in novel if ".grown." in name} == novel - outside

    def test_without_experts_all_learn(self):
        """A model that has only its core goes on as a whole."""
        model = growing()
        organism = bc.Organism(model)
        organism.freeze_all_except()
        assert route_by_novelty(organism, UNSURE)
        assert learning(model) == {name for name, _ in model.named_parameters()}

    def test_the_gradient_passes_what_is_frozen(self):
        """What lies before a frozen block still learns."""
        model = growing()
        organism = bc.Organism(model)
        organism.grow("block")
        route_by_novelty(organism, UNSURE)
        model(ROWS).square().sum().backward()
        assert model.stem.weight.grad.abs().sum() > 0
        assert model.block[1].weight.grad is None

    @pytest.mark.parametrize(("threshold", "novel"), [(0.3, True), (0.99, False)])
    def test_the_threshold_decides(self, threshold, novel):
        """Novel is what lies above the threshold."""
        _, organism = experts()
        assert route_by_novelty(organism, torch.tensor([[2.0, 0.0]]), threshold) is novel


class TestARouter:
    def test_birth_keeps_every_bit(self):
        """A node with a router gives what it did, before and after branches are born."""
        model = growing()
        expected = model(ROWS)
        organism = bc.Organism(model)
        organism.grow("block")
        organism.route("block", top_k=1)
        assert torch.equal(model(ROWS), expected)
        organism.grow("block")
        assert torch.equal(model(ROWS), expected)

    def test_weights_are_a_softmax_for_each_sample(self):
        """Each sample's branches count by the softmax of their scores, the block's score being zero."""
        model, _ = experts(top_k=2)
        open_gates(model, 0.5, 2.0)
        with torch.no_grad():
            for number, branch in enumerate(model.block.grown.values()):
                branch.router.weight.copy_(torch.randn(1, 4) + number)
        x = model.stem(ROWS)
        first, second = model.block.grown.values()
        shares = torch.cat([torch.zeros(3, 1), first.router(x), second.router(x)], 1).softmax(1)
        expected = bare(model)(x.clone()) + shares[:, 1:2] * first(x) + shares[:, 2:] * second(x)
        torch.testing.assert_close(model(ROWS), model.head(expected))

    def test_only_the_largest_count(self):
        """With top_k of one, every sample gets the one branch that scores it highest."""
        model, _ = experts(top_k=1)
        open_gates(model, 1.0, 1.0)
        first, second = model.block.grown.values()
        x = model.stem(ROWS)
        with torch.no_grad():
            for branch, weight in ((first, x[0]), (second, x[2])):
                branch.router.weight.copy_(50 * weight / weight.norm())
        assert first.router(x[:1]) > second.router(x[:1])
        assert first.router(x[2:]) < second.router(x[2:])
        added = model.block(x.clone()) - bare(model)(x.clone())
        shares = torch.cat([torch.zeros(3, 1), first.router(x), second.router(x)], 1).softmax(1)
        torch.testing.assert_close(added[0], (shares[:1, 1:2] * first(x[:1]))[0])
        torch.testing.assert_close(added[2], (shares[2:, 2:] * second(x[2:]))[0])

    def test_young_branches_count_beside_the_largest(self):
        """A branch whose gate has hardly opened displaces none, and learns with any top_k."""
        model, organism = experts(top_k=1)
        open_gates(model, 1.0, 0.5)
        before = model(ROWS)
        born = organism.grow("block", tag="young")
        with torch.no_grad():
            model.block.grown["3"].router.bias.fill_(5.0)
        after = model(ROWS)
        assert torch.equal(after, before)
        after.square().sum().backward()
        assert model.block.grown["3"].gate.grad.abs().sum() > 0
        assert born.dynamic_id == "block+3"

    @pytest.mark.parametrize("bias", [-200.0, 200.0])
    def test_extreme_scores_are_finite(self, bias):
        """Outputs and gradients are finite however sure a router is."""
        model, _ = experts(top_k=2)
        open_gates(model, 1.0, 0.01)
        with torch.no_grad():
            model.block.grown["1"].router.bias.fill_(bias)
        model(ROWS).square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    def test_everything_learns(self):
        """Gates get a gradient at once, scores once gates are open; numbers are finite."""
        model, organism = experts(top_k=2, load_balance=0.1)
        open_gates(model, 0.5, 0.5)
        (model(ROWS).square().sum() + organism.balance_loss()).backward()
        for branch in model.block.grown.values():
            assert branch.gate.grad.abs().sum() > 0
            assert branch.router.weight.grad.abs().sum() > 0

    def test_balance_is_one_where_even(self):
        """Imbalance goes from one, where samples spread evenly, to the number of branches."""
        even = torch.eye(3).repeat(2, 1) * 0.97 + 0.01
        assert imbalance(even).item() == pytest.approx(1.0)
        assert imbalance(even[:1].expand(5, 3)).item() > 2.8

    def test_balance_is_asked_once(self):
        """The loss is that of the last pass in training, times its factor, and then zero."""
        model, organism = experts(top_k=1, load_balance=0.01)
        assert organism.balance_loss().item() == 0
        model(ROWS)
        assert organism.balance_loss().item() >= 0.0099
        assert organism.balance_loss().item() == 0
        model.eval()(ROWS)
        assert organism.balance_loss().item() == 0

    def test_copies_hold_no_graph(self):
        """A model is copied and pickled after a pass, and the copy does what it does."""
        model, _ = experts(top_k=1, load_balance=0.1)
        open_gates(model, 0.5, 0.2)
        expected = model(ROWS)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(ROWS), expected)

    def test_comes_back_from_disk(self, tmp_path):
        """Scores and settings are saved with the model, and taken away with their branch."""
        model, organism = experts(top_k=1, load_balance=0.1)
        open_gates(model, 0.5, 0.2)
        organism.prune("one")
        bc.save(model, tmp_path / "saved")
        twin = bc.load(tmp_path / "saved")
        assert torch.equal(twin(ROWS), model(ROWS))
        found = bc.Organism(twin)
        assert found.get("block").node_record["router"] == {"top_k": 1, "load_balance": 0.1, "features": 4}
        found.grow("block")
        assert torch.equal(twin(ROWS), model(ROWS))

    def test_its_parameters_join_the_optimizer(self, tmp_path):
        """Scores that come later get a group of their own, also in an optimizer made after loading."""
        model = growing()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        organism = bc.Organism(model).bind(optimizer)
        organism.grow("block")
        organism.route("block", top_k=1)
        organism.grow("block")
        names = [group.get("name") for group in optimizer.param_groups]
        assert names == [None, "block+1", "block+1/1", "block+1/router", "block+2", "block+2/1"]
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in model.parameters())
        bc.save(model, tmp_path / "saved")
        twin = bc.load(tmp_path / "saved")
        other = torch.optim.AdamW(twin.parameters(), lr=0.01)
        bc.Organism(twin).bind(other)
        other.load_state_dict(optimizer.state_dict())
        assert [len(group["params"]) for group in other.param_groups] == [
            len(group["params"]) for group in optimizer.param_groups
        ]

    def test_scores_freeze_with_their_branch(self):
        """A frozen branch's scores are frozen."""
        model, organism = experts(top_k=1)
        organism.freeze_all_except("two")
        assert not any("grown.1." in name for name in learning(model))
        organism.unfreeze()
        assert "block.grown.1.router.weight" in learning(model)

    def test_is_put_on_every_node_of_a_tag(self):
        """As with routes by tag, a tag means all nodes that have it."""
        model, organism = experts()
        organism.grow("stem", tag="one")
        organism.route("general", top_k=1)
        assert [node.dynamic_id for node in organism.nodes() if "router" in node.node_record] == [
            "stem",
            "block",
        ]
        assert torch.isfinite(model(ROWS)).all()

    def test_reverts_without_a_trace(self):
        """Revert takes routers away with their branches."""
        model, _ = experts(top_k=1)
        bc.revert(model)
        assert model.state_dict().keys() == seeded(Residual).state_dict().keys()

    def test_compiles_as_a_whole(self):
        """A routed node is one graph for torch.compile."""
        model, _ = experts(top_k=1)
        open_gates(model.eval(), 0.5, 0.2)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(ROWS), model(ROWS))

    @pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 5, 7)])
    def test_routes_pictures(self, shape):
        """Pictures are pooled to their channels."""
        model = bc.convert(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)), wrapping("0"))
        x = torch.randn(shape)
        expected = model(x)
        organism = bc.Organism(model)
        organism.route("0", top_k=1)
        organism.grow("0")
        assert torch.equal(model(x), expected)
        assert organism.get("0").node_record["router"]["features"] == 3

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"top_k": 0}, "top_k must be at least 1, not 0"),
            ({"top_k": 1, "load_balance": -1.0}, "load_balance must not be negative"),
        ],
    )
    def test_settings_are_checked(self, settings, said):
        """Numbers out of range are errors."""
        with pytest.raises(OptionError, match=said):
            experts(**settings)

    def test_an_unknown_input_size_must_be_given(self):
        """Where no layer tells the size of the input, features does; a wrong one is an error."""
        model = bc.convert(nn.Sequential(nn.Tanh()), wrapping("0"))
        organism = bc.Organism(model)
        with pytest.raises(OptionError, match="give features="):
            organism.route("0", top_k=1)
        organism.route("0", top_k=1, features=5)
        organism.grow("0")
        with pytest.raises(OptionError, match="made for 5 features got 4"):
            model(ROWS)


def bare(model):
    """Give the block without its branches."""
    twin = copy.deepcopy(model)
    organism = bc.Organism(twin)
    for node in organism.nodes():
        if "+" in node.dynamic_id:
            organism.prune(node)
    return twin.block
