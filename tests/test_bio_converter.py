"""The converter and the training loops of Bio Transformations, by the same names."""

import copy
import enum
import io
import logging
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.plasticity.manual import ManualPlasticity

METHODS = ("fuzzy_learning_rates", "crystallize", "volume_dependent_lr", "scale_grad")
X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A perceptron, importable, so that it can be pickled."""

    def __init__(self, hidden=5):
        super().__init__()
        self.hidden, self.head = nn.Linear(6, hidden), nn.Linear(hidden, 2)

    def forward(self, x):
        """Compute the outputs."""
        return self.head(torch.relu(self.hidden(x)))


@bc.BioConverter(fuzzy_learning_rate_factor_nu=0.3)
class Decorated(nn.Module):
    """A class whose instances are converted."""

    def __init__(self, units):
        super().__init__()
        self.layer = nn.Linear(6, units)

    def forward(self, x):
        """Compute the outputs."""
        return self.layer(x)


def seeded():
    torch.manual_seed(0)
    return Net()


def backward(model):
    model.zero_grad()
    model(X).square().mean().backward()


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


OPTIMIZERS = [
    pytest.param(sgd, id="SGD"),
    pytest.param(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01), id="momentum"),
    pytest.param(lambda p: torch.optim.Adam(p, lr=0.1), id="Adam"),
    pytest.param(lambda p: torch.optim.AdamW(p, lr=0.1, fused=True), id="fused AdamW"),
]


def motion(model, optimizer):
    """Give how far each parameter moves at a step."""
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    return [p.detach() - old for p, old in zip(model.parameters(), before, strict=True)]


@pytest.mark.parametrize("make", OPTIMIZERS)
class TestLoop:
    def test_rates_multiply_the_update(self, make):
        """A call of `fuzzy_learning_rates` multiplies the next update by the rates, under any optimizer."""
        model, twin = bc.BioConverter()(seeded()), seeded()
        optimizer, alone = make(model.parameters()), make(twin.parameters())
        for each in (model, twin):
            backward(each)
        model.fuzzy_learning_rates()
        moved, free = motion(model, optimizer), motion(twin, alone)
        assert torch.allclose(moved[0], free[0] * model.hidden.fuzzy_lr_rate, atol=1e-6)
        assert torch.allclose(moved[1], free[1], atol=1e-6)
        assert not torch.allclose(moved[0], free[0], rtol=0.05)

    def test_a_call_is_for_one_step(self, make):
        """What is called acts at one step; the next one is the optimizer's alone."""
        model = bc.BioConverter()(seeded())
        optimizer = make(model.parameters())
        backward(model)
        model.volume_dependent_lr()
        optimizer.step()
        twin = copy.deepcopy(model)
        alone = make(twin.parameters())
        alone.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for each in (model, twin):
            backward(each)
        assert all(map(torch.equal, motion(model, optimizer), motion(twin, alone)))

    def test_the_documented_loop(self, make):
        """Volume, fuzzy rates and crystallization multiply, each once however often it is called."""
        model, twin = bc.BioConverter()(seeded()), seeded()
        optimizer, alone = make(model.parameters()), make(twin.parameters())
        for each in (model, twin):
            backward(each)
        for _ in range(2):
            model.volume_dependent_lr()
            model.fuzzy_learning_rates()
            model.crystallize()
        once = copy.deepcopy(model)
        other = make(once.parameters())
        for p, q in zip(once.parameters(), model.parameters(), strict=True):
            p.grad = q.grad.clone()
        moved, free = motion(model, optimizer), motion(twin, alone)
        rates = model.hidden.fuzzy_lr_rate * model.hidden.crystallize_rate
        once.volume_dependent_lr()
        volume = motion(once, other)[0]
        assert torch.allclose(moved[0], volume * rates, atol=1e-6)
        assert 0 < (moved[0] / free[0]).nanmean() < 0.11

    def test_a_closure_may_call(self, make):
        """Calls in a closure count for the step that runs it."""
        model, twin = bc.BioConverter()(seeded()), bc.BioConverter()(seeded())
        optimizer, other = make(model.parameters()), make(twin.parameters())

        def closure():
            backward(model)
            model.fuzzy_learning_rates()

        optimizer.step(closure)
        backward(twin)
        twin.fuzzy_learning_rates()
        other.step()
        assert all(map(torch.equal, model.parameters(), twin.parameters()))


SURVIVORS = [
    pytest.param(copy.deepcopy, id="deepcopy"),
    pytest.param(lambda model: pickle.loads(pickle.dumps(model)), id="pickle"),
    pytest.param(lambda model: bc.BioConverter()(model), id="converted again"),
    pytest.param(lambda model: torch.compile(model, backend="eager", fullgraph=True), id="compile"),
]


