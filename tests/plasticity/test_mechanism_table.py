"""Every mechanism in every layer: what attaching it, copying it and taking it off leave behind."""

import copy
import pickle

import pytest
import torch
from mechanism_runs import Run, converted, loss_of, same, started
from mechanism_table import CASES, LAYERS, OPTIMIZERS, REFUSED, made, rows, rules

import bioconvert as bc


def traces(model):
    """Give everything about a model's modules that a mechanism might leave behind."""
    return [
        (
            type(module),
            set(vars(module)),
            [
                (name, None if p is None else (id(p), p.requires_grad))
                for name, p in module._parameters.items()
            ],
            list(module._buffers),
            len(module._forward_hooks),
            len(module._load_state_dict_pre_hooks),
            module.training,
        )
        for module in model.modules()
    ]


def test_every_registered_mechanism_has_a_row():
    """Nothing that can be attached escapes these suites."""
    names = bc.core.registry.mechanisms.names()
    assert {"fuzzy_lr", "by_hand"} <= {case.mechanism for case in CASES} <= set(names)
    assert len({case.id for case in CASES}) == len(CASES)
    assert REFUSED.keys() <= {case.id for case in CASES}


@pytest.mark.parametrize(("case", "layer", "optimizer"), rows(CASES))
class TestAttaching:
    def test_changes_no_bit(self, case, layer, optimizer):
        """Outputs, gradients and parameters are those of a plain model with the same weights."""
        net, twin, x = converted(case, layer), made(layer, case), LAYERS[layer].input(0)
        given = net.state_dict()
        if case.alters in ("nothing", "form"):
            assert all(torch.equal(given[name], value) for name, value in twin.state_dict().items())
        twin.load_state_dict({name: given[name] for name in twin.state_dict()})
        outputs = [each(x) for each in (net, twin)]
        for y in outputs:
            loss_of(y).backward()
        added = dict(net.named_parameters()).keys() - dict(twin.named_parameters()).keys()
        assert added == ({"layer.synapses"} if case.alters == "form" else set())
        gradients = {name: p.grad for name, p in net.named_parameters()}
        expected = {name: p.grad for name, p in twin.named_parameters()}
        if case.alters == "form":
            assert torch.allclose(*outputs, atol=1e-6)
            for each in gradients["layer.synapses"]:
                assert torch.allclose(each, expected["layer.weight"], atol=1e-6)
        elif case.alters == "function":
            assert not torch.allclose(*outputs, atol=1e-3)
        else:
            assert torch.equal(*outputs)
            assert all(torch.equal(gradients[name], expected[name]) for name in expected)

    def test_reverts_exactly(self, case, layer, optimizer):
        """After revert nothing is left: classes, hooks and the very tensors are those of before."""
        model = made(layer, case)
        before, state = traces(model), copy.deepcopy(model.state_dict())
        bc.convert(model, rules(case, layer))
        assert traces(model) != before
        bc.revert(model)
        assert traces(model) == before
        assert same(model.state_dict(), state)

    def test_reverts_after_training(self, case, layer, optimizer):
        """After training nothing is left but the trained weights."""
        model = made(layer, case)
        before = traces(model)
        bc.convert(model, rules(case, layer))
        run = Run(case, layer, model, OPTIMIZERS[optimizer](model.parameters())).bind()
        run.step(0)
        if run.plasticity is not None:
            run.plasticity.unbind()
        bc.revert(model)
        assert traces(model) == before
        assert not same(model.state_dict(), made(layer, case).state_dict())


DUPLICATES = [
    pytest.param(copy.deepcopy, id="deepcopy"),
    pytest.param(lambda given: pickle.loads(pickle.dumps(given)), id="pickle"),
]


@pytest.mark.parametrize("duplicate", DUPLICATES)
@pytest.mark.parametrize(("case", "layer", "optimizer"), rows(CASES))
def test_a_copy_does_the_same(case, layer, optimizer, duplicate):
    """A copy taken in training computes the same, and goes on bit for bit with a copy of the optimizer."""
    run = started(case, layer, optimizer)
    run.step(0)
    run.step(1)
    other = Run(case, layer, *duplicate((run.net, run.optimizer)))
    x = LAYERS[layer].input(7)
    assert torch.equal(run.net(x), other.net(x))
    assert traces_of_classes(run.net) == traces_of_classes(other.net)
    other.bind()
    if run.plasticity is not None:
        other.plasticity.load_state_dict(run.plasticity.state_dict())
    # The one forward pass that the original made since is made up for.
    other.net.load_state_dict(run.net.state_dict())
    for number in (2, 3):
        run.step(number)
        other.step(number)
    assert same(run.state(), other.state())


def traces_of_classes(model):
    return [type(module) for module in model.modules()]


@pytest.mark.parametrize(
    ("case", "layer", "optimizer"),
    rows([case for case in CASES if not case.by_hand], optimizers=tuple(OPTIMIZERS)),
)
def test_unbind_leaves_nothing(case, layer, optimizer):
    """After unbind neither optimizer nor model has hooks, and steps are those of the optimizer alone."""
    run = started(case, layer, optimizer)
    run.step(0)
    run.step(1)
    run.plasticity.unbind()
    assert not run.optimizer._optimizer_step_pre_hooks
    assert not run.optimizer._optimizer_step_post_hooks
    assert not any(module._forward_hooks for module in run.net.modules())
    alone, kept = run.alone(), copy.deepcopy(dict(run.net.named_buffers()))
    run.step(2)
    alone.step(2)
    assert same(run.state()["net"], alone.state()["net"])
    assert same(run.optimizer.state_dict(), alone.optimizer.state_dict())
    assert same(dict(run.net.named_buffers()), kept)


@pytest.mark.parametrize(
    ("case", "layer", "reason"),
    [
        pytest.param(case, layer, reason, id=f"{case.id} - {layer}")
        for case in CASES
        for layer, reason in REFUSED.get(case.id, {}).items()
    ],
)
def test_what_is_refused(case, layer, reason):
    """Where a mechanism can't work the plan gives the reason, and the layer stays as it was."""
    model = made(layer, case)
    before, state = traces(model), copy.deepcopy(model.state_dict())
    plan = bc.plan(model, rules(case, layer))
    assert not plan.applied
    assert len(plan.skipped) == 1
    assert_matches(plan.skipped[0].reason, reason)
    plan.apply()
    assert traces(model) == before
    assert same(model.state_dict(), state)


def assert_matches(text, pattern):
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)
