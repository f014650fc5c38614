"""Networks put together from nodes: order, joins, routing, growth and removal."""

import copy
import pickle

import pytest
import torch
from networks import ROWS, Counting, diamond, linear, open_gates, train
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.organism import DnoConfig, DynamicNetwork, OrganismManager
from bioconvert.organism.topology import ordered, without


def by_hand(network, x):
    """Give what a diamond computes."""
    stem, left, right, head = (network.members[name].child_module for name in network.members)
    h = stem(x)
    return head(left(h.clone()) + right(h))


class TestForward:
    def test_sums_at_joins(self):
        """A node with two parents gets the sum of what they give."""
        network = diamond()
        assert torch.equal(network(ROWS), by_hand(network, ROWS))

    def test_averages_several_outputs(self):
        """The mean over all nodes without children is what the network gives."""
        network = DynamicNetwork()
        for factor in (1.0, 2.0, 6.0):
            network.add_layer(Counting(factor))
        assert torch.allclose(network(ROWS), ROWS * 3)

    def test_runs_every_node_once(self):
        """However many paths lead to a node, it runs once."""
        network, layers = DynamicNetwork(), []
        parents = []
        for _ in range(30):
            pair = [Counting(0.5), Counting(0.5)]
            parents = [network.add_layer(each, parents) for each in pair]
            layers += pair
        assert torch.allclose(network(ROWS), ROWS / 2)
        assert [each.calls for each in layers] == [1] * 60

    def test_a_long_chain_does_not_recurse(self):
        """A thousand and more nodes in a row run, are copied and come back from pickle."""
        network = DynamicNetwork()
        parent = None
        for _ in range(1200):
            parent = network.add_layer(nn.Identity(), parent and [parent], name=f"n{len(network.members)}")
        assert torch.equal(network(ROWS), ROWS)
        assert torch.equal(copy.deepcopy(network)(ROWS), ROWS)

    def test_a_node_that_works_in_place_spoils_nothing(self):
        """What its parent gave reaches the other children as it was; so does the network's input."""
        network = DynamicNetwork()
        network.add_layer(nn.ReLU(inplace=True), name="a")
        network.add_layer(Counting(), name="b")
        x = ROWS.clone()
        assert torch.equal(network(x), (ROWS.relu() + ROWS) / 2)
        assert torch.equal(x, ROWS)

    @pytest.mark.parametrize(
        ("layer", "dtype"), [(nn.Identity(), torch.float32), (nn.Embedding(5, 2), torch.float32)]
    )
    def test_whole_numbers_become_floating_where_no_embedding_takes_them(self, layer, dtype):
        """An embedding gets whole numbers, any other node floating ones."""
        network = DynamicNetwork()
        network.add_layer(layer)
        assert network(torch.tensor([1, 2])).dtype == dtype

    @pytest.mark.parametrize(
        ("first", "second", "said"),
        [
            (linear(4, 4), linear(4, 3), r"one shape, but 'a' gives \(3, 4\) and 'b' \(3, 3\)"),
            (linear(4, 4), nn.LSTM(4, 4), "what 'b' gives is joined, and so must be a tensor, not tuple"),
        ],
    )
    def test_what_can_not_be_joined_is_named(self, first, second, said):
        """Shapes that only broadcasting would join, and what is no tensor, are refused."""
        network = DynamicNetwork()
        network.add_layer(first, name="a")
        network.add_layer(second, name="b")
        with pytest.raises(OptionError, match=said):
            network(ROWS)

    def test_a_network_without_nodes_says_so(self):
        """There is nothing to run."""
        with pytest.raises(OptionError, match="has no nodes: add_layer one"):
            DynamicNetwork()(ROWS)

    def test_compiles_as_one_graph(self):
        """Also with branches."""
        network = diamond()
        network.organism.grow("left")
        open_gates(network)
        compiled = torch.compile(network, fullgraph=True, backend="eager")
        assert torch.equal(compiled(ROWS), network(ROWS))

    def test_hooks_of_a_node_are_called(self):
        """A node without branches runs what it holds at once, unless someone listens."""
        network, seen = diamond(), []
        network.members["stem"].register_forward_hook(lambda *_: seen.append("stem"))
        network(ROWS)
        assert seen == ["stem"]


