"""Tracing a container: what is seen, what is noted, and that nothing changes."""

import random
from threading import Thread

import numpy
import pytest
import torch
from small_models import Branching, Cnn, Mlp, Optional
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bioconvert.graph.flow import trace_variants
from bioconvert.graph.guards import Attribute, Contents, OfType, State
from bioconvert.graph.session import sweep
from bioconvert.graph.trace import Extra, Guard, Untraceable, recorded_reads, trace


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


class OwnTensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.ones(4)

    def forward(self, x):
        return x * (self.scale * 2)


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return grad


class Settings:
    def __init__(self):
        self.calls = 0
        self.log = []


def forward(body, **attributes):
    """Make a maker of modules with one Linear, some attributes, and a forward."""

    def make():
        module = type("Case", (nn.Module,), {"forward": body})()
        module.fc = nn.Linear(4, 4)
        for name, value in attributes.items():
            setattr(module, name, value())
        return module

    return make


def without_gradients(self, x):
    with torch.no_grad():
        return self.fc(x)


def with_gradients_all_the_same(self, x):
    with torch.enable_grad():
        return self.fc(x)


def without_autocast(self, x):
    with torch.autocast("cpu", enabled=False):
        return self.fc(x)


def inferring(self, x):
    with torch.inference_mode():
        return self.fc(x)


def with_one_kernel(self, x):
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return F.scaled_dot_product_attention(x, x, x)


def catching(self, x):
    try:
        return Squared.apply(x)
    except Exception:  # noqa: BLE001 - what a forward may do
        return x


def logging(self, x):
    self.settings.log.append(x)
    return x


def counting_elsewhere(self, x):
    self.settings.calls += 1
    return x


def listing(self, x):
    self.seen.append(1)
    return x


def setting_a_child(self, x):
    self.fc.flag = True
    return self.fc(x)


def shaping_by_length(self, x):
    shape = (*x.shape[:-1], 2)
    return x.view(shape) if len(shape) > 1 else x


def stochastic_depth(self, x):
    return self.fc(x) if random.random() < 0.5 else x


def numpy_depth(self, x):
    return self.fc(x) if numpy.random.rand() < 0.5 else x


OUTSIDE = nn.Linear(4, 4)
CONSTANT = torch.ones(4)

