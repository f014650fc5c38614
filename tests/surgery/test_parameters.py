"""Mechanisms attached to parameters that a rule names, whatever module holds them."""

import copy
import json
import pickle

import pytest
import torch
from small_models import Mlp, OwnForward, ReadAround, Tied, seeded
from torch import nn

import bioconvert as bc
from bioconvert.core import registry
from bioconvert.core.change import Change, TensorRecipe
from bioconvert.core.errors import Refused
from bioconvert.surgery import describe, operations, replay
from bioconvert.surgery.step import steps_of


def rates(module, site, *, nu: float = 0.16):
    """Keep a rate for each element of the parameter."""
    if not site.parameter:
        raise Refused("it needs a `parameter`")
    name = site.parameter

    def make(old, stream):
        return 1 + nu * (2 * stream.uniform("rates", tuple(old[name].shape)) - 1)

    return Change(adds={f"{name}_rate": TensorRecipe(make, reads=(name,), like=name, kind="buffer")})


def marks(module, site):
    """Put a mark beside the parameter, and say for which it was asked."""
    make = TensorRecipe(lambda old, stream: torch.zeros(1), reads=(), like=site.parameter, kind="buffer")
    return Change(adds={f"{site.parameter}_mark": make}, summary=f"{site.path} ({site.parameter})")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register two mechanisms for the time of a test."""
    fresh = registry.Registry("mechanism")
    fresh.register("rates", rates, ("",))
    fresh.register("marks", marks, ("",))
    monkeypatch.setattr(registry, "mechanisms", fresh)
    monkeypatch.setattr(operations, "mechanisms", fresh)


def rule(pattern, *mechanisms, **match):
    return {"match": {"parameter": pattern, **match}, "attach": list(mechanisms or ("rates",))}


def rule_set(*rules):
    return {"version": 1, "rules": list(rules)}


class Experts(nn.Module):
    """A mixture of experts whose weights are three-dimensional parameters of its own."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.up, self.down = nn.Parameter(torch.randn(3, 4, 5)), nn.Parameter(torch.randn(3, 5, 4))

    def forward(self, x):
        hidden = torch.relu(torch.einsum("bi,eio->beo", x, self.up))
        return (torch.einsum("beo,eoi->bei", hidden, self.down) * self.gate(x).softmax(-1)[..., None]).sum(1)


class Sequences(nn.Module):
    """Attention, a recurrent layer and experts, one after the other."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = nn.LSTM(4, 6, num_layers=2, proj_size=4, bidirectional=False, batch_first=True)
        self.experts = Experts()

    def forward(self, x):
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.experts(self.lstm(x)[0].flatten(0, 1))


X = torch.linspace(-1, 1, 24).view(2, 3, 4)
CASES = [
    pytest.param("**.in_proj_weight", ["attention.in_proj_weight"], id="attention"),
    pytest.param(
        "**.weight_?h_l*",
        ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.weight_ih_l1", "lstm.weight_hh_l1"],
        id="recurrent",
    ),
    pytest.param("lstm.weight_hr_l*", ["lstm.weight_hr_l0", "lstm.weight_hr_l1"], id="projections"),
    pytest.param("experts.*", ["experts.up", "experts.down"], id="three dimensions"),
    pytest.param(r"re:.*\.(up|in_proj_bias)", ["attention.in_proj_bias", "experts.up"], id="expression"),
    pytest.param("**.out_proj.weight", ["attention.out_proj.weight"], id="read around"),
]


def gradients(model):
    model.zero_grad()
    y = model(X)
    y.square().sum().backward()
    return [y.detach()] + [p.grad.clone() for p in model.parameters()]


def rated(model):
    """Name the parameters that have rates."""
    return [name.removesuffix("_rate") for name in model.state_dict() if name.endswith("_rate")]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.parametrize(("pattern", "names"), CASES)
class TestAParameterByName:
    def test_gets_state_of_its_shape_and_nothing_else_changes(self, pattern, names):
        """Outputs and gradients keep every bit, and so does the optimizer's list of parameters."""
        model, before = seeded(Sequences), gradients(seeded(Sequences))
        parameters = dict(model.named_parameters())
        report = bc.plan(model, rule_set(rule(pattern))).apply()
        assert [entry.path for entry in report.applied] == names
        assert sorted(rated(model)) == sorted(names)
        state = model.state_dict()
        assert all(state[f"{name}_rate"].shape == parameters[name].shape for name in names)
        assert all(torch.equal(one, other) for one, other in zip(before, gradients(model), strict=True))
        assert dict(model.named_parameters()) == parameters

    def test_is_kept_in_copies_and_files(self, pattern, names, tmp_path):
        """deepcopy, pickle, replay and save/load give the same state on the same parameter."""
        model = bc.convert(seeded(Sequences), rule_set(rule(pattern)), seed=3)
        state = model.state_dict()
        description = json.loads(json.dumps(describe(model)))
        again = seeded(Sequences, seed=1)
        replay(again, description)
        again.load_state_dict(state)
        bc.save(model, tmp_path / "out")
        loaded = bc.load(tmp_path / "out", factory=Sequences)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), again, loaded):
            assert all(torch.equal(value, state[name]) for name, value in twin.state_dict().items())
            assert describe(twin)["modules"] == description["modules"]
            plan = bc.plan(twin, rule_set(rule(pattern)))
            assert {entry.path for entry in plan.skipped} == set(names)
            assert all("already" in entry.reason for entry in plan.skipped)

    def test_is_reverted(self, pattern, names):
        """Class, keys and parameters are as before."""
        model = seeded(Sequences)
        keys, parameters = list(model.state_dict()), dict(model.named_parameters())
        bc.revert(bc.convert(model, rule_set(rule(pattern))))
        assert list(model.state_dict()) == keys
        assert dict(model.named_parameters()) == parameters
        assert not any(steps_of(m) for m in model.modules())


