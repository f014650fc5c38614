"""Modules with a rewritten forward, to be compared with the originals."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import nn

from bioconvert.graph.rewrite import rewrite_of, rewritten_class

X = torch.linspace(-1, 1, 8).view(2, 4)


def rewritten(module):
    """Give a copy of a module with a rewritten forward in which nothing is edited."""
    module = copy.deepcopy(module)
    cls = rewritten_class(type(module), ())
    rewrite_of(cls).prepare(module)
    module.__class__ = cls
    return module


def same(one, other):
    """Say whether two outputs are equal in type, structure and bits."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return (
            type(one) is type(other) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
        )
    if isinstance(one, (tuple, list)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and same(vars(one), vars(other))
    return one == other


class Layer(nn.Module):
    """One Linear, and whatever a case adds."""

    def __init__(self, **given):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        for name, value in given.items():
            setattr(self, name, value)


class Variadic(Layer):
    def forward(self, x, *args, scale=1.0, **kwargs):
        x = self.fc(x) * scale + sum(args)
        for name, value in kwargs.items():
            x = x + len(name) * value
        return x
