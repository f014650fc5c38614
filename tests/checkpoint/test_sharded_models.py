"""A model whose weights are shared out over processes (FSDP2): how it is saved, and how not."""

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import bioconvert as bc
from bioconvert.core.errors import BioconvertError

PROCESSES = 2
FUZZY = {"version": 1, "rules": [{"match": {"type": "linear"}, "attach": ["fuzzy_lr"]}]}
SPLIT = {"version": 1, "rules": [{"match": {"type": "linear"}, "attach": ["weight_splitting"]}]}


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def trained(net):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    bc.Plasticity(net).bind(optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
    return net


def work(rank, folder):
    """Be one of the processes, and write down what it was told."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES
    )
    mesh = init_device_mesh("cpu", (PROCESSES,))
    net = trained(fully_shard(bc.convert(model(), FUZZY), mesh=mesh))
    told = {
        "saving": _told(lambda: bc.save(net, f"{folder}/sharded")),
        "splitting": _told(lambda: fully_shard(bc.convert(model(), SPLIT), mesh=mesh)),
    }
    whole = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        plain = bc.convert(model(), FUZZY)
        plain.load_state_dict(whole)
        bc.save(plain, f"{folder}/gathered")
    torch.save(told, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _told(do):
    try:
        do()
    except BioconvertError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Let the processes do their work, once."""
    found = tmp_path_factory.mktemp("sharded")
    torch.multiprocessing.spawn(work, (str(found),), nprocs=PROCESSES)
    return found


@pytest.mark.slow
def test_is_not_saved_by_one_process_alone(folder):
    """Each process is told of which weights it has a part only and what to do; nothing is written."""
    for rank in range(PROCESSES):
        told = torch.load(folder / f"{rank}.pt")["saving"]
        assert "'0.weight' is shared out over processes (DTensor): gather" in told
        assert "full_state_dict=True" in told
    assert not (folder / "sharded").exists()


@pytest.mark.slow
def test_is_saved_once_gathered(folder):
    """The gathered state, loaded into a plain model, is saved and loaded as ever, rates included."""
    loaded, alone = bc.load(folder / "gathered", factory=model), trained(bc.convert(model(), FUZZY))
    assert torch.equal(loaded[0].fuzzy_lr_rate, alone[0].fuzzy_lr_rate)
    assert torch.allclose(loaded[0].weight, alone[0].weight, atol=1e-5)
    assert not torch.allclose(loaded[0].weight, model()[0].weight, atol=1e-2)


@pytest.mark.slow
def test_split_synapses_are_not_shared_out(folder):
    """Sharding a layer whose weight is a sum of synapses is an error at once, with a way out."""
    for rank in range(PROCESSES):
        told = torch.load(folder / f"{rank}.pt")["splitting"]
        assert told.startswith("fully_shard can't shard a layer with split synapses")
