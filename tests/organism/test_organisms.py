"""The organism: finding nodes, freezing, routing, pruning, and what it says of itself."""

import json

import pytest
import torch
from growing_models import ROWS, Residual, growing, train, wrapping
from small_models import Mlp, seeded
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError

TWO = {
    "version": 1,
    "rules": [
        {"name": "core", "match": {"path": "block"}, "wrap": {"tag": "general"}},
        {"name": "stem", "match": {"path": "stem"}, "wrap": {"tag": "sense", "immortal": True, "grace": 7}},
    ],
}


def two():
    """Give a model with two nodes, the first of which has two branches."""
    model = bc.convert(seeded(Residual), TWO)
    organism = bc.Organism(model)
    organism.grow("general", tag="expert_a")
    organism.grow("general", tag="expert_b")
    return model, organism


def learning(model):
    """Give the names of the parameters that learn."""
    return {name for name, p in model.named_parameters() if p.requires_grad}


class TestFinding:
    def test_nodes_go_by_id_tag_and_themselves(self):
        """Ids are dotted paths, of branches with a number behind."""
        model, organism = two()
        assert [node.dynamic_id for node in organism.nodes()] == ["stem", "block", "block+1", "block+2"]
        assert organism.get("general") is model.block
        assert organism.get("block") is model.block
        assert organism.get("expert_b") is model.block.grown["2"].block
        assert organism.get(model.stem) is model.stem
        assert model.stem.node_record["grace"] == 7

    def test_specialties_can_be_set(self):
        """A node goes by its new tag at once."""
        model, organism = two()
        model.stem.set_specialty("eyes")
        assert organism.get("eyes") is model.stem
        assert model.stem.tag == "eyes"

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda o: o.get("expert_c"), r"no node 'expert_c'. Did you mean 'expert_[ab]'\? Known: block"),
            (lambda o: o.grow("blok"), "Did you mean 'block'"),
            (lambda o: o.get(3), "must be given itself, by its id or by its tag, not as int"),
            (lambda o: o.get(growing().block), "'block' is no part of this model"),
            (lambda o: o.freeze_all_except("generall"), "Did you mean 'general'"),
            (lambda o: o.route("expert"), "Did you mean 'expert_[ab]'"),
            (lambda o: o.prune("block"), "can't become a pass-through: what shapes"),
            (lambda o: o.grow("block", kind="leaf"), "not a 'leaf'"),
        ],
    )
    def test_what_is_not_there_is_named_with_a_suggestion(self, call, said):
        """Errors say what is known and what may have been meant."""
        with pytest.raises(OptionError, match=said):
            call(two()[1])

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (Mlp, "no nodes: convert it by a rule with `wrap:`"),
            (lambda: 3, "must be an instance of torch.nn.Module, not int"),
            (lambda: nn.Sequential(growing(), growing()), "two nodes are called 'block'"),
        ],
    )
    def test_models_without_nodes_are_refused(self, make, said):
        """An organism needs nodes, each with a name of its own."""
        with pytest.raises(OptionError, match=said):
            bc.Organism(make())

    def test_a_compiled_wrapper_is_taken_off(self):
        """Nodes inside a compiled model are found, and grow there."""
        model = growing()
        organism = bc.Organism(torch.compile(model, backend="eager"))
        organism.grow("block")
        assert "grown" in model.block._modules

    def test_a_second_organism_goes_on(self):
        """Counts and history lie in the model."""
        model, organism = two()
        other = bc.Organism(model)
        assert other.history == organism.history
        assert other.grow("general").tag == "expert_3"


