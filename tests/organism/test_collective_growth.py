"""Two processes that train one model grow alike, or say what sets them apart."""

import pytest
import torch
from growing_models import Residual, growing, wrapping
from processes import found_together
from small_models import seeded
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.organism import GrowthCallback, GrowthConfig, collective

PROCESSES, STEPS, SHIFT = 2, 48, 24
SETTINGS = {
    "entropy_baseline_window": 8,
    "evolution_cooldown_steps": 10,
    "min_loss_improvement": 0.0,
    "check_every": 4,
}


def batch(step, rank):
    """Give a process its own data; from some step on they are others."""
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(2 * step + rank))
    y = (x[:, 0] > 0).long()
    return (x, y) if step < SHIFT else (torch.roll(x, 2, 1) * 0.2, 1 - y)


def trained(rank, *, rewraps=True, request=None, **options):
    """Train for some steps; gives births, weights and the optimizer's groups."""
    model = bc.convert(seeded(Residual), wrapping(["block", "stem", "head"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    callback = GrowthCallback(bc.Organism(model), optimizer, GrowthConfig(**{**SETTINGS, **options}))
    wrapped, births = DistributedDataParallel(model), []
    for step in range(STEPS):
        if request == (rank, step):
            callback.request("block")
        x, y = batch(step, rank)
        optimizer.zero_grad()
        outputs = wrapped(x)
        loss = F.cross_entropy(outputs, y)
        loss.backward()
        optimizer.step()
        born = callback(loss=loss, outputs=outputs)
        if born is not None:
            births.append((step, born.dynamic_id))
            wrapped = DistributedDataParallel(model) if rewraps else wrapped
    return births, {name: p.detach() for name, p in model.named_parameters()}


def said(work, *args, **kwargs):
    """Give the text of the error that some work ends with."""
    try:
        work(*args, **kwargs)
    except OptionError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def sharded():
    """Let a model grow whose parameters are given out."""
    model = growing()
    mesh = init_device_mesh("cpu", (PROCESSES,))
    fully_shard(model.block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    bc.Organism(model).grow("block")


def work(rank):
    """Be one of the processes, and write down what comes of each case."""
    return {
        "entropy": trained(rank),
        "plateau": trained(rank, trigger="plateau", plateau_window=6, plateau_tolerance=0.5),
        "gradient": trained(rank, trigger="gradient", entropy_spike_factor=1.1),
        "one request": said(trained, rank, trigger="manual", request=(1, 2)),
        "old wrapper": said(trained, rank, rewraps=False, evolution_cooldown_steps=1000),
        "readings": said(collective.mean_rows, [[1.0]] * (rank + 1)),
        "mean": collective.mean_rows([[float(rank), 1.0], [None if rank else 1.0, 3.0]]),
        "largest": collective.largest(10 - rank),
        "sharded": said(sharded),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Let two processes work through all cases, once."""
    return found_together(work, tmp_path_factory.mktemp("processes"), PROCESSES)


@pytest.mark.slow
class TestTwoProcesses:
    @pytest.mark.parametrize("trigger", ["entropy", "plateau", "gradient"])
    def test_grow_at_the_same_step(self, results, trigger):
        """With data of their own they take one decision, and their weights stay equal bit for bit."""
        (births, weights), (others, twins) = (each[trigger] for each in results)
        assert births
        assert births == others
        assert weights.keys() == twins.keys()
        assert all(torch.equal(weights[name], twins[name]) for name in weights)

    @pytest.mark.parametrize(
        ("case", "text"),
        [
            ("one request", "DecisionMismatchError: the processes disagree on growth. process 0: (False,"),
            ("old wrapper", "differs between processes"),
            ("old wrapper", "put the model into a new DistributedDataParallel after each birth"),
            ("readings", "different numbers of readings (1, 2)"),
            ("sharded", "OptionError: 'block' can't grow: its '1.weight' is sharded over processes (FSDP2)"),
        ],
    )
    def test_stop_with_a_reason_where_they_part(self, results, case, text):
        """What would let them part is the same error in each, which says what to do."""
        assert all(text in each[case] for each in results)

    def test_share_their_readings(self, results):
        """Means are over processes, without what one of them lacks; of memory the largest counts."""
        assert [each["mean"] for each in results] == [[[0.5, 1.0], [None, 3.0]]] * PROCESSES
        assert [each["largest"] for each in results] == [10] * PROCESSES


def test_one_process_agrees_with_itself():
    """Without other processes nothing is exchanged."""
    assert collective.processes() == 1
    assert collective.mean_rows([[1.0, None]]) == [[1.0, None]]
    assert collective.largest(7) == 7
    collective.insist_on_agreement("this", "that")
    collective.insist_on_equal_gates({"a": torch.ones(1)})
