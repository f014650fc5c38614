"""Pruning in two processes, each with data of its own."""

import pytest
import torch
from growing_models import growing, wrapping
from processes import found_together
from small_models import seeded
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.organism import Survival

PROCESSES = 2


def mlp():
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


def rows(rank):
    """Give data of a process."""
    return torch.randn(40, 4, generator=torch.Generator().manual_seed(rank))


def units(rank):
    """Prune hidden units."""
    model = bc.convert(seeded(mlp), wrapping(""))
    found = bc.Organism(model).prune_units("model", 0.5, refit=[rows(rank)])
    return [each.kept for each in found], model.state_dict()


def branch(rank):
    """Prune a branch, of which the layers around take over what they can."""
    model = growing()
    organism = bc.Organism(model)
    organism.grow("block")
    model.block.grown["1"].gate.data.fill_(1.0)
    organism.prune("expert_1", refit=[rows(rank)])
    return list(organism.history[-1]["refit"]), model.state_dict()


def marked(rank):
    """Mark by what each process has seen a part of."""
    model = growing(grace=0)
    organism = bc.Organism(model)
    organism.grow("block")
    model.block.grown["1"].gate.data.fill_(1.0)
    with Survival(organism, by="activation", threshold=0.3) as survival:
        model(rows(rank) * (1 if rank else 100))
    return survival.mark(), survival.utilities()


def parted(rank):
    """Prune by numbers that differ."""
    model = bc.convert(seeded(mlp), wrapping(""))
    try:
        bc.Organism(model, seed=rank).prune_units("model", 0.5, by="random")
    except OptionError as error:
        return str(error)
    return ""


def sharded():
    """Prune what is given out to all."""
    model = bc.convert(seeded(mlp), wrapping(""))
    fully_shard(model, mesh=init_device_mesh("cpu", (PROCESSES,)))
    try:
        bc.Organism(model).prune_units("model", 0.5, by="random")
    except OptionError as error:
        return str(error)
    return ""


def work(rank):
    """Be one of the processes."""
    return {
        "units": units(rank),
        "branch": branch(rank),
        "marked": marked(rank),
        "parted": parted(rank),
        "sharded": sharded(),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Let two processes work through all cases, once."""
    return found_together(work, tmp_path_factory.mktemp("processes"), PROCESSES)


@pytest.mark.slow
class TestTwoProcesses:
    @pytest.mark.parametrize("case", ["units", "branch"])
    def test_stay_equal(self, results, case):
        """The same goes in each, and refitted weights are equal bit for bit."""
        (told, weights), (same, others) = (each[case] for each in results)
        assert told
        assert told == same
        assert all(torch.equal(weights[name], others[name]) for name in weights)

    def test_mark_by_the_mean(self, results):
        """What counts is what all of them have seen."""
        one, other = (each["marked"] for each in results)
        assert one == other

    @pytest.mark.parametrize(("case", "said"), [("parted", "disagree on units"), ("sharded", "FSDP2")])
    def test_stop_with_a_reason(self, results, case, said):
        """Where they part, or can't be pruned, each says why."""
        assert all(said in each[case] for each in results)
