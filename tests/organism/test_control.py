"""Growth inside a training loop: births, caps, locks, and a run that is killed and goes on."""

import copy
import itertools
import json

import pytest
import torch
from growing_models import Residual, growing, wrapping
from small_models import seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.organism import GrowthCallback, GrowthConfig, callback

SHIFT, STEPS = 24, 60
SHORT = {
    "entropy_baseline_window": 8,
    "plateau_window": 6,
    "evolution_cooldown_steps": 10,
    "min_loss_improvement": 0.0,
    "check_every": 4,
}
RUNS = {
    "entropy": {"trigger": "entropy"},
    "plateau": {"trigger": "plateau", "plateau_tolerance": 0.2, "node": "block"},
    "gradient": {"trigger": "gradient"},
    "width": {"trigger": "entropy", "kind": "width", "node": "block", "units": 2},
    "locked": {"trigger": "entropy", "lock": True, "entropy_spike_factor": 1.1},
    "novelty": {"trigger": "entropy", "entropy_threshold": 0.6},
}


def batch(step):
    """Give the data of one step: from some step on their signs are turned."""
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    y = (x[:, 0] > 0).long()
    return (x, y) if step < SHIFT else (torch.roll(x, 2, 1) * 0.2, 1 - y)


class Run:
    """A model in training."""

    def __init__(self, model, settings, saved=None):
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        self.organism = bc.Organism(model, stabilization_steps=5)
        self.callback = GrowthCallback(self.organism, self.optimizer, settings)
        if saved is not None:
            self.optimizer.load_state_dict(saved)

    def train(self, start, end):
        """Do the steps from one to another; gives the steps at which something was born."""
        births = []
        for step in range(start, end):
            x, y = batch(step)
            self.optimizer.zero_grad()
            outputs = self.model(x)
            loss = F.cross_entropy(outputs, y)
            loss.backward()
            self.optimizer.step()
            if self.callback(loss=loss, outputs=outputs) is not None:
                births.append(step)
        return births

    def resumed(self, folder, settings):
        """Save, forget all, load."""
        bc.save(self.model, folder)
        torch.save(self.optimizer.state_dict(), folder / "optimizer.pt")
        return Run(bc.load(folder), settings, torch.load(folder / "optimizer.pt"))

    def everything(self):
        """Give all that must be the same."""
        return self.model.state_dict(), self.optimizer.state_dict(), self.organism.record


def fresh(paths=("block", "stem", "head")):
    """Give a model with nodes."""
    return bc.convert(seeded(Residual), wrapping(list(paths)))


@pytest.fixture(scope="module")
def straight():
    """Give what the uninterrupted runs come to, and when they gave birth."""
    found = {}
    for name, options in RUNS.items():
        run = Run(fresh(), GrowthConfig(**{**SHORT, **options}))
        births = run.train(0, STEPS)
        found[name] = (run.everything(), births)
    return found


@pytest.mark.parametrize("name", RUNS)
class TestARun:
    def test_gives_birth(self, straight, name):
        """Every trigger lets the model grow at a check, and not sooner than the cooldown allows."""
        births = straight[name][1]
        assert births
        assert all(step % SHORT["check_every"] == SHORT["check_every"] - 1 for step in births)
        assert all(b - a >= SHORT["evolution_cooldown_steps"] for a, b in itertools.pairwise(births))

    @pytest.mark.parametrize("pause", [3, 29, 42])
    def test_that_was_killed_goes_on_bit_for_bit(self, straight, tmp_path, name, pause):
        """Killed after any step, also between decisions, it ends with every bit of the run that was not."""
        settings = GrowthConfig(**{**SHORT, **RUNS[name]})
        run = Run(fresh(), settings)
        run.train(0, pause)
        run = run.resumed(tmp_path / "saved", settings)
        run.train(pause, STEPS)
        assert_same(run.everything(), straight[name][0])


@pytest.mark.slow
@pytest.mark.parametrize("pause", range(1, STEPS))
def test_every_pause_goes_on_bit_for_bit(straight, tmp_path, pause):
    """The same at each single step of the run."""
    settings = GrowthConfig(**{**SHORT, **RUNS["locked"]})
    run = Run(fresh(), settings)
    run.train(0, pause)
    run = run.resumed(tmp_path / "saved", settings)
    run.train(pause, STEPS)
    assert_same(run.everything(), straight["locked"][0])


def assert_same(found, expected):
    """See to it that models, optimizers and records are equal."""
    assert found[0].keys() == expected[0].keys()
    assert all(torch.equal(found[0][key], value) for key, value in expected[0].items())
    assert found[1]["param_groups"] == expected[1]["param_groups"]
    assert_equal(found[1]["state"], expected[1]["state"])
    assert plain(found[2]) == plain(expected[2])


