"""Which modules are known to leave their input as it is."""

import copy

import pytest
import torch
from growing_models import wrapping
from torch import nn
from torch.nn.utils import parametrizations

import bioconvert as bc
from bioconvert.organism import BaseEvolvableModule
from bioconvert.organism.untouched import FORWARDS, is_left_untouched

ARGUMENTS = {
    "Linear": (4, 4),
    "Bilinear": (4, 4, 4),
    **dict.fromkeys(("LayerNorm", "RMSNorm"), (4,)),
    **{f"{name}{count}d": (4,) for name in ("BatchNorm", "InstanceNorm") for count in (1, 2, 3)},
    **{f"{name}{count}d": (4, 4, 1) for name in ("Conv", "ConvTranspose") for count in (1, 2, 3)},
    **{f"{name}Pool{count}d": (1,) for name in ("Max", "Avg") for count in (1, 2, 3)},
    **{f"Adaptive{name}Pool{count}d": (2,) for name in ("Max", "Avg") for count in (1, 2, 3)},
    "GroupNorm": (2, 4),
    "Threshold": (0.0, 0.0),
    "Unflatten": (1, (2, 2)),
    "Softmax": (-1,),
    "LogSoftmax": (-1,),
}


def known(cls):
    """Make a module of a known class."""
    return cls(*ARGUMENTS.get(cls.__name__, ()))


def inputs(cls):
    """Give what it takes."""
    dimensions = int(cls.__name__[-2]) if cls.__name__.endswith("d") and cls.__name__[-2].isdigit() else 0
    x = torch.linspace(-2, 2, 8 * 4**dimensions).reshape(2, 4, *[4] * dimensions)
    return (x, x.clone()) if cls is nn.Bilinear else (x,)


@pytest.mark.parametrize("cls", FORWARDS, ids=lambda cls: cls.__name__)
@torch.no_grad()
def test_every_known_class_leaves_its_input_as_it_is(cls):
    """Nothing is written to the input, in train and eval mode; what works in place isn't taken for that."""
    module = known(cls)
    for mode in (True, False):
        given = inputs(cls)
        assert is_left_untouched(module.train(mode))
        module(*given)
        assert all(x._version == 0 for x in given)
        assert all(map(torch.equal, given, inputs(cls)))
    if hasattr(module, "inplace"):
        module.inplace = True
        assert not is_left_untouched(module)


def block():
    """Give a block that is known to leave its input as it is."""
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))


class Squared(nn.Module):
    """Is no module of torch, and may do whatever it wants."""

    def forward(self, x):
        """Square in place."""
        return x.square_()


def set_own_forward(module):
    """Give one instance a forward of its own."""
    module[1].forward = torch.relu_


EDITS = {
    "a layer that works in place": lambda module: setattr(module[1], "inplace", True),
    "a layer of the user's": lambda module: module.append(Squared()),
    "another layer in its place": lambda module: module.__setitem__(0, Squared()),
    "a hook before": lambda module: module[0].register_forward_pre_hook(lambda m, x: x[0].relu_()),
    "a hook behind": lambda module: module.register_forward_hook(lambda m, x, y: x[0].relu_() + y),
    "a forward of its own": set_own_forward,
    "a parametrization": lambda module: parametrizations.weight_norm(module[0]),
    "a subclass": lambda module: setattr(module[1], "__class__", type("Mine", (nn.ReLU,), {})),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@torch.no_grad()
def test_an_edit_counts_at_once(edit):
    """What is edited after it was asked for is judged as it is now, and so is a node made of it."""
    plain = block()
    node = bc.convert(nn.Sequential(block()), wrapping("0"))[0]
    for module in (plain, node):
        assert is_left_untouched(module)
        edit(module)
        assert not is_left_untouched(module)


@torch.no_grad()
def test_a_forward_put_into_a_class_counts(monkeypatch):
    """A known class with a forward that somebody else put in is known no more."""
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x.relu_())
    assert not is_left_untouched(block())


def test_gradients_are_not_recorded():
    """Where gradients are recorded, a layer keeps its input, which nobody else may write to then."""
    assert not is_left_untouched(block())
    with torch.inference_mode():
        assert is_left_untouched(copy.deepcopy(block()))


@torch.no_grad()
def test_nodes_of_networks_are_seen_through_by_their_caller_only():
    """A node that holds a module is no known class: whoever calls what it holds asks that."""
    node = BaseEvolvableModule(block())
    assert not is_left_untouched(node)
    assert is_left_untouched(node.child_module)