class TestSeveralParametersOfOneModule:
    def test_two_rules_with_one_mechanism_both_apply(self):
        """Each parameter has a step of its own; a second call changes nothing."""
        model = seeded(Experts)
        rules = rule_set(rule("up"), rule("down", {"rates": {"nu": 0.5}}))
        report = bc.plan(model, rules).apply()
        assert [entry.path for entry in report.applied] == ["up", "down"]
        assert [step.parameter for step in steps_of(model)] == ["up", "down"]
        again = bc.plan(model, rules).apply()
        assert again.applied == ()
        assert {entry.path for entry in again.skipped} == {"up", "down"}

    def test_in_two_calls(self):
        """What one call did to one parameter doesn't keep another call from the other."""
        model = seeded(Experts)
        bc.convert(bc.convert(model, rule_set(rule("up"))), rule_set(rule("down")))
        assert rated(model) == ["up", "down"]
        assert rated(bc.revert(model)) == []

    def test_two_mechanisms_on_one_parameter(self):
        """Mechanisms of different names compose; the first rule wins for each."""
        late = {"name": "late", **rule("**", {"rates": {"nu": 0.9}})}
        report = bc.plan(seeded(Experts), rule_set(rule("up", "rates", "marks"), late)).apply()
        of_up = {entry.action: entry.rule for entry in report.applied if entry.path == "up"}
        assert set(of_up) == {"attach rates", "attach marks"}
        assert {e.path for e in report.applied if e.rule == "late"} == {"down", "gate.weight", "gate.bias"}

    def test_beside_a_replacement(self):
        """A replaced layer may carry state on one of its parameters."""
        model = seeded(Mlp)
        replace = {"match": {"type": "linear"}, "replace": {"with": "YatLinear"}}
        bc.convert(model, rule_set(replace, rule("fc1.bias")))
        assert type(model.fc1).__name__ == "YatLinear"
        assert model.fc1.bias_rate.shape == (8,)
        assert type(bc.revert(model).fc1) is nn.Linear

    def test_on_a_composed_layer(self):
        """A class composed for the layer before doesn't keep the model from being pickled and reverted."""
        replace = {"match": {"type": "linear", "subclasses": True}, "replace": {"with": "YatLinear"}}
        model = nn.Sequential(OwnForward(4, 4))
        bc.convert(model, rule_set(replace, rule("0.weight")))
        twin = pickle.loads(pickle.dumps(model))
        assert torch.equal(twin[0].weight_rate, model[0].weight_rate)
        assert torch.equal(twin(X), model(X))
        assert type(bc.revert(twin)[0]) is OwnForward


class TestWhatABuilderIsTold:
    @pytest.mark.parametrize(
        ("make", "pattern", "told"),
        [
            (Experts, "up", "up (up)"),
            (Sequences, "**.down", "experts.down (down)"),
            (Mlp, "fc1.bias", "fc1.bias (bias)"),
        ],
    )
    def test_path_and_parameter(self, make, pattern, told):
        """The site has the module's own name of the parameter, and its dotted name."""
        (entry,) = bc.plan(make(), rule_set(rule(pattern, "marks"))).applied
        assert told in entry.reason