class TestOnTheMetaDevice:
    def test_branches_grow_and_are_told_of(self):
        """Structure can be planned before there are values."""
        model = bc.convert(nn.Sequential(nn.Linear(4, 4, device="meta")), wrapping("0"))
        organism = bc.Organism(model)
        organism.grow("0")
        assert repr(organism) == "<Organism: 2 nodes, 1 of them branches, step 0>"
        assert "0+1" in str(organism)

    def test_units_need_values(self):
        """New units are born of old ones, which is told."""
        layers = nn.Sequential(nn.Linear(4, 4, device="meta"), nn.ReLU(), nn.Linear(4, 4, device="meta"))
        organism = bc.Organism(bc.convert(nn.Sequential(layers), wrapping("0")))
        with pytest.raises(OptionError, match="'0' is on the meta device"):
            organism.grow("0", "width")


class TestGrowth:
    def test_beside_a_branch_grows_a_sibling_of_it(self):
        """Growing from a branch copies the branch, on the same host."""
        model, organism = two()
        with torch.no_grad():
            organism.get("expert_a")[1].weight.fill_(3.0)
        born = organism.grow("expert_a", tag="expert_c")
        assert born.dynamic_id == "block+3"
        assert born.node_record["of"] == "block+1"
        assert born is model.block.grown["3"].block
        torch.testing.assert_close(born[1].weight, torch.full((6, 4), 3.0))

    def test_something_new_is_injected_under_its_tag(self):
        """``inject`` grows a branch that is found by its tag, and changes no bit of the output."""
        model = growing()
        organism, before = bc.Organism(model), model(ROWS)
        born = organism.inject("block", "expert_math")
        assert organism.get("expert_math") is born
        assert torch.equal(model(ROWS), before)

    def test_of_a_frozen_node_learns(self):
        """A clone of what is frozen learns from birth."""
        _, organism = two()
        organism.freeze_all_except("sense")
        born = organism.grow("general", tag="expert_c")
        assert all(p.requires_grad for p in born.parameters())
        assert born.tag == "expert_c"

    def test_keys_are_never_used_twice(self):
        """What died leaves its number unused."""
        _, organism = two()
        organism.prune("expert_b")
        assert organism.grow("general").dynamic_id == "block+3"

    def test_is_told_in_the_history(self):
        """Each event has its step and its node."""
        model, organism = two()
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 1)
        organism.prune("expert_a")
        assert [(e["event"], e.get("node"), e["step"]) for e in organism.history] == [
            ("birth", "block+1", 0),
            ("birth", "block+2", 0),
            ("death", "block+1", 0),
        ]
        assert json.loads(json.dumps(organism.record)) == organism.record

    def test_status_says_how_each_node_does(self):
        """One entry for each node, of plain values."""
        _, organism = two()
        status = organism.status()
        assert [entry["id"] for entry in status] == ["stem", "block", "block+1", "block+2"]
        assert [entry["gate"] for entry in status] == [None, None, 0.0, 0.0]
        assert status[0]["parameters"] == 20
        assert status[0]["immortal"]
        assert json.loads(json.dumps(status)) == status