class TestAdding:
    def test_gives_the_id(self):
        """It is the one asked for, the node's own, or its class with a number that was never used."""
        network = DynamicNetwork()
        assert network.add_layer(linear(), name="a") == "a"
        assert network.add_layer(linear()) == "linear1"
        network.remove_layer("linear1")
        assert network.add_layer(linear()) == "linear2"

    def test_a_tag_names_a_parent(self):
        """Parents go by id or tag."""
        network = diamond()
        network.members["head"].set_specialty("last")
        assert network.members[network.add_layer(linear(2, 2), "last")].node_record["parents"] == ["head"]

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda n: n.add_layer(linear(), name="stem"), "there is a node 'stem' already"),
            (lambda n: n.add_layer(linear(), name="a.b"), "must be a text without '.' and '\\+'"),
            (lambda n: n.add_layer(linear(), name="keys"), "no word of torch, not 'keys'"),
            (lambda n: n.add_layer(linear(), ["hed"]), "no node 'hed'. Did you mean 'head'"),
            (lambda n: n.add_layer(linear(), ["stem+1"]), "is a part of what 'stem' gives: name 'stem'"),
            (lambda n: n.add_layer(n.members["stem"]), "'stem' is a member of a network already"),
            (lambda n: n.add_layer(3), "a node holds an nn.Module, not a int"),
            (lambda n: DynamicNetwork(n.manager), "has a network already"),
            (lambda n: OrganismManager().registry, r"no network yet: make a DynamicNetwork\(manager\)"),
            (lambda n: setattr(n.members["stem"], "dynamic_id", "b"), "knows it by that name"),
        ],
    )
    def test_what_can_not_be_added_is_refused(self, call, said):
        """Nothing is changed."""
        network = diamond()
        before = dict(network.members)
        with pytest.raises(OptionError, match=said):
            call(network)
        assert dict(network.members) == before


class TestGrowing:
    def test_birth_keeps_every_bit(self):
        """Branches beside every node change no output, and their gates get a gradient at once."""
        network = diamond()
        expected = network(ROWS)
        for name in list(network.members):
            network.organism.grow(name)
        assert torch.equal(network(ROWS), expected)
        network(ROWS).sum().backward()
        gates = [p.grad for name, p in network.named_parameters() if name.endswith("gate")]
        assert len(gates) == 4
        assert all(grad.abs().sum() > 0 for grad in gates)

    def test_freezing_lets_what_lies_before_learn(self):
        """Only the expert learns; the gradient reaches it through frozen nodes."""
        network = diamond()
        network.organism.grow("stem", tag="expert_a")
        network.organism.freeze_all_except("expert_a")
        network(ROWS).sum().backward()
        with_gradient = {name for name, p in network.named_parameters() if p.grad is not None}
        assert with_gradient
        assert all("stem.grown" in name for name in with_gradient)

    def test_routing_leaves_experts_out(self):
        """The core and the active expert take part; members that are experts are left out of sums."""
        network = diamond()
        network.members["right"].set_specialty("expert_r")
        network.organism.grow("stem", tag="expert_s")
        open_gates(network)
        everything = network(ROWS)
        network.set_active_expert("expert_s")
        without_right = network(ROWS)
        branch = network.organism.get("expert_s").node_record["active"]
        network.set_active_expert("expert_r")
        without_branch = network(ROWS)
        network.clear_active_expert()
        assert branch
        assert not torch.equal(without_right, everything)
        assert torch.equal(without_branch, by_hand(network_without_branches(network), ROWS))
        assert torch.equal(network(ROWS), everything)

    def test_a_lone_expert_is_passed_by(self):
        """Where nothing else feeds its child, the child is fed by its parents."""
        network = DynamicNetwork()
        for name, parent in (("a", None), ("b", "a"), ("c", "b")):
            network.add_layer(Counting({"a": 2.0, "b": 3.0, "c": 5.0}[name]), parent and [parent], name=name)
        network.members["b"].set_specialty("expert_b")
        network.add_layer(Counting(0.0), ["c"], name="d")
        network.members["d"].set_specialty("expert_d")
        network.set_active_expert("expert_d")
        network.remove_layer("d")
        assert torch.equal(network(ROWS), ROWS * 10)