@pytest.mark.parametrize("through", SURVIVORS)
def test_methods_survive(through):
    """The methods act on the copy, with the same rates, and not on the original."""
    model = bc.BioConverter()(seeded())
    twin = copy.deepcopy(model)
    survivor = through(model)
    optimizer, other = sgd(survivor.parameters()), sgd(twin.parameters())
    for each in (survivor, twin):
        backward(each)
        for method in METHODS:
            getattr(each, method)()
    optimizer.step()
    other.step()
    assert all(map(torch.equal, survivor.parameters(), twin.parameters()))
    assert not torch.equal(next(survivor.parameters()), next(seeded().parameters()))


def test_state_dict_carries_what_was_learnt():
    """Rates are in the state dict, no parameters are new, and a fresh model takes them."""
    model, fresh = bc.BioConverter()(seeded()), bc.BioConverter()(seeded(), seed=1)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in seeded().named_parameters()]
    assert not torch.equal(model.hidden.fuzzy_lr_rate, fresh.hidden.fuzzy_lr_rate)
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    fresh.load_state_dict(torch.load(stream))
    assert torch.equal(model.hidden.fuzzy_lr_rate, fresh.hidden.fuzzy_lr_rate)


def test_a_converted_model_can_be_saved_and_loaded(tmp_path):
    """What bc.load gives has methods, options and rates."""
    model = bc.BioConverter(base_lr=0.5)(seeded())
    bc.save(model, tmp_path / "out", arch=f"{Net.__module__}:Net")
    loaded = bc.load(tmp_path / "out", factory=Net)
    assert isinstance(loaded, ManualPlasticity)
    assert (loaded.by_hand, loaded.by_hand["volume_lr"]["base"]) == (model.by_hand, 0.5)
    assert torch.equal(loaded.head.fuzzy_lr_rate, model.head.fuzzy_lr_rate)


def test_the_object_and_its_class_stay_recognisable():
    """The same object comes back, as an instance of its class, and revert takes the methods away."""
    model = seeded()
    assert bc.BioConverter().convert(model) is model
    assert (type(model).__name__, isinstance(model, Net)) == ("Net", True)
    bc.revert(model)
    assert type(model) is Net
    assert not hasattr(model, "crystallize")


class TestDecorator:
    def test_gives_the_same_class(self):
        """A decorated class is itself, and its instances are converted when they are made."""
        model = Decorated(3)
        assert isinstance(model, Decorated)
        assert model.layer.fuzzy_lr_rate.shape == (3, 6)
        backward(model)
        model.fuzzy_learning_rates()

    @pytest.mark.parametrize("through", SURVIVORS[:2])
    def test_instances_can_be_copied(self, through):
        """Copies and pickles of an instance keep its rates."""
        model = Decorated(3)
        assert torch.equal(through(model).layer.fuzzy_lr_rate, model.layer.fuzzy_lr_rate)

    def test_twice_is_once(self):
        """A class that is converted again has the latter options."""
        converted = bc.BioConverter(base_lr=0.7)(bc.BioConverter()(type("Again", (Net,), {})))
        assert converted().by_hand["volume_lr"]["base"] == 0.7


def test_l1_reg_is_differentiable():
    """The penalty is the sum of the sizes of weights, and has their signs as its gradient."""
    model = bc.BioConverter()(seeded())
    penalty = model.l1_reg()
    penalty.backward()
    assert torch.isclose(penalty, model.hidden.weight.abs().sum() + model.head.weight.abs().sum())
    assert torch.equal(model.head.weight.grad, model.head.weight.sign())


def test_scale_grad_shares_plasticity_evenly():
    """The gradients of all units of a layer add up to the same."""
    model = bc.BioConverter()(seeded())
    optimizer = sgd(model.parameters())
    backward(model)
    model.scale_grad()
    sums = motion(model, optimizer)[2].abs().sum(1)
    assert torch.allclose(sums, sums.mean().expand(2), rtol=1e-4)


class TestRejuvenation:
    def test_acts_at_once_and_clears_moments(self):
        """Weights are replaced by the call, and the last optimizer forgets what it knew of them."""
        model = bc.BioConverter(rejuvenation_parameter_dre=0.5)(seeded())
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        backward(model)
        model.crystallize()
        optimizer.step()
        before = model.hidden.weight.detach().clone()
        model.rejuvenate_weights()
        replaced = model.hidden.weight != before
        assert 3 < int(replaced.sum()) < 30
        assert not optimizer.state[model.hidden.weight]["exp_avg"][replaced].any()

    def test_units_need_a_bound_optimizer(self):
        """Whole units can't be judged by a call alone."""
        rules = [
            {"match": {"path": "0"}, "attach": [{"rejuvenate": {"law": "redo"}}]},
            {"match": {"path": ""}, "attach": ["by_hand"]},
        ]
        layers = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
        model = bc.convert(layers, {"version": 1, "rules": rules})
        with pytest.raises(OptionError, match="redo replaces units"):
            model.rejuvenate_weights()