def assert_equal(found, expected):
    """See to it that tensors in dicts are equal."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(found[key], value)
    else:
        assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))


def count(model):
    """Count the parameters."""
    return sum(p.numel() for p in model.parameters())


def plain(record):
    """Copy a record, so that what is on a device is fetched."""
    return json.loads(json.dumps(copy.deepcopy(record)))


class TestTheLoop:
    def test_decisions_are_taken_every_few_steps_only(self):
        """Between them readings are kept as they are, and nothing else happens."""
        run = Run(fresh(), GrowthConfig(**{**SHORT, "check_every": 5}))
        run.train(0, 4)
        assert [type(row) for row in run.callback.state["pending"]] == [torch.Tensor] * 4
        assert run.callback.reason == ""
        run.train(4, 5)
        assert run.callback.state["pending"] == []
        assert run.callback.reason == "baseline: 2 of 8 readings"

    @pytest.mark.parametrize("trigger", ["entropy", "gradient", "plateau"])
    def test_nothing_is_fetched_between_decisions(self, monkeypatch, trigger):
        """Between decisions no number leaves its device: no item(), no tolist(), no truth of a tensor."""
        run = Run(fresh(), GrowthConfig(trigger=trigger, check_every=2))
        x, y = batch(0)
        outputs = run.model(x)
        loss = F.cross_entropy(outputs, y)
        loss.backward()
        run.optimizer.step()

        def fetched(*_):
            raise AssertionError("a number was fetched")

        for name in ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "numpy"):
            monkeypatch.setattr(torch.Tensor, name, fetched)
        run.callback(loss=loss, outputs=outputs)
        with pytest.raises(AssertionError, match="a number was fetched"):
            run.callback(loss=loss, outputs=outputs)

    def test_the_cap_on_parameters_holds(self):
        """A model never has more parameters than the cap, however much is asked for."""
        cap = 150
        run = Run(growing(), GrowthConfig(trigger="manual", check_every=1, max_param_count=cap))
        for step in range(10):
            run.callback.request()
            run.train(step, step + 1)
        total = sum(p.numel() for p in run.model.parameters())
        assert total <= cap < total + 59
        assert len(run.organism.history) == 1
        assert f"more than {cap}" in run.callback.reason

    @pytest.mark.parametrize("options", [{"kind": "width", "units": 2}, {"kind": "width"}, {}])
    def test_the_cap_knows_what_a_birth_adds(self, options):
        """One parameter less than a birth needs, and it doesn't happen; with as many it does."""
        settings = {"trigger": "manual", "check_every": 1, "node": "block", **options}
        model = growing()
        before = count(model)
        bc.Organism(model).grow("block", **options)
        for cap, grows in ((count(model) - 1, False), (count(model), True)):
            run = Run(growing(), GrowthConfig(**settings, max_param_count=cap))
            run.callback.request()
            run.train(0, 2)
            assert count(run.model) == (count(model) if grows else before)

    def test_a_lock_holds_all_but_the_new_node(self):
        """With lock the old nodes keep every bit, while the branch learns."""
        run = Run(fresh(), GrowthConfig(trigger="manual", check_every=1, lock=True, node="block"))
        run.train(0, 3)
        run.callback.request()
        run.train(3, 4)
        before = {name: p.clone() for name, p in run.model.named_parameters()}
        run.train(4, 8)
        moved = {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}
        assert moved == {name for name in before if name.startswith("block.grown.1.")}
        run.callback.unlock()
        run.train(8, 9)
        assert not torch.equal(run.model.stem.weight, before["stem.weight"])
        run.callback.lock("stem")
        assert not run.model.head.weight.requires_grad

    def test_a_request_says_where(self):
        """Growth by hand goes to the node it names."""
        run = Run(fresh(), GrowthConfig(trigger="manual", check_every=1, tag="asked"))
        run.callback.request("head")
        run.train(0, 1)
        assert run.organism.get("asked").dynamic_id == "head+1"
        run.train(1, 3)
        assert len(run.organism.history) == 1

    def test_the_gradient_says_where(self):
        """Where gradients are the trigger, the node that a branch could learn most at grows."""
        run = Run(fresh(), GrowthConfig(**{**SHORT, "trigger": "gradient"}))
        run.train(0, STEPS)
        birth = run.organism.history[0]
        assert birth["of"] in ("stem", "block", "head")
        assert run.callback._watch.ids == ["stem", "block", "head"]
        run.callback.remove()
        assert not any(node._forward_hooks for node in run.organism.nodes() if "+" not in node.dynamic_id)

    def test_entropy_needs_outputs(self):
        """Without outputs the trigger has nothing to look at, which is an error."""
        run = Run(fresh(), GrowthConfig())
        with pytest.raises(OptionError, match=r"outputs are missing.*callback\(loss=…, outputs=…\)"):
            run.callback(loss=1.0)

    def test_a_node_that_is_not_there_is_an_error_at_once(self):
        """A typo in the settings is told before training."""
        with pytest.raises(OptionError, match="Did you mean 'block'"):
            Run(fresh(), GrowthConfig(node="blok"))

    @pytest.mark.parametrize(
        "settings", [{"by": "paired", "units": 3}, {"by": "paired", "node": "odd"}], ids=str
    )
    def test_a_number_of_units_that_can_not_be_is_an_error_at_once(self, settings):
        """What every birth would fail of is told before training."""
        model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
        model = bc.convert(nn.Sequential(model), wrapping("0", tag="odd"))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(OptionError, match="must grow paired by a multiple of 2"):
            GrowthCallback(bc.Organism(model), optimizer, GrowthConfig(kind="width", **settings))

    def test_layers_are_looked_for_after_a_change_only(self, monkeypatch):
        """How much a birth would add is worked out once for as long as the model stays as it is."""
        asked = []
        count = callback.added_parameters
        monkeypatch.setattr(callback, "added_parameters", lambda *given: asked.append(1) or count(*given))
        settings = {"trigger": "manual", "kind": "width", "units": 2, "node": "block", "check_every": 1}
        run = Run(fresh(), GrowthConfig(**settings))
        run.train(0, 5)
        run.callback.request()
        run.train(5, 10)
        assert len(asked) == 2

    def test_births_and_reasons_are_logged(self, caplog):
        """A birth is told at the level of information, with its reason."""
        run = Run(fresh(), GrowthConfig(trigger="manual", check_every=1))
        run.callback.request("stem")
        with caplog.at_level("INFO", "bioconvert"):
            run.train(0, 1)
        assert [record.message for record in caplog.records] == [
            "step 1: growth: requested by hand",
            "step 1: birth stem+1",
        ]