def network_without_branches(network):
    """Copy a network and remove what grew."""
    plain = copy.deepcopy(network)
    for name in [name for name in plain.manager.registry if "+" in name]:
        plain.remove_layer(name)
    return plain


class TestRemoving:
    def test_a_chain_closes(self):
        """The children of a node that goes are fed by its parents."""
        network = diamond()
        network.remove_layer("stem")
        assert network.parents == {"left": (), "right": (), "head": ("left", "right")}

    def test_a_sum_loses_a_term(self):
        """A child that has other parents keeps these alone."""
        network = diamond()
        network.remove_layer("left")
        assert network.parents["head"] == ("right",)
        assert network(ROWS).shape == (3, 2)

    def test_the_optimizer_forgets(self):
        """Parameters of the node and of its branches leave groups and state; no other one does."""
        network = diamond()
        optimizer = torch.optim.Adam(network.parameters())
        network.organism.bind(optimizer)
        network.organism.grow("left")
        train(network, optimizer, 2)
        network.organism.prune("left")
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in network.parameters())
        assert {id(p) for p in optimizer.state} <= set(held)
        assert "left" not in network.members

    def test_a_shared_module_stays_in_the_optimizer(self):
        """What another node holds, too, goes on learning."""
        network, shared = DynamicNetwork(), linear()
        network.add_layer(shared, name="a")
        network.add_layer(shared, ["a"], name="b")
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        network.organism.bind(optimizer)
        network.remove_layer("b")
        assert [p for group in optimizer.param_groups for p in group["params"]] == list(shared.parameters())

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda n: [n.remove_layer(name) for name in list(n.members)], "'head' is the network's last"),
            (
                lambda n: (n.members["stem"].node_record.update(immortal=True), n.remove_layer("stem")),
                "immortal",
            ),
            (lambda n: n.remove_layer("sten"), "Did you mean 'stem'"),
        ],
    )
    def test_what_must_stay_is_refused(self, call, said):
        """The last node, an immortal one, and one that isn't there."""
        with pytest.raises(OptionError, match=said):
            call(diamond())


class TestTopology:
    def test_circles_and_gaps_are_named(self):
        """No node feeds itself, and every parent is there."""
        with pytest.raises(OptionError, match="a circle among 'a', 'b'"):
            ordered({"a": ("b",), "b": ("a",), "c": ()})
        with pytest.raises(OptionError, match="there is no 'z'"):
            ordered({"a": ("z",)})

    def test_order_does_not_recurse(self):
        """A chain of ten thousand nodes, the last one first."""
        chain = {str(i): (str(i + 1),) for i in range(9_999)} | {"9999": ()}
        assert ordered(chain) == tuple(str(i) for i in range(9_999, -1, -1))

    def test_leaving_out_several_in_a_row(self):
        """A child is fed by the nearest that stay."""
        assert without({"a": (), "b": ("a",), "c": ("b",), "d": ("c",)}, {"b", "c"}) == {"a": (), "d": ("a",)}


class TestCopies:
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
    def test_are_networks_of_their_own(self, copied):
        """A copy computes the same, has its own manager and organism, and grows alone."""
        network = diamond()
        optimizer = torch.optim.Adam(network.parameters())
        network.organism.bind(optimizer)
        network.organism.grow("stem")
        train(network, optimizer, 1)
        twin = copied(network)
        assert torch.equal(twin(ROWS), network(ROWS))
        assert twin.manager.network is twin
        twin.organism.grow("head")
        assert len(network.manager.registry) == 5
        assert [group.get("name") for group in optimizer.param_groups] == [None, "stem+1"]