class TestFreezing:
    def test_only_the_tag_learns_and_what_is_in_no_node(self):
        """Everything but the named nodes is held, by requires_grad."""
        model, organism = two()
        organism.freeze_all_except("expert_a")
        expected = {
            name for name, _ in model.named_parameters() if name.startswith(("head.", "block.grown.1."))
        }
        assert learning(model) == expected
        organism.freeze_all_except("general", "sense")
        assert "block.1.weight" in learning(model)
        assert not any("grown" in name for name in learning(model))
        organism.unfreeze()
        assert learning(model) == {name for name, _ in model.named_parameters()}

    def test_what_lies_before_a_frozen_node_still_learns(self):
        """The gradient goes through frozen nodes."""
        model, organism = two()
        organism.freeze_all_except("sense")
        model(ROWS).square().sum().backward()
        assert model.stem.weight.grad.abs().sum() > 0
        assert model.block[1].weight.grad is None

    def test_gradients_from_before_move_nothing(self):
        """A step after freezing leaves frozen weights as they are, though they had gradients."""
        model, organism = two()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(ROWS).square().sum().backward()
        organism.freeze_all_except("sense")
        before = model.block[1].weight.clone()
        optimizer.step()
        assert torch.equal(model.block[1].weight, before)

    def test_parameters_frozen_by_others_stay_so(self):
        """What did not learn before doesn't after."""
        model, organism = two()
        model.block[1].bias.requires_grad_(False)
        organism.freeze_all_except("sense")
        organism.unfreeze()
        assert "block.1.bias" not in learning(model)

    def test_thaws_what_is_left_of_a_node(self):
        """A layer inside that was reverted meanwhile learns again, too, without what its conversion added."""
        rules = {
            "version": 1,
            "rules": [
                {"name": "yat", "match": {"path": "0.0"}, "replace": {"with": "YatLinear"}},
                {"name": "node", "match": {"path": "0"}, "wrap": {}},
            ],
        }
        model = bc.convert(nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))), rules)
        organism = bc.Organism(model)
        organism.grow("0", tag="expert")
        organism.freeze_all_except("expert")
        bc.revert(model[0][0])
        organism.unfreeze()
        assert all(p.requires_grad for p in model.parameters())

    def test_reverting_is_possible_after_a_layer_in_a_frozen_node_was_reverted(self):
        """What a layer's own conversion had added is gone by then, and the rest learns again."""
        rules = wrapping("block")
        layers = {"match": {"path": "block.1"}, "replace": {"with": "YatLinear", "alpha": "learnable"}}
        rules["rules"].append(layers)
        model = bc.convert(seeded(Residual), rules)
        organism = bc.Organism(model)
        organism.grow("block", tag="expert")
        organism.freeze_all_except("expert")
        bc.revert(model.block[1])
        bc.revert(model)
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_a_shared_parameter_learns_while_one_of_its_nodes_does(self):
        """Ties are not torn: a weight that an unfrozen node holds goes on learning."""
        model = seeded(Residual)
        model.head = nn.Linear(4, 4)
        model.head.weight = model.stem.weight
        bc.convert(model, wrapping(["stem", "head"]))
        bc.Organism(model).freeze_all_except("head")
        assert model.stem.weight.requires_grad
        assert not model.stem.bias.requires_grad


class TestRouting:
    def test_only_active_branches_run(self):
        """Branches that aren't chosen give nothing and get no gradient."""
        model, organism = two()
        with torch.no_grad():
            for branch in model.block.grown.values():
                branch.gate.fill_(0.5)
        organism.route("expert_a")
        model(ROWS).square().sum().backward()
        assert model.block.grown["1"].gate.grad is not None
        assert model.block.grown["2"].gate.grad is None
        chosen = model(ROWS)
        organism.route()
        assert not torch.equal(model(ROWS), chosen)
        organism.prune("expert_b")
        assert torch.equal(model(ROWS), chosen)

    def test_without_any_the_block_alone_runs(self):
        """The tag of the block routes past every branch."""
        model, organism = two()
        organism.route("general")
        with torch.no_grad():
            model.block.grown["1"].gate.fill_(5.0)
        assert torch.equal(model(ROWS), seeded(Residual)(ROWS))


class TestPruning:
    def test_the_last_branch_leaves_the_block_as_it_was(self):
        """With all branches gone the state dict is that of a node that never grew."""
        model, organism = two()
        organism.prune("expert_a")
        organism.prune("expert_b")
        assert model.state_dict().keys() == seeded(Residual).state_dict().keys()
        assert model.block.node_record["branches"] == []

    def test_immortal_branches_stay(self):
        """What is immortal isn't pruned."""
        _, organism = two()
        organism.get("expert_a").node_record["immortal"] = True
        with pytest.raises(OptionError, match=r"'block\+1' is immortal"):
            organism.prune("expert_a")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "blok"}, "Did you mean 'block'"),
        ({"tags": "a"}, "Did you mean 'tag'"),
        ({"grace": "long"}, "grace"),
    ],
)
def test_rules_are_checked(options, said):
    """Unknown kinds and options of a node are errors of the rule file."""
    with pytest.raises(bc.RuleError, match=said):
        bc.plan(seeded(Residual), wrapping("block", **options))
