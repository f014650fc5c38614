"""Every mechanism given what it can't work with: a clear error, or nothing, and all is as it was."""

import copy

import pytest
import torch
from mechanism_runs import same, started, without
from mechanism_table import CASES, MAIN, OPTIMIZERS, made, option_names, rows, rules

import bioconvert as bc
from bioconvert.core.errors import OptionError, RuleError

ALL = tuple(OPTIMIZERS)
DRIVEN = [case for case in CASES if not case.by_hand]


def everything(run):
    """Give what a step that fails must leave as it was."""
    return copy.deepcopy((run.net.state_dict(), run.optimizer.state_dict()))


@pytest.mark.parametrize(("case", "layer", "optimizer"), rows(DRIVEN, layers=False, optimizers=ALL))
class TestEveryOptimizer:
    def test_a_step_without_gradients(self, case, layer, optimizer):
        """Without a gradient, before the first one or later, a step does nothing."""
        run = started(case, layer, optimizer)
        before = everything(run)
        run.optimizer.step()
        assert same(everything(run), before)
        run.step(0)
        run.optimizer.zero_grad()
        before = everything(run)
        run.optimizer.step()
        assert same(everything(run), before)

    def test_a_frozen_weight(self, case, layer, optimizer):
        """A weight that is frozen stays as it is, and so does what is kept of it."""
        run = started(case, layer, optimizer)
        run.step(0)
        frozen = run.net.layer._parameters[case.parameter].requires_grad_(False)
        frozen.grad = None
        kept = set(run.net.layer._buffers)
        before = without(run.state(), case)["net"]
        for number in (1, 2):
            run.step(number)
        after = without(run.state(), case)["net"]
        names = [f"layer.{name}" for name in (case.parameter, *kept) if f"layer.{name}" in before]
        assert names
        assert all(same(after[name], before[name]) for name in names)
        assert not same(after["head.weight"], before["head.weight"])

    @pytest.mark.parametrize("seen", [0, 1], ids=["at the first step", "later"])
    def test_a_weight_that_is_not_finite(self, case, layer, optimizer, seen):
        """It is an error that names the weight, before anything changed; or every other weight is served."""
        run = started(case, layer, optimizer)
        for number in range(seen):
            run.step(number)
        run.find_gradients(seen)
        weight = run.net.layer._parameters[case.parameter]
        with torch.no_grad():
            weight.view(-1)[0] = torch.nan
        before = everything(run)
        if case.nan:
            with pytest.raises(OptionError, match=case.nan):
                run.optimizer.step()
            assert same(everything(run), before)
            return
        run.optimizer.step()
        assert weight.view(-1)[1:].isfinite().all()
        assert not same(everything(run), before)

    def test_a_gradient_that_is_not_finite(self, case, layer, optimizer):
        """It is an error that names the weight, before anything changed; or every other weight is served."""
        run = started(case, layer, optimizer)
        run.find_gradients(0)
        weight = run.net.layer._parameters[case.parameter]
        weight.grad.view(-1)[0] = torch.nan
        before = everything(run)
        if case.nan_slope:
            with pytest.raises(OptionError, match=case.nan_slope):
                run.optimizer.step()
            assert case.late or same(everything(run), before)
            return
        run.optimizer.step()
        assert weight.view(-1)[1:].isfinite().all()


@pytest.mark.parametrize(
    ("case", "layer", "optimizer"),
    rows([case for case in DRIVEN if case.nan], layers=False, optimizers=ALL),
)
def test_a_weight_that_is_mended(case, layer, optimizer):
    """After the error, and with the weight mended, training goes on as if nothing had happened."""
    run, other = (started(case, layer, optimizer) for _ in range(2))
    for each in (run, other):
        each.find_gradients(0)
    weight = run.net.layer._parameters[case.parameter].detach()
    whole = weight.clone()
    weight.view(-1)[0] = torch.nan
    with pytest.raises(OptionError, match=case.nan):
        run.optimizer.step()
    weight.copy_(whole)
    for each in (run, other):
        each.optimizer.step()
    assert same(run.state(), other.state())


