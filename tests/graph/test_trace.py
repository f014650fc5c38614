"""Tracing a container: what is seen, what is noted, and that nothing changes."""

import pytest
import torch
from small_models import Branching, Cnn, Mlp, Optional
from torch import nn
from torch.nn import functional as F

from bioconvert.graph.flow import trace_variants
from bioconvert.graph.trace import Guard, Untraceable, trace


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x


class CountingInBuffer(Counting):
    def forward(self, x):
        self.seen.add_(1)
        self.seen = self.seen + x.sum()
        return x


class Standardised(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.ones(4)

    def forward(self, x):
        return x * (self.scale * 2)


class Variadic(nn.Module):
    def forward(self, *args):
        return args[0]


UNTRACEABLE = [
    pytest.param(Branching, "symbolically traced variables", id="branches on values"),
    pytest.param(Counting, "sets calls", id="counts its calls"),
    pytest.param(CountingInBuffer, "cannot assign|sets seen", id="changes a buffer"),
    pytest.param(Standardised, "sets _tensor_constant0", id="computes with constants"),
    pytest.param(Variadic, r"takes \*args", id="variadic"),
]


def targets(graph):
    return [getattr(node.target, "__name__", node.target) for node in graph.nodes]


def test_children_are_leaves():
    """The graph shows calls of children and of functions in their order."""
    assert targets(trace(Mlp()).graph) == ["x", "fc1", "relu", "fc2", "act", "head", "output"]


def test_arguments_with_defaults_keep_them():
    """An argument that has a default isn't symbolic, so that `is None` is answered truly."""
    traced = trace(Optional())
    assert traced.inputs == ("x",)
    assert traced.fixed == {"mask": None, "double": False}
    assert "mul" in targets(traced.graph)  # by the scale alone: no mask


def test_an_argument_can_be_made_symbolic():
    """Without a fixed value, an optional argument becomes an input of the graph."""
    traced = trace(Optional(), {"double": False})
    assert traced.inputs == ("x", "mask")
    assert targets(traced.graph).count("mul") == 2


def test_plain_attributes_that_were_read_are_guards():
    """Each flag or number that the forward looked at is noted with its value, children's included."""
    guards = trace(Optional()).guards
    assert Guard((), "training", True) in guards
    assert Guard((), "scale", 2.0) in guards


def test_an_absent_child_is_a_guard():
    """`if self.down is not None` depends on the child's absence."""

    class Down(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_module("down", None)

        def forward(self, x):
            return x if self.down is None else self.down(x)

    down = Down()
    (guard,) = trace(down).guards
    assert guard == Guard((), "down", None)
    assert guard.holds(down)
    down.down = nn.Identity()
    assert not guard.holds(down)


def test_training_and_evaluation_are_traced():
    """A forward that looks at the train flag has a variant for each, and the flags stay as they were."""
    model = Optional()
    model.fc.eval()
    variants = trace_variants(model)
    assert {guard.value for v in variants for guard in v.guards if guard.name == "training"} == {True, False}
    assert model.training
    assert not model.fc.training


def test_a_forward_without_flags_has_one_variant():
    """Nothing is traced twice for nothing."""
    assert len(trace_variants(Cnn())) == 1


@pytest.mark.parametrize(("make", "reason"), UNTRACEABLE)
def test_what_cannot_be_traced_says_why(make, reason):
    """The reason names what stands in the way."""
    with pytest.raises(Untraceable, match=reason):
        trace(make())


@pytest.mark.parametrize(("make", "reason"), UNTRACEABLE)
def test_a_failed_trace_leaves_no_trace(make, reason):
    """Class, attributes and buffers are as before, also of what the forward had changed."""
    module = make()
    before = (type(module), dict(vars(module)), {k: v.clone() for k, v in module.state_dict().items()})
    with pytest.raises(Untraceable):
        trace(module)
    assert type(module) is before[0]
    assert dict(vars(module)) == before[1]
    if make is not CountingInBuffer:  # the in-place part of a forward that runs while tracing can't be undone
        assert all(torch.equal(v, before[2][k]) for k, v in module.state_dict().items())


def test_a_forward_on_the_instance_is_not_traced():
    """What accelerate puts on an instance isn't the class's forward."""
    module = Mlp()
    module.forward = lambda x: x
    with pytest.raises(Untraceable, match="set on the instance"):
        trace(module)


def test_super_calls_are_followed():
    """A forward that calls its base class's is traced through it."""

    class Doubled(Mlp):
        def forward(self, x):
            return F.relu(super().forward(x))

    assert targets(trace(Doubled()).graph)[-2:] == ["relu", "output"]
