"""Classes that are made while converting."""

import copy
import pickle

import torch
from small_models import OwnForward
from torch import nn

from bioconvert.graph.classes import compose


class Louder(nn.Linear):
    """Stands for a layer of ours."""

    def forward(self, input):
        return super().forward(input) * 10


class Quieter(nn.Linear):
    """Stands for another one."""


def test_a_subclass_needs_no_composition():
    """A class that inherits from the module's own is used as it is."""
    assert compose(Louder, nn.Linear) is Louder
    assert compose(nn.Linear, Louder) is Louder


def test_a_user_class_is_kept_in():
    """The composed class behaves as the first and is both; there is one for each pair."""
    cls = compose(Louder, OwnForward)
    assert cls is compose(Louder, OwnForward)
    assert issubclass(cls, Louder)
    assert issubclass(cls, OwnForward)
    assert cls.__name__ == "Louder"


def test_instances_can_be_copied_and_pickled():
    """The copy is of the very same class, also when it is composed twice over."""
    layer = OwnForward(2, 2)
    layer.__class__ = compose(Quieter, compose(Louder, OwnForward))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(twin) is type(layer)
        assert torch.equal(twin.weight, layer.weight)
