"""Every mechanism at its time: at the steps that are due and no others, and on from where it was."""

import pytest
import torch
from mechanism_runs import same, started, without
from mechanism_table import CASES, OPTIMIZERS, rows

ALL = tuple(OPTIMIZERS)
DRIVEN = [case for case in CASES if not case.by_hand]
SCHEDULE, EXPECTED = {"every": 2, "start": 1, "stop": 6}, [2, 4]


@pytest.mark.parametrize(("case", "layer", "optimizer"), rows(DRIVEN, optimizers=ALL))
def test_acts_when_it_is_due_and_never_else(case, layer, optimizer):
    """A step that isn't due is that of the optimizer alone, to the bit, and one that is due isn't."""
    run, acted = started(case, layer, optimizer, SCHEDULE), []
    # A unit that was renewed has updates of its own for a while.
    last = EXPECTED[0] if case.lingers and "Adam" in optimizer else SCHEDULE["stop"]
    for number in range(last + 1):
        if case.constrains:
            _turn(run.net.layer)
        alone = run.alone()
        run.step(number)
        alone.step(number)
        if not same(without(run.state(), case), without(alone.state(), case)):
            acted.append(number)
    assert acted == ([] if case.idle else [each for each in EXPECTED if each <= last])


def _turn(layer):
    """Give every weight the other sign."""
    with torch.no_grad():
        for weight in layer.parameters():
            weight.neg_()


@pytest.mark.parametrize(
    ("case", "layer", "optimizer"), rows([case for case in DRIVEN if case.warms], optimizers=ALL)
)
class TestWarmup:
    def test_begins_with_next_to_nothing(self, case, layer, optimizer):
        """At the start of a long warmup weights move as without the mechanism."""
        run = started(case, layer, optimizer, {"warmup": 10**7})
        alone = run.alone()
        run.step(0)
        alone.step(0)
        for weight, free in zip(run.net.parameters(), alone.net.parameters(), strict=True):
            if weight.requires_grad:
                assert (weight - free).abs().max() < 1e-5

    def test_ends_in_full_strength(self, case, layer, optimizer):
        """After the warmup a step is that of the mechanism without one."""
        run, other = started(case, layer, optimizer, {"warmup": 2}), started(case, layer, optimizer)
        for number in range(2):
            run.step(number)
        other.load(run.state())
        for number in (2, 3):
            run.step(number)
            other.step(number)
        assert same(run.state(), other.state())


@pytest.mark.parametrize(("case", "layer", "optimizer"), rows(CASES, optimizers=ALL))
def test_goes_on_where_it_was(case, layer, optimizer):
    """A fresh model with the states of model, optimizer and plasticity goes on bit for bit."""
    run = started(case, layer, optimizer)
    for number in range(3):
        run.step(number)
    other = started(case, layer, optimizer).load(run.state())
    for number in range(3, 6):
        run.step(number)
        other.step(number)
        assert same(run.state(), other.state())
