"""Dynamic layers with contexts from elsewhere, trained in two processes (DDP, FSDP2), as in one."""

import copy

import pytest
import torch
from processes import found_together
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import bioconvert as bc

PROCESSES, STEPS = 2, 3
CASES = [("self", "layer"), ("model_input", "model"), ("node:stem", "layer"), ("argument", "auto")]
X = torch.randn(8, 3, 10, 10, generator=torch.Generator().manual_seed(1))
C = torch.randn(8, 4, generator=torch.Generator().manual_seed(2))


class Checkpointed(nn.Module):
    """A convolutional network whose middle runs again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.middle = nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = checkpoint(self.middle, self.stem(x), use_reentrant=False)
        return self.head(x.mean((2, 3)))


def model(case):
    """Give a converted model whose gates are open for some units, and closed for none by chance."""
    context, encoder = case
    torch.manual_seed(0)
    net = Checkpointed()
    replace = {"with": "DynamicConv2d", "context": context, "encoder": encoder, "context_length": 4}
    rule = {"match": {"type": "Conv2d", "path": "middle.*"}, "replace": replace}
    return bc.convert(net, {"version": 1, "rules": [rule]})


def trained(case, wrap, rows):
    """Train for some steps; gives all parameters."""
    net = wrap(model(case))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    given = {"context": C[rows]} if case[0] == "argument" else {}
    for _ in range(STEPS):
        optimizer.zero_grad()
        net(X[rows], **given).square().mean().backward()
        optimizer.step()
    return {n.removeprefix("module."): _whole(p) for n, p in net.named_parameters()}


def _whole(value):
    return value.full_tensor() if isinstance(value, DTensor) else value.detach()


def _sharded(net):
    mesh = init_device_mesh("cpu", (PROCESSES,))
    for layer in net.middle:
        if isinstance(layer, nn.Conv2d):
            fully_shard(layer, mesh=mesh)
    return fully_shard(net, mesh=mesh)


WAYS = {"DDP": DistributedDataParallel, "FSDP2": _sharded}


def work(rank):
    """Be one of the processes, with its half of the samples."""
    rows = slice(4 * rank, 4 * rank + 4)
    return {(way, case): trained(case, wrap, rows) for way, wrap in WAYS.items() for case in CASES}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Let two processes work through all cases, once."""
    return found_together(work, tmp_path_factory.mktemp("processes"), PROCESSES)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=[context for context, _ in CASES])
def test_two_processes_learn_what_one_does(results, way, case):
    """With half of the samples each, every parameter ends where it does in one process with all of them."""
    before = {name: p.detach().clone() for name, p in model(case).named_parameters()}
    expected = trained(case, lambda net: net, slice(None))
    for found in (each[way, case] for each in results):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert not [name for name, value in expected.items() if torch.equal(value, before[name])]


@pytest.mark.parametrize("case", CASES, ids=[context for context, _ in CASES])
def test_a_checkpointed_model_learns_what_a_plain_one_does(case):
    """Gradients are those without the checkpoint, whatever the context."""
    plain = model(case)
    plain.__class__ = type("Plain", (type(plain),), {"forward": _unchecked})
    checkpointed = model(case)
    given = {"context": C} if case[0] == "argument" else {}
    for net in (plain, checkpointed):
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name.endswith("gate"):
                    parameter.fill_(0.5)
        net(X, **given).square().mean().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(checkpointed.get_parameter(name).grad, parameter.grad, msg=name)


def _unchecked(self, x, context=None):
    del context
    return self.head(self.middle(self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize("case", CASES, ids=[context for context, _ in CASES])
def test_mixed_precision_and_ema_copies_work(case):
    """Under autocast outputs are bf16 and gradients finite; an averaged copy gives what its weights say."""
    net = model(case)
    average = torch.optim.swa_utils.AveragedModel(net)
    given = {"context": C} if case[0] == "argument" else {}
    with torch.autocast("cpu", torch.bfloat16):
        y = net(X, **given)
    assert y.dtype == torch.bfloat16
    y.float().square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    average.update_parameters(net)
    assert torch.equal(average(X, **given), net(X, **given))
    assert torch.equal(copy.deepcopy(net)(X, **given), net(X, **given))