class TestSaved:
    def reloaded(self, network, folder):
        bc.save(network, folder, overwrite=True)
        return bc.load(folder)

    def test_come_back_without_a_factory(self, tmp_path):
        """Topology, branches, gates, tags, freezing, history, settings and values."""
        network = diamond(training_phase="adaptive", d_model=8, n_heads=2)
        network.add_layer(
            nn.TransformerEncoderLayer(2, 1, 4, batch_first=True, dropout=0.0), ["head"], name="t"
        )
        network.add_layer(nn.LSTM(2, 2, batch_first=True), ["t"], name="r")
        optimizer = torch.optim.Adam(network.parameters())
        network.organism.bind(optimizer).grow("left", tag="expert_l")
        network.organism.grow("expert_l")
        network.organism.prune("expert_l")
        network.organism.freeze_all_except("expert_2", "head")
        open_gates(network)
        twin = self.reloaded(network, tmp_path / "saved")
        assert torch.equal(twin(ROWS)[0], network(ROWS)[0])
        assert twin.parents == network.parents
        assert twin.config == network.config
        assert twin.record == network.record
        records = {name: node.node_record for name, node in twin.manager.registry.items()}
        assert records == {name: node.node_record for name, node in network.manager.registry.items()}
        learning = [name for name, p in network.named_parameters() if p.requires_grad]
        assert [name for name, p in twin.named_parameters() if p.requires_grad] == learning

    def test_training_goes_on_as_if_nothing_had_been(self, tmp_path):
        """After loading, the next steps give the same bits."""
        network = diamond()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        network.organism.bind(optimizer)
        network.organism.grow("left")
        train(network, optimizer, 3)
        twin = self.reloaded(network, tmp_path / "saved")
        other = torch.optim.Adam(twin.parameters(), lr=0.01)
        twin.organism.bind(other)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        train(network, optimizer, 3)
        train(twin, other, 3)
        assert torch.equal(twin(ROWS), network(ROWS))

    def test_converted_members_and_networks_in_networks_come_back(self, tmp_path):
        """So do nodes that rules made inside of members."""
        inner = diamond()
        inner.organism.grow("left")
        network = DynamicNetwork()
        network.add_layer(nn.Sequential(linear(), nn.ReLU(), linear()), name="a")
        network.add_layer(inner, ["a"], name="b")
        rules = [
            {"match": {"path": "modules_dict.a.**", "type": "linear"}, "replace": {"with": "YatLinear"}},
            {"match": {"path": "modules_dict.a.child_module"}, "wrap": {}},
        ]
        bc.convert(network, {"version": 1, "rules": rules})
        network.organism.grow("modules_dict.a.child_module")
        network.organism.grow("a")
        open_gates(network)
        twin = self.reloaded(network, tmp_path / "saved")
        assert torch.equal(twin(ROWS), network(ROWS))
        assert twin.state_dict().keys() == network.state_dict().keys()

    def test_what_is_not_known_needs_a_factory_and_is_named(self, tmp_path):
        """A member with a method of its own among its attributes comes back by a factory alone."""

        def made():
            network = DynamicNetwork()
            network.add_layer(WithLambda(), name="odd")
            network.add_layer(linear(), ["odd"], name="even")
            return network

        network = made()
        network.organism.grow("odd")
        bc.save(network, tmp_path / "saved")
        with pytest.raises(
            bc.core.errors.ConversionError, match=r"odd\.child_module: its attribute 'act' is a func"
        ):
            bc.load(tmp_path / "saved")
        twin = bc.load(tmp_path / "saved", factory=made)
        assert torch.equal(twin(ROWS), network(ROWS))
        assert list(twin.manager.registry) == ["odd", "odd+1", "even"]

    def test_a_network_inside_a_model_comes_back(self, tmp_path):
        """The model's class builds it empty."""
        model = Holding()
        model.net.add_layer(linear(), name="a")
        model.net.organism.grow("a")
        twin = self.reloaded(model, tmp_path / "saved")
        assert torch.equal(twin(ROWS), model(ROWS))

    def test_reverting_leaves_a_network_as_it_is(self):
        """It wasn't converted; what it knows of itself stays."""
        network = diamond()
        network.organism.grow("left")
        history = network.manager.history
        bc.revert(network)
        assert network.manager.history == history
        assert "left+1" in network.manager.registry


class WithLambda(nn.Module):
    """Keeps a function of its own."""

    def __init__(self):
        super().__init__()
        self.fc = linear()
        self.act = lambda x: x * 2

    def forward(self, x):
        """Pass x through."""
        return self.act(self.fc(x))


class Holding(nn.Module):
    """Holds a network that is empty at first."""

    def __init__(self):
        super().__init__()
        self.net = DynamicNetwork(config=DnoConfig(d_model=4, n_heads=1))

    def forward(self, x):
        """Pass x through."""
        return self.net(x)
