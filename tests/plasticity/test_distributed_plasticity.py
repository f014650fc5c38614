"""Two processes do to the weights what one does: with replicas (DDP), and with shares of the rows (FSDP2)."""

from functools import cache

import pytest
import torch
from plain_mechanisms import attach, registered
from processes import found_together
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.placement_types import Shard
from torch.nn.parallel import DistributedDataParallel

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.plasticity.shards import extent_of

PROCESSES = 2
STEPS = 4
MECHANISMS = {
    "factors": ("plain_slow", {"plain_noise": {"start": 1}}),
    "masks": ("plain_prune",),
    "on gradients": ({"plain_noise": {"target": "gradient"}}, {"plain_slow": {"target": "gradient"}}),
    "fuzzy_lr": ("fuzzy_lr",),
    "compact": ({"fuzzy_lr": {"storage": "compact"}},),
    "volume_lr": ("volume_lr",),
    "crystallize": ({"crystallize": {"threshold": 1e-3}},),
    "rejuvenate": ({"rejuvenate": {"every": 2}},),
    "dale": ({"dale": {"exempt": "none"}},),
    "dale, incoming": ({"dale": {"axis": "incoming", "by": "exponentiated"}},),
    "synaptic_scaling": ({"synaptic_scaling": {"scope": "gradient"}},),
    "all": ("fuzzy_lr", "volume_lr", "crystallize", {"rejuvenate": {"every": 3}}, "dale"),
}
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-3),
}
DATA = {"same": lambda rank: X, "halves": lambda rank: X.chunk(PROCESSES)[rank]}
"""Each process has the same samples, so that gradients are equal bit for bit, or its part of them."""
CASES = [
    *((kind, "Adam", "same") for kind in MECHANISMS),
    ("factors", "SGD", "same"),
    ("on gradients", "SGD", "same"),
    ("all", "SGD", "same"),
    ("factors", "SGD", "halves"),
    ("fuzzy_lr", "SGD", "halves"),
]


def model():
    """Give a model with rows that don't divide evenly and a weight of more than two random chunks."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(100, 1311), nn.Tanh(), nn.Linear(1311, 1), nn.Linear(1, 3))


X = torch.randn(8, 100, generator=torch.Generator().manual_seed(1))


def trained(mechanisms, optimizer, wrap, x):
    """Train for some steps; gives the whole state and the numbers of the last step."""
    net = wrap(bc.convert(model(), attach(*MECHANISMS[mechanisms])))
    stepping = OPTIMIZERS[optimizer](net.parameters())
    plasticity = bc.Plasticity(net, seed=5, history=STEPS).bind(stepping)
    for _ in range(STEPS):
        stepping.zero_grad()
        net(x).square().mean().backward()
        stepping.step()
    state = {name: _whole(value) for name, value in net.state_dict().items()}
    return state, [note.numbers for note in plasticity.history]


def _whole(value):
    return value.full_tensor() if isinstance(value, DTensor) else value.detach()


def _replicated(net):
    return DistributedDataParallel(net)


def _sharded(net):
    mesh = init_device_mesh("cpu", (PROCESSES,))
    for layer in net:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    return fully_shard(net, mesh=mesh)


def work(rank):
    """Be one of the processes: the first one writes down what came of each case."""
    found = {}
    with registered():
        for case in CASES:
            for way, wrap in (("DDP", _replicated), ("FSDP2", _sharded)):
                mechanisms, optimizer, data = case
                found[(way, *case)] = trained(mechanisms, optimizer, wrap, DATA[data](rank))
        found["shares"] = _shares(rank)
    return found


def _shares(rank):
    """Say how much of the state each process holds, and what of an unknown distribution."""
    net = _sharded(bc.convert(model(), attach("plain_slow")))
    bc.Plasticity(net).bind(torch.optim.SGD(net.parameters(), lr=0.1))
    columns = distribute_tensor(torch.zeros(4, 6), init_device_mesh("cpu", (PROCESSES,)), [Shard(1)])
    try:
        extent_of(columns, "a.weight")
        refused = ""
    except OptionError as error:
        refused = str(error)
    return [len(net[i].plain_slow_rate.to_local()) for i in (0, 2, 3)], refused


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Let two processes work through all cases, once."""
    return found_together(work, tmp_path_factory.mktemp("processes"), PROCESSES)


@pytest.fixture(scope="module", autouse=True)
def _plain():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with registered():
        yield
    torch.set_num_threads(threads)


@cache
def alone(mechanisms, optimizer):
    """Give what one process comes to."""
    return trained(mechanisms, optimizer, lambda net: net, X)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["DDP", "FSDP2"])
@pytest.mark.parametrize(("mechanisms", "optimizer", "data"), CASES)
class TestTwoProcesses:
    def test_do_what_one_does(self, results, way, mechanisms, optimizer, data):
        """Rates, masks and replaced positions are equal bit for bit, weights to rounding; processes agree."""
        expected, _ = alone(mechanisms, optimizer)
        states = [
            {
                name.removeprefix("module."): value
                for name, value in each[way, mechanisms, optimizer, data][0].items()
            }
            for each in results
        ]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        assert states[0].keys() == expected.keys()
        for name, value in expected.items():
            found = states[0][name]
            if name.endswith(("weight", "bias")):
                # A weight that only one of them replaced would be off by about its own size.
                assert torch.allclose(found, value, rtol=2e-3, atol=5e-5)
                assert torch.equal(found == 0, value == 0)
            else:
                assert torch.equal(found, value), name

    def test_note_what_one_notes(self, results, way, mechanisms, optimizer, data):
        """The history is that of one process, on each of them."""
        _, expected = alone(mechanisms, optimizer)
        for each in results:
            noted = each[way, mechanisms, optimizer, data][1]
            assert [list(numbers) for numbers in noted] == [list(numbers) for numbers in expected]
            for numbers, others in zip(noted, expected, strict=True):
                assert numbers == pytest.approx(others, rel=1e-5)


@pytest.mark.slow
def test_state_is_shared_out_with_its_weight(results):
    """From binding on, each process holds the rows of rates that it holds of the weight."""
    assert [each["shares"][0] for each in results] == [[656, 1, 2], [655, 0, 1]]


@pytest.mark.slow
def test_columns_shared_out_are_refused(results):
    """A weight whose columns are given out is an error that names it."""
    assert all("'a.weight' is distributed as" in each["shares"][1] for each in results)