@pytest.mark.parametrize("case", [case for case in CASES if case.by_hand], ids=lambda case: case.id)
def test_a_call_without_gradients(case):
    """A call before `backward()` is an error that names a weight, and changes nothing."""
    run = started(case, MAIN)
    before = everything(run)
    for name in ("fuzzy_learning_rates", "volume_dependent_lr", "crystallize", "scale_grad"):
        with pytest.raises(OptionError, match=r"no gradient yet, for 'layer\.weight'"):
            getattr(run.net, name)()
    run.optimizer.step()
    assert same(everything(run), before)


WRONG = [
    pytest.param(
        case, {name: 5 if name in ("norm", "outgoing") else "nonsense"}, name, id=f"{case.id} - {name}"
    )
    for case in {each.mechanism: each for each in CASES}.values()
    for name in option_names(case.mechanism)
]
SCHEDULES = [
    pytest.param(case, wrong, next(iter(wrong)), id=f"{case.id} - {wrong}")
    for case in {each.mechanism: each for each in DRIVEN}.values()
    for wrong in ({"every": 0}, {"start": -1}, {"stop": -1}, {"warmup": -1}, {"target": "weight"})
]


@pytest.mark.parametrize(("case", "wrong", "name"), [*WRONG, *SCHEDULES])
def test_an_option_that_makes_no_sense(case, wrong, name):
    """It is an error of the rule that names mechanism and option, and the model stays as it was."""
    model = made(MAIN, case)
    state, classes = copy.deepcopy(model.state_dict()), [type(each) for each in model.modules()]
    with pytest.raises(RuleError, match=rf"{case.mechanism}\.{name}.*: must"):
        bc.convert(model, rules(case, MAIN, wrong))
    assert same(model.state_dict(), state)
    assert [type(each) for each in model.modules()] == classes


def test_an_option_that_there_is_not():
    """Each mechanism says that it doesn't have it."""
    for case in {each.mechanism: each for each in CASES}.values():
        with pytest.raises(RuleError, match=f"{case.mechanism} has no option 'nonsense'"):
            bc.plan(made(MAIN, case), rules(case, MAIN, {"nonsense": 1}))


NAMED = [
    ("fuzzy_lr", {"distribution": "cauchy"}, r"fuzzy_lr\.distribution: must be .*'gamma'.*, not 'cauchy'"),
    ("fuzzy_lr", {"bounds": [2.0, 0.5]}, r"fuzzy_lr\.bounds: must be the least and the greatest rate"),
    ("volume_lr", {"law": "kasei"}, r"volume_lr\.law: must be .*'kasai'.*, not 'kasei'"),
    ("weight_splitting", {"synapses": 1}, r"weight_splitting\.synapses: must be at least 2"),
]


@pytest.mark.parametrize(("mechanism", "options", "reason"), NAMED)
def test_what_the_error_says(mechanism, options, reason):
    """A name that isn't known is told with those that are, and bounds with what they must be."""
    model = made(MAIN)
    rule = {"match": {"path": "layer"}, "attach": [{mechanism: options}]}
    with pytest.raises(RuleError, match=reason):
        bc.plan(model, {"version": 1, "rules": [rule]})


def test_a_number_of_synapses_that_does_not_divide():
    """Outputs that can't be added up in groups are refused with both numbers, and nothing is left behind."""
    model = made(MAIN)
    state, y = copy.deepcopy(model.state_dict()), model(torch.ones(2, 5))
    attached = {"weight_splitting": {"law": "reference", "synapses": 3}}
    rule = {"match": {"path": "layer"}, "attach": [attached]}
    plan = bc.plan(model, {"version": 1, "rules": [rule]})
    plan.apply()
    assert "its 4 outputs can't be added up in groups of 3" in plan.skipped[0].reason
    assert same(model.state_dict(), state)
    assert torch.equal(model(torch.ones(2, 5)), y)
    assert type(model.layer) is torch.nn.Linear
