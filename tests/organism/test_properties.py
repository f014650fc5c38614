"""Random graphs, and random sequences of what can happen to them, keep what must always hold."""

import copy
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from networks import ROWS, open_gates
from torch import nn

import bioconvert as bc
from bioconvert.organism import DynamicNetwork, load_dno

WIDTH = ROWS.shape[1]
FEW = settings(max_examples=15, deadline=None)
PARTS = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "mlp": lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.ReLU(inplace=True), nn.Linear(3, WIDTH)),
    "norm": lambda: nn.LayerNorm(WIDTH),
    "in place": lambda: nn.ReLU(inplace=True),
}
graphs = st.lists(
    st.tuples(st.sampled_from(sorted(PARTS)), st.sets(st.integers(0, 5), max_size=3)), min_size=1, max_size=6
)
actions = st.lists(
    st.tuples(
        st.sampled_from(["grow", "remove", "freeze", "unfreeze", "route", "unroute", "train", "add"]),
        st.integers(0, 99),
    ),
    max_size=6,
)


def network_of(graph):
    """Make a network of random parts, each fed by some of those before it."""
    torch.manual_seed(0)
    network = DynamicNetwork()
    for number, (part, parents) in enumerate(graph):
        feeding = [f"n{each}" for each in sorted(parents) if each < number]
        network.add_layer(PARTS[part](), feeding, name=f"n{number}")
    return network


def do(network, optimizer, action, number):
    """Let something happen to one of the nodes."""
    names = list(network.manager.registry)
    name = names[number % len(names)]
    organism = network.organism
    if action == "grow":
        organism.grow(name, tag=f"expert_{number}")
    elif action == "remove":
        if name not in network.members or len(network.members) > 1:
            network.remove_layer(name)
    elif action == "freeze":
        organism.freeze_all_except(name)
    elif action == "unfreeze":
        organism.unfreeze()
    elif action == "route":
        organism.route(name)
    elif action == "unroute":
        organism.route()
    elif action == "train":
        optimizer.zero_grad()
        loss = network(ROWS).square().mean()
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
    else:
        added = network.add_layer(
            nn.Linear(WIDTH, WIDTH), [list(network.members)[number % len(network.members)]]
        )
        optimizer.add_param_group({"params": list(network.members[added].parameters())})


def lived(graph, happened):
    """Give a network to which things have happened, and its optimizer."""
    network = network_of(graph)
    network.add_layer(nn.Linear(WIDTH, WIDTH), ["n0"], name="sure")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    network.organism.bind(optimizer)
    for action, number in happened:
        do(network, optimizer, action, number)
    return network, optimizer


@FEW
@given(graphs, actions)
def test_the_graph_stays_in_order_without_dangling_edges(graph, happened):
    """Each node stands behind its parents, all of which are there; each node is reached from the input."""
    network, _ = lived(graph, happened)
    seen = set()
    for name, parents in network.parents.items():
        assert set(parents) <= seen
        seen.add(name)
    manager = network.manager
    assert set(manager.registry) == set(manager.edges)
    assert {child for fed in manager.edges.values() for child in fed} <= seen
    assert set(manager.inputs)
    assert set(manager.outputs)
    assert torch.isfinite(network(ROWS)).all()


@FEW
@given(graphs, actions)
def test_every_parameter_is_in_the_optimizer_once(graph, happened):
    """And nothing else is in it, nor in its state."""
    network, optimizer = lived(graph, happened)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    own = {id(p) for p in network.parameters()}
    assert len(held) == len(set(held))
    assert set(held) == own
    assert {id(p) for p in optimizer.state} <= own


@FEW
@given(graphs, actions)
def test_growth_changes_no_output(graph, happened):
    """Whatever happened before, and whichever node grows."""
    network, _ = lived(graph, happened)
    network.organism.unbind()
    expected = network(ROWS)
    for name in list(network.manager.registry):
        network.organism.grow(name)
        assert torch.equal(network(ROWS), expected)


@FEW
@given(graphs, actions)
def test_gradients_reach_exactly_what_learns(graph, happened):
    """What is frozen gets none; a gate whose branch takes part and learns gets one."""
    network, _ = lived(graph, happened)
    network.zero_grad()
    loss = network(ROWS).square().sum()
    if loss.requires_grad:
        loss.backward()
    for parameter in network.parameters():
        assert parameter.requires_grad or parameter.grad is None
    for seat in network.organism.seats.values():
        if seat.branch is not None:
            runs = seat.node.node_record["active"] and seat.host.node_record["active"]
            assert (seat.branch.gate.grad is not None) == (runs and seat.branch.gate.requires_grad)


@FEW
@given(graphs, actions)
def test_saving_and_loading_is_exact(graph, happened):
    """As a folder, as a file, and as a copy: outputs, records, names and what learns."""
    network, _ = lived(graph, happened)
    open_gates(network, 0.3)
    with tempfile.TemporaryDirectory() as folder:
        bc.save(network, Path(folder) / "saved")
        network.save_dno(Path(folder) / "n.dno")
        twins = [
            bc.load(Path(folder) / "saved"),
            load_dno(Path(folder) / "n.dno"),
            copy.deepcopy(network),
        ]
    for twin in twins:
        assert torch.equal(twin(ROWS), network(ROWS))
        assert twin.parents == network.parents
        assert twin.record == network.record
        learns = [(name, p.requires_grad) for name, p in network.named_parameters()]
        assert [(name, p.requires_grad) for name, p in twin.named_parameters()] == learns
        records = [node.node_record for node in network.organism.nodes()]
        assert [node.node_record for node in twin.organism.nodes()] == records
