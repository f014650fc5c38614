"""Calibration through the engine: order, memory, samples, and what it leaves behind."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.core.progress import listening
from bioconvert.replacements.calibrated import Calibrated
from bioconvert.surgery import calibrate


def rules(**options):
    replace = {"with": "YatLinear", "activation": "drop", "init": "calibrate", **options}
    return {
        "version": 1,
        "rules": [{"name": "r", "match": {"type": "Linear", "followed_by": ["ReLU"]}, "replace": replace}],
    }


class Net(nn.Module):
    """Two hidden layers, one of them called twice, and an auxiliary head that trains only."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 3)
        self.second = nn.Linear(8, 8)
        self.first = nn.Linear(6, 8)
        self.auxiliary = nn.Linear(8, 8)
        self.relu = nn.ReLU()

    def forward(self, x):
        x = self.relu(self.first(x))
        x = self.relu(self.second(x))
        x = self.relu(self.second(x))
        if self.training:
            x = x + self.relu(self.auxiliary(x))
        return self.last(x)


def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x():
    """Samples."""
    return torch.randn(96, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def seen(monkeypatch):
    """Record the inputs that each fit is given."""
    observed = []
    observe = Calibrated.observe

    def recorded(self, layer, inputs, outputs):
        observed.append((layer, inputs.clone()))
        observe(self, layer, inputs, outputs)

    monkeypatch.setattr(Calibrated, "observe", recorded)
    return observed


def values(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestOrder:
    def test_layers_are_fitted_where_they_will_stand(self, x, seen):
        """In the order of execution, each layer is given the inputs that it gets in the converted network."""
        model = net().eval()
        bc.convert(model, rules(), calibration=[x])
        fitted = list(dict.fromkeys(layer for layer, _ in seen))
        assert fitted == [model.first, model.second, model.auxiliary]
        given = dict(reversed(seen))
        assert torch.equal(given[model.first], x)
        assert torch.equal(given[model.second], model.first(x))

    def test_a_layer_that_is_called_twice_is_fitted_to_both_calls(self, x, seen):
        """Each call of a shared layer contributes samples."""
        model = net().eval()
        bc.convert(model, rules(), calibration=[x])
        assert [layer for layer, _ in seen].count(model.second) == 2

    def test_heads_that_train_only_are_fitted_too(self, x):
        """A layer that doesn't run in evaluation is calibrated in training."""
        model = net().eval()
        before = values(model)
        bc.convert(model, rules(), calibration=[x])
        assert "auxiliary.alpha" in model.state_dict()
        assert not torch.equal(model.auxiliary.bias, before["auxiliary.bias"])
        assert not model.training


class TestMemory:
    def test_room_for_one_layer_is_enough(self, x, monkeypatch):
        """With room for one layer's outputs at a time, the same values are found."""
        whole = bc.convert(net().eval(), rules(), calibration=[x[:48], x[48:]])
        monkeypatch.setattr(calibrate, "ROOM", 1)
        single = bc.convert(net().eval(), rules(), calibration=[x[:48], x[48:]])
        assert equal(values(whole), values(single))

    def test_no_more_than_enough_samples_are_used(self, x):
        """Of an endless loader, batches are taken until there are enough."""
        taken = []

        def endless():
            while True:
                taken.append(1)
                yield x

        bc.convert(net().eval(), rules(), calibration=endless())
        assert len(taken) == -(-calibrate.MOST_SAMPLES // 96)


class TestSamples:
    def test_a_loader_that_shuffles(self, x):
        """Original and converted network see the same samples, though a loader shuffles at every pass."""
        loader = DataLoader(x, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(0))
        model = bc.convert(net().eval(), rules(), calibration=loader)
        whole = bc.convert(net().eval(), rules(), calibration=[x])
        assert torch.allclose(model(x), whole(x), atol=0.15)

    def test_batches_of_every_form(self, x):
        """Tensors, tuples and dicts are the same to it."""
        forms = ([x], [(x,)], [{"x": x}])
        found = [values(bc.convert(net().eval(), rules(), calibration=form)) for form in forms]
        assert equal(found[0], found[1])
        assert equal(found[0], found[2])

    @pytest.mark.parametrize("batches", [[], iter([])], ids=["list", "iterator"])
    def test_none_at_all(self, batches):
        """An empty calibration set is an error, and the model is as it was."""
        model = net()
        before = values(model)
        with pytest.raises(OptionError, match="holds no batch"):
            bc.convert(model, rules(), calibration=batches)
        assert equal(before, values(model))
        assert type(model.first) is nn.Linear

    def test_what_the_model_can_not_take(self, x):
        """A batch that the model fails on is an error, and the model is as it was."""
        model = net()
        before = values(model)
        with pytest.raises(OptionError, match="fails on a batch of sample data"):
            bc.convert(model, rules(), calibration=[x, x[:, :4]])
        assert equal(before, values(model))
        assert type(model.first) is nn.Linear

    def test_values_that_are_not_finite(self, x):
        """A layer whose inputs overflow is skipped with the reason, and the others are fitted."""
        model = net().eval()
        with torch.no_grad():
            model.second.weight[0] = float("nan")
        plan = bc.plan(model, rules(), calibration=[x])
        report = plan.apply()
        assert [entry.path for entry in report.applied] == ["first"]
        refused = {entry.path: entry.reason for entry in report.skipped}
        assert all("not finite" in refused[path] for path in ("second", "auxiliary"))


class TestWhatItLeavesBehind:
    def test_nothing_but_the_conversion(self, x):
        """Gradients, random state, train flags and other tensors stay; revert restores every bit."""
        model = net().train()
        before, state = values(model), torch.get_rng_state()
        bc.convert(model, rules(), calibration=[x])
        assert torch.equal(state, torch.get_rng_state())
        assert model.training
        assert all(p.grad is None for p in model.parameters())
        assert torch.equal(before["last.weight"], model.last.weight)
        bc.revert(model)
        assert equal(before, values(model))

    def test_is_saved_and_loaded(self, x, tmp_path):
        """A calibrated model comes back with its values."""
        model = bc.convert(net().eval(), rules(), calibration=[x])
        bc.save(model, tmp_path / "m")
        assert torch.equal(bc.load(tmp_path / "m", factory=net).eval()(x), model(x))

    def test_morph_begins_with_the_original(self, x):
        """A calibrated layer that morphs gives the original's bits at step 0, and the fit at the end."""
        model, original = net().eval(), net().eval()
        bc.convert(model, rules(morph={"steps": 3}), calibration=[x])
        assert torch.equal(model(x), original(x))
        at_once = bc.convert(net().eval(), rules(), calibration=[x])
        assert torch.allclose(bc.finalize(model)(x), at_once(x), atol=1e-5)

    def test_hooks_of_the_user_stay(self, x):
        """A layer's hooks are neither lost nor left behind."""
        model = net().eval()
        calls = []
        model.first.register_forward_hook(lambda *_: calls.append(1))
        bc.convert(model, rules(), calibration=[x])
        hooks = copy.copy(model.second._forward_pre_hooks)
        calls.clear()
        model(x)
        assert calls == [1]
        assert not hooks


def test_progress_is_heard_of(x):
    """A listener hears of every layer."""
    heard = []
    with listening(lambda *said: heard.append(said)):
        bc.convert(net().eval(), rules(), calibration=[x])
    assert heard[0] == ("calibrating", 0, 3)
    assert heard[-1] == ("calibrating", 3, 3)
    assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)


def test_progress_is_logged(x, caplog):
    """Without a listener the log tells."""
    with caplog.at_level("INFO", logger="bioconvert"):
        bc.convert(net().eval(), rules(), calibration=[x])
    assert "calibrating: 2 of 3" in caplog.text


def encoder():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, stride=2)
    ).eval()


MODELS = [
    pytest.param(encoder, (16, 6, 8), {"linear1", "linear2", "out_proj"}, id="weights read around forward"),
    pytest.param(cnn, (16, 3, 6, 6), {"0", "3"}, id="convolutions"),
]


@pytest.mark.parametrize(("make", "shape", "expected"), MODELS)
def test_every_linear_layer_of_a_model(make, shape, expected):
    """With `yat-all`, all layers are calibrated, outputs stay near, and revert restores every bit."""
    model, x = make(), torch.randn(shape, generator=torch.Generator().manual_seed(2))
    before, y = values(model), make()(x).detach()
    report = bc.plan(model, "yat-all", calibration=[x], example_inputs=(x,)).apply()
    assert {entry.path.rpartition(".")[2] for entry in report.applied} == expected
    assert all("calibrated" in entry.reason for entry in report.applied)
    assert (model(x) - y).norm() < 0.3 * y.norm()
    bc.revert(model)
    assert equal(before, values(model))
    assert torch.equal(model(x), y)