class TestDale:
    def test_signs_hold(self):
        """With the option, each unit's outgoing weights keep one sign after the call."""
        torch.manual_seed(0)
        model = bc.BioConverter(apply_dales_principle=True)(nn.Sequential(Net(), nn.ReLU(), nn.Linear(2, 1)))
        model(X).sum().backward()
        sgd(model.parameters()).step()
        model.enforce_dales_principle()
        weight, sign = model[0].head.weight, model[0].head.dale_sign
        assert bool((weight * sign >= 0).all())

    def test_can_be_called_without(self):
        """Without the option, signs are those of the majority, and are no part of the state dict."""
        model = bc.BioConverter()(seeded())
        names = list(model.state_dict())
        model.enforce_dales_principle()
        weight = model.hidden.weight
        assert bool(((weight >= 0).all(0) | (weight <= 0).all(0)).all())
        assert list(model.state_dict()) == names


class TestActivity:
    def test_is_seen_by_the_update(self):
        """Rates by activity follow what the model does with the input given, and nothing else changes."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 2))
        bc.BioConverter(fuzzy_lr_distribution="activity", fuzzy_lr_dynamic=True)(model)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        random = torch.get_rng_state()
        model.update_fuzzy_learning_rates(X)
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {"0.fuzzy_lr_firing", "3.fuzzy_lr_firing"}
        assert torch.equal(torch.get_rng_state(), random)

    def test_needs_an_input(self):
        """Without an input there is nothing to see."""
        model = bc.BioConverter(fuzzy_lr_distribution="activity", fuzzy_lr_dynamic=True)(seeded())
        with pytest.raises(OptionError, match="give an input"):
            model.update_fuzzy_learning_rates()

    def test_of_other_rates_is_nothing(self):
        """Rates that don't vary need no input."""
        model = bc.BioConverter()(seeded())
        before = model.hidden.fuzzy_lr_rate.clone()
        model.update_fuzzy_learning_rates()
        assert torch.equal(model.hidden.fuzzy_lr_rate, before)


def test_weight_splitting_pools_outputs(caplog):
    """With Γ, units are summed in groups, and what can't be split is named in the log."""
    caplog.set_level(logging.WARNING, "bioconvert")
    model = bc.BioConverter(weight_splitting_Gamma=2, weight_splitting_activation_function=nn.ReLU())(
        seeded()
    )
    plain = F.relu(F.linear(torch.relu(model.hidden(X)), model.head.weight, model.head.bias))
    assert torch.allclose(model(X), plain.sum(1, keepdim=True).expand(-1, 2))
    assert "hidden: no weight_splitting: its 5 outputs" in caplog.text


class Distribution(enum.Enum):
    """An enumeration as the reference has it."""

    GAMMA = "gamma"


class TestConfig:
    def test_options_arrive(self):
        """Options go into the mechanisms' own."""
        options = {"fuzzy_lr_distribution": Distribution.GAMMA, "fuzzy_lr_max": 4.0, "dampening_factor": 0.5}
        converter = bc.BioConverter.from_dict({**options, "crystal_thresh": 1e-3})
        layer = converter(seeded()).hidden
        assert layer.plasticity_fuzzy_lr__weight["distribution"] == "gamma"
        assert list(layer.plasticity_fuzzy_lr__weight["bounds"]) == [0.5, 4.0]
        assert layer.plasticity_crystallize__weight["threshold"] == 1e-3
        assert converter.get_config().dampening_factor == 0.5

    def test_can_be_updated(self):
        """Overrides and updates change single options."""
        converter = bc.BioConverter(bc.BioConfig(base_lr=0.3), stability_factor=1.0)
        converter.update_config(lr_variability=0.0)
        expected = bc.BioConfig(base_lr=0.3, stability_factor=1.0, lr_variability=0.0)
        assert converter.get_config() == expected

    def test_varying_rates_must_be_dynamic(self):
        """Rates that vary with time stay as drawn unless `fuzzy_lr_dynamic` is set."""
        model = bc.BioConverter(fuzzy_lr_distribution="temporal")(seeded())
        assert model.hidden.plasticity_fuzzy_lr__weight["distribution"] == "uniform"