UNTRACEABLE = [
    pytest.param(Branching, "symbolically traced variables", id="branches on values"),
    pytest.param(Counting, "sets calls", id="counts its calls"),
    pytest.param(CountingInBuffer, "cannot assign|sets seen", id="changes a buffer"),
    pytest.param(Branching, r"at small_models\.py:\d+: if x\.sum\(\) > 0:", id="names the line"),
    pytest.param(forward(without_gradients), "whether gradients are recorded.*no_grad", id="no_grad"),
    pytest.param(forward(with_gradients_all_the_same), "whether gradients are recorded", id="enable_grad"),
    pytest.param(forward(torch.no_grad()(lambda self, x: self.fc(x))), "gradients", id="a no_grad decorator"),
    pytest.param(forward(inferring), "whether gradients are recorded", id="inference mode"),
    pytest.param(forward(without_autocast), "whether autocast is on", id="autocast"),
    pytest.param(forward(with_one_kernel), "kernel of attention", id="sdpa_kernel"),
    pytest.param(
        forward(lambda self, x: checkpoint(self.fc, x, use_reentrant=False)), "checkpoint", id="checkpoint"
    ),
    pytest.param(
        forward(lambda self, x: checkpoint(self.fc, x, use_reentrant=True)),
        "autograd function|gradients",
        id="reentrant checkpoint",
    ),
    pytest.param(forward(lambda self, x: Squared.apply(x)), "autograd function", id="autograd function"),
    pytest.param(forward(catching), "autograd function", id="a refusal that the forward catches"),
    pytest.param(forward(stochastic_depth), "random numbers from Python's random", id="random"),
    pytest.param(forward(numpy_depth), "random numbers from numpy", id="numpy.random"),
    pytest.param(forward(logging, settings=Settings), "sets log", id="appends to a list of an object"),
    pytest.param(forward(counting_elsewhere, settings=Settings), "sets settings", id="sets an object"),
    pytest.param(forward(listing, seen=lambda: [0]), "sets seen", id="appends to a list"),
    pytest.param(forward(setting_a_child), "sets flag", id="sets an attribute of a child"),
    pytest.param(forward(lambda self, x: x * CONSTANT), "no module below it holds", id="a global tensor"),
    pytest.param(forward(lambda self, x: OUTSIDE(x)), "isn't registered below it", id="a module elsewhere"),
    pytest.param(forward(lambda self, x: self(x)), "calls itself", id="calls itself"),
    pytest.param(
        forward(lambda self, x: x if OUTSIDE.training else -x), "'training' of a Linear", id="reads elsewhere"
    ),
    pytest.param(
        forward(lambda self, x: x * self.table[0], table=lambda: numpy.ones(3)),
        "can't be watched",
        id="ndarray",
    ),
    pytest.param(
        forward(lambda self, x: x * self.table[0], table=lambda: list(range(5000))), "5,000", id="a long list"
    ),
    pytest.param(
        forward(lambda self, x: x if isinstance(self.fc(x), tuple) else -x),
        "asks for the type",
        id="isinstance",
    ),
    pytest.param(forward(shaping_by_length), "cannot be iterated", id="length of a shape"),
    pytest.param(forward(lambda self, *args: args[0]), "tuple index out of range", id="nothing in *args"),
    pytest.param(forward(lambda self, x: [y + 1 for y in x]), "cannot be iterated", id="iterates"),
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


def test_a_tensor_made_in_the_forward_is_made_in_every_call():
    """Factory functions are nodes of the graph, not constants of it; so is what is done with own tensors."""
    drawn = trace(forward(lambda self, x: x + torch.rand(4) * torch.arange(4))()).graph
    assert {"rand", "arange"} <= set(targets(drawn))
    own = trace(OwnTensor()).graph
    assert targets(own) == ["x", "scale", "mul", "mul", "output"]


class TestGuards:
    def test_objects_are_watched_attribute_by_attribute(self):
        """What is read through an object is noted with its path; what isn't read isn't."""
        module = forward(lambda self, x: x * self.settings.calls, settings=Settings)()
        assert trace(module).guards == (
            Guard((), "settings", OfType(Settings)),
            Guard((Attribute("settings"),), "calls", 0),
        )

    def test_containers_are_compared_with_a_copy(self):
        """A list or dictionary is noted as a whole, types of its values included."""
        module = forward(lambda self, x: x * self.options["a"][0], options=lambda: {"a": [1, 2]})()
        (guard,) = trace(module).guards
        assert guard.value == Contents(dict, ("a",), (Contents(list, (), (1, 2)),))
        assert guard.holds(module)
        module.options["a"][0] = 1.0
        assert not guard.holds(module)

    def test_absent_attributes_and_present_children(self):
        """`getattr(self, "flag", None)` depends on the absence, `self.fc is None` on the presence."""
        module = forward(lambda self, x: x if getattr(self, "flag", None) else self.fc(x))()
        guards = trace(module).guards
        assert guards == (Guard((), "flag", State.ABSENT), Guard((), "fc", State.PRESENT))
        module.flag = True
        assert [guard.holds(module) for guard in guards] == [False, True]

    def test_reads_are_recorded_outside_of_traces_too(self):
        """`recorded_reads` sees what a forward on real tensors looks at."""
        module = Optional()
        with recorded_reads(module) as guards:
            module(torch.ones(1, 4))
        assert Guard((), "scale", 2.0) in guards


@pytest.mark.parametrize(("make", "reason"), UNTRACEABLE)
def test_nothing_stays_patched(make, reason):
    """torch and the classes of watched objects are as before, whatever happened."""
    places = (
        nn.Module,
        torch.autocast,
        torch.autograd.Function,
        torch.inference_mode,
        Settings,
        torch,
        torch._C,
    )
    before, state = [dict(vars(place)) for place in places], random.getstate()
    with pytest.raises(Untraceable):
        trace(make())
    assert [dict(vars(place)) for place in places] == before
    assert random.getstate() == state
    assert torch.rand(1).shape == (1,)


def test_a_sweep_patches_once_and_modules_work_meanwhile():
    """Inside a sweep, traces are the same, and a module that is called computes."""
    alone = targets(trace(Mlp()).graph)

    def work():
        first = targets(trace(Mlp()).graph)
        with pytest.raises(Untraceable):
            trace(Branching())
        return first, targets(trace(Mlp()).graph), Branching()(torch.ones(1, 4)).shape

    assert sweep(work) == (alone, alone, (1, 4))


def test_extra_arguments_are_inputs():
    """What a call puts into `*args` and `**kwargs` has names of its own in the graph."""
    module = forward(lambda self, x, *args, **kwargs: x + args[0] * kwargs["by"])()
    traced = trace(module, {"args_0": 2}, Extra(1, ("by",)))
    assert traced.inputs == ("x", "kwargs_by")
    assert targets(traced.graph) == ["x", "kwargs_by", "mul", "add", "output"]


def test_other_threads_compute_while_one_traces():
    """A module that another thread calls in the middle of a trace computes on its own tensors."""
    found = []

    def body(self, x):
        thread = Thread(target=lambda: found.append(OUTSIDE(torch.ones(1, 4)) + OUTSIDE.in_features))
        thread.start()
        thread.join()
        return self.fc(x)

    assert targets(trace(forward(body)()).graph) == ["x", "fc", "output"]
    assert torch.equal(found[0], OUTSIDE(torch.ones(1, 4)) + 4)