class TestNarrowing:
    @pytest.mark.parametrize(
        ("match", "names"),
        [
            ({"type": "linear"}, ["attention.out_proj.weight", "experts.gate.weight"]),
            ({"type": "recurrent", "path": "l*"}, []),
            ({"path": "attention.**"}, ["attention.out_proj.weight"]),
            ({"where": {"out_features": 3}}, ["experts.gate.weight"]),
            ({"not": ["experts.**"]}, ["attention.out_proj.weight"]),
        ],
    )
    def test_type_path_where_and_not_hold_together_with_parameter(self, match, names):
        """A parameter is meant if its module meets every other condition."""
        given = rule_set({**rule("**.weight", **match), "optional": True})
        assert [entry.path for entry in bc.plan(seeded(Sequences), given).applied] == names


class TestTies:
    @pytest.mark.parametrize("pattern", ["**.weight", "head.weight", "embed.weight"])
    def test_a_tied_parameter_is_selected_once_by_its_first_owner(self, pattern):
        """Whichever of its names a rule uses."""
        model = seeded(Tied)
        report = bc.plan(model, rule_set(rule(pattern))).apply()
        assert model.head.weight is model.embed.weight
        held = [name for name in rated(model) if name != "fc.weight"]
        assert held == ["embed.weight"]
        assert len([entry for entry in report.applied if not entry.path.startswith("fc")]) == 1

    def test_two_names_are_one_parameter(self):
        """Rules that use different names of a tied parameter attach a mechanism once."""
        report = bc.plan(seeded(Tied), rule_set(rule("embed.weight"), rule("head.weight"))).apply()
        assert [entry.path for entry in report.applied] == ["embed.weight"]


class TestNothingMatched:
    @pytest.mark.parametrize(
        ("pattern", "match", "said"),
        [
            ("experts.upp", {}, "the nearest name is 'experts.up'"),
            ("**.in_proj_wieght", {}, "no parameter is named"),
            ("**", {"type": "ReLU"}, "no 'ReLU' modules"),
            ("**.up", {"type": "attention"}, "no parameter is named '\\*\\*.up'"),
        ],
    )
    def test_is_an_error_that_names_the_nearest(self, pattern, match, said):
        """One rule that matches nothing stops the whole call."""
        model = seeded(Sequences)
        with pytest.raises(bc.RuleError, match=said):
            bc.plan(model, rule_set(rule("experts.up"), rule(pattern, **match)))
        assert rated(model) == []


class TestModulesWithoutPlainParameters:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantize.*:UserWarning")
    def test_a_quantized_layer_has_none(self):
        """A quantized Linear holds no parameter; its neighbours' are found."""
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            pytest.skip("this build of torch has no quantized engine")
        plain = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4))
        model = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
        report = bc.plan(model, rule_set(rule("**.weight*"))).apply()
        assert {entry.path for entry in report.applied} == {"1.weight_ih_l0", "1.weight_hh_l0"}
        with pytest.raises(bc.RuleError, match="no parameter is named"):
            bc.plan(model, rule_set(rule("0.weight")))

    @pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
    def test_a_scripted_child_is_left_and_harmless(self):
        """A compiled child takes no state: it is skipped with a reason, or has no parameter to name."""
        model = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 4))
        expected = model(X)
        report = bc.plan(model, rule_set(rule("**.weight"))).apply()
        assert [entry.path for entry in report.applied] == ["1.weight"]
        assert all(entry.reason for entry in report.skipped)
        assert torch.equal(model(X), expected)

    def test_an_uninitialised_lazy_layer(self):
        """A parameter without a shape is skipped with the reason, or refused before anything changes."""
        model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 4))
        report = bc.plan(model, rule_set(rule("**.weight"))).apply()
        assert [entry.path for entry in report.applied] == ["1.weight"]
        assert "run the model once" in report.skipped[0].reason
        assert model(X).shape == (2, 3, 4)


def test_a_weight_read_around_carries_state_all_the_same():
    """State belongs to the parameter: who reads it doesn't matter, and no container is changed."""
    model = bc.convert(seeded(ReadAround), rule_set(rule("qkv.weight")))
    assert type(model) is ReadAround
    assert rated(model) == ["qkv.weight"]