WRONG = [
    ({"fuzzy_learning_rate_factor_nu": 1.5}, "fuzzy_learning_rate_factor_nu must be from 0 to 1"),
    ({"dampening_factor": 0}, "dampening_factor must be above 0"),
    ({"dampening_factor": "0.5"}, "dampening_factor must be above 0 and at most 1, not '0.5'"),
    ({"crystal_thresh": float("nan")}, "crystal_thresh must be 0 or more"),
    ({"rejuvenation_parameter_dre": -1}, "rejuvenation_parameter_dre must be above 0"),
    ({"weight_splitting_Gamma": 1.5}, "weight_splitting_Gamma must be a whole number"),
    ({"weight_splitting_activation_function": "swish"}, "weight_splitting_activation_function must be"),
    ({"apply_dales_principle": 1}, "apply_dales_principle must be True or False"),
    ({"base_lr": True}, "base_lr must be above 0"),
    ({"stability_factor": 99}, "stability_factor must be from 0 to 50"),
    ({"lr_variability": -0.1}, "lr_variability must be 0 or more"),
    ({"fuzzy_lr_distribution": "cauchy"}, "fuzzy_lr_distribution must be one of baseline"),
    ({"fuzzy_lr_min": 3.0}, "fuzzy_lr_min must be below fuzzy_lr_max, not 3 with 2"),
    ({"fuzzy_lr_max": 0.0}, "fuzzy_lr_max must be above 0"),
    ({"fuzzy_lr_dynamic": "yes"}, "fuzzy_lr_dynamic must be True or False"),
    ({"fuzzy_lr_decay": 2}, "fuzzy_lr_decay must be from 0 to 1"),
    ({"fuzzy_lr_update_freq": 0}, "fuzzy_lr_update_freq must be a whole number from 1"),
    ({"fuzzy_lr_layer_index": 1}, "given both or not at all"),
    ({"fuzzy_lr_layer_index": 2, "fuzzy_lr_total_layers": 2}, "fuzzy_lr_layer_index must be below"),
    ({"dampening": 0.5}, "BioConfig has no field 'dampening'. Known: weight_splitting"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_options(options, message):
    """An option that can't be is an error that names its field."""
    with pytest.raises(OptionError, match=message):
        bc.BioConverter(**options)


def _no_gradient():
    bc.BioConverter()(seeded()).crystallize()


def _not_a_number():
    model = bc.BioConverter()(seeded())
    backward(model)
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    model.crystallize()
    sgd(model.parameters()).step()


def _bound():
    model = bc.BioConverter()(seeded())
    optimizer = sgd(model.parameters())
    bc.Plasticity(model).bind(optimizer)
    backward(model)
    model.crystallize()
    optimizer.step()


def _lbfgs():
    model = bc.BioConverter()(seeded())
    backward(model)
    model.crystallize()
    torch.optim.LBFGS(model.parameters()).step(lambda: model(X).sum())


REFUSALS = [
    pytest.param(_no_gradient, "no gradient yet, for 'hidden.weight'", id="no gradient"),
    pytest.param(_not_a_number, "'head.weight' isn't finite", id="NaN"),
    pytest.param(_bound, "crystallize acts on 'hidden.weight' by itself", id="bound"),
    pytest.param(_lbfgs, "several times a step", id="LBFGS"),
    pytest.param(lambda: bc.BioConverter()(Net.forward), "a class of modules", id="no module"),
    pytest.param(lambda: bc.BioConverter({"base_lr": 1}), "from_dict", id="a dict"),
    pytest.param(
        lambda: bc.BioConverter()(nn.ReLU()).crystallize(), "no mechanism of plasticity", id="no weights"
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSALS)
def test_refusals(make, message):
    """What can't be done is an error that says why."""
    with pytest.raises(OptionError, match=message):
        make()


def test_an_error_ends_the_call():
    """After a step that failed, the next one is the optimizer's alone, and nothing has moved."""
    model = bc.BioConverter()(seeded())
    optimizer = sgd(model.parameters())
    backward(model)
    model.head.weight.grad[0, 0] = torch.inf
    before = model.hidden.weight.detach().clone()
    model.crystallize()
    with pytest.raises(OptionError, match=r"gradient of 'head\.weight' isn't finite"):
        optimizer.step()
    assert torch.equal(model.hidden.weight, before)
    backward(model)
    optimizer.step()
    assert torch.allclose(model.hidden.weight, before - 0.1 * model.hidden.weight.grad)


def test_two_optimizers_share_a_model():
    """A call waits for the step of an optimizer that holds weights of the model."""
    model, other = bc.BioConverter()(seeded()), nn.Linear(6, 1)
    backward(model)
    other(X).sum().backward()
    free = [-0.1 * p.grad for p in model.parameters()]
    model.fuzzy_learning_rates()
    sgd(other.parameters()).step()
    moved = motion(model, sgd(model.parameters()))
    assert torch.allclose(moved[0], free[0] * model.hidden.fuzzy_lr_rate, atol=1e-7)
