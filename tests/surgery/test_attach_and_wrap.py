"""Attaching mechanisms and wrapping nodes: the engine's part, with stand-ins for both."""

import copy
import json
import pickle

import pytest
import torch
from small_models import Mlp, Tied, seeded
from torch import nn

import bioconvert as bc
from bioconvert.core import registry
from bioconvert.core.change import Change, TensorRecipe
from bioconvert.layers import YatLinear
from bioconvert.surgery import describe, operations, replay

ROWS = torch.linspace(-1, 1, 12).view(3, 4)


class Wrapped(nn.Module):
    """Adds nothing, times a gate, to what the block gives."""

    def forward(self, *args, **kwargs):
        y = super().forward(*args, **kwargs)
        return torch.where(self.gate == 0, y, y * (1 + self.gate))


def rates(module, site, *, nu: float = 0.16):
    """Keep a rate for each weight."""

    def make(old, stream):
        return 1 + nu * (2 * stream.uniform("rates", tuple(old["weight"].shape)) - 1)

    return Change(adds={"rate": TensorRecipe(make, kind="buffer")}, attributes={"nu": nu}, summary=f"nu {nu}")


def block(module, site, *, tag: str = "general"):
    """Wrap a block."""
    like = next(module.named_parameters(recurse=False), (None, None))[0]
    gate = TensorRecipe(lambda old, stream: torch.zeros(1), reads=(), like=like)
    return Change(into=Wrapped, adds={"gate": gate}, attributes={"tag": tag})


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register a mechanism and a node for the time of a test."""
    registry.load_plugins()  # or ours would be registered beside these
    for name, entry, build in [("mechanisms", "rates", rates), ("nodes", "block", block)]:
        fresh = registry.Registry(name[:-1])
        fresh.register(entry, build, ("",))
        monkeypatch.setattr(registry, name, fresh)
        monkeypatch.setattr(operations, name, fresh)


def rule_set(*rules):
    return {"version": 1, "rules": list(rules)}


ATTACH = {"name": "synapses", "match": {"type": "linear"}, "attach": [{"rates": {"nu": 0.5}}]}
WRAP = {"name": "growth", "match": {"path": "fc2"}, "wrap": {"tag": "expert"}}
REPLACE = {"name": "yat", "match": {"type": "linear"}, "replace": {"with": "YatLinear"}}


def gradients(model):
    model.zero_grad()
    y = model(ROWS)
    y.square().sum().backward()
    return y.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rules", [rule_set(ATTACH), rule_set(WRAP), rule_set(ATTACH, WRAP)])
def test_forward_and_gradients_keep_every_bit(rules):
    """Attaching and wrapping change neither outputs nor the gradients of what was there."""
    y, expected = gradients(seeded(Mlp))
    z, found = gradients(bc.convert(seeded(Mlp), rules))
    assert torch.equal(y, z)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_state_is_a_buffer_drawn_from_the_seed():
    """No parameter is added; two models with the same seed agree, another seed differs."""
    one = bc.convert(seeded(Mlp), rule_set(ATTACH), seed=1)
    other = bc.convert(seeded(Mlp), rule_set(ATTACH), seed=1)
    third = bc.convert(seeded(Mlp), rule_set(ATTACH), seed=2)
    assert len(list(one.parameters())) == len(list(Mlp().parameters()))
    assert torch.equal(one.fc1.rate, other.fc1.rate)
    assert not torch.equal(one.fc1.rate, third.fc1.rate)
    assert "fc1.rate" in one.state_dict()


@pytest.mark.parametrize("order", [(REPLACE, ATTACH, WRAP), (WRAP, ATTACH, REPLACE)])
def test_actions_of_different_kinds_compose(order):
    """A replaced layer carries plasticity inside a node, whatever the order of the rules."""
    model = bc.convert(seeded(Mlp), rule_set(*order), example_inputs=(ROWS,))
    layer = model.fc2
    assert isinstance(layer, Wrapped)
    assert isinstance(layer, YatLinear)
    assert layer.tag == "expert"
    assert layer.rate.shape == layer.weight.shape
    with torch.no_grad():
        before = layer(torch.ones(1, 8))
        layer.gate.fill_(1)
        assert torch.allclose(layer(torch.ones(1, 8)), 2 * before)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(ROWS), model(ROWS))
    assert type(bc.revert(model).fc2) is nn.Linear
    assert model.state_dict().keys() == Mlp().state_dict().keys()


def test_the_first_rule_wins_for_each_kind():
    """A second rule of the same kind doesn't touch a layer; one of another kind does."""
    second = {"name": "late", "match": {"path": "fc1"}, "attach": [{"rates": {"nu": 0.1}}]}
    report = bc.plan(seeded(Mlp), rule_set(ATTACH, second, REPLACE)).apply()
    of_fc1 = {entry.action: entry.rule for entry in report.applied if entry.path == "fc1"}
    assert of_fc1 == {"attach rates": "synapses", "replace": "yat"}


def test_what_is_kept_is_touched_by_nothing():
    """`keep: true` holds against every rule, before or after it, and for all inside."""
    keep = {"name": "leave", "match": {"path": "fc1"}, "keep": True}
    plan = bc.plan(seeded(Mlp), rule_set(ATTACH, REPLACE, keep))
    assert {entry.path for entry in plan.applied} == {"fc2", "head"}
    assert {entry.reason for entry in plan.skipped} == {"a rule keeps 'fc1' as it is"}


def test_an_unused_layer_goes_back_and_keeps_what_was_attached():
    """Only the replacement is withdrawn; the mechanism on the same layer stays."""

    class Around(Mlp):
        def forward(self, x):
            weight = getattr(self, "fc1").weight  # noqa: B009
            return self.head(self.act(self.fc2(torch.relu(x @ weight.t()))))

    model = Around()
    report = bc.plan(model, rule_set(ATTACH, REPLACE), example_inputs=(ROWS,)).apply()
    assert type(model.fc1) is nn.Linear
    assert model.fc1.rate.shape == model.fc1.weight.shape
    assert [(e.path, e.action) for e in report.skipped] == [("fc1", "replace")]


def test_wrapping_first_and_replacing_later_is_refused():
    """A later call can't slip a layer under what wraps it, and says what to do."""
    model = bc.convert(seeded(Mlp), rule_set(WRAP))
    plan = bc.plan(model, rule_set(REPLACE))
    assert {entry.path: entry.reason for entry in plan.skipped}["fc2"].startswith(
        "it is wrapped by rule 'growth'"
    )


def test_a_name_that_is_taken_is_refused():
    """Where a module has an attribute of the same name, nothing is overwritten."""
    model = seeded(Mlp)
    model.fc1.rate = 3
    model.fc2.register_buffer("rate", torch.zeros(1))
    plan = bc.plan(model, rule_set(ATTACH))
    assert [entry.path for entry in plan.applied] == ["head"]
    assert all("'rate' of its own" in entry.reason for entry in plan.skipped)


def test_replay():
    """Mechanisms and nodes come back on a freshly built model."""
    model = bc.convert(seeded(Mlp), rule_set(REPLACE, ATTACH, WRAP))
    twin = seeded(Mlp, seed=5)
    replay(twin, json.loads(json.dumps(describe(model))))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(ROWS), model(ROWS))
    assert torch.equal(twin.fc1.rate, model.fc1.rate)


def test_a_tie_has_one_state_each_by_its_owner():
    """Both owners of a tied weight may carry state; the tie stays."""
    rule = {"match": {"type": ["linear", "embedding"]}, "attach": ["rates"]}
    model = bc.convert(Tied(), rule_set(rule))
    assert model.head.weight is model.embed.weight
