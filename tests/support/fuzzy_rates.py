"""Layers with fuzzy learning rates, and what a step makes of them."""

import torch
from torch import nn

import bioconvert as bc


def fuzzy(model, seed=0, match=None, **options):
    """Attach the mechanism, and say in what the rates are kept."""
    rules = {
        "version": 1,
        "rules": [{"match": match or {"type": "linear"}, "attach": [{"fuzzy_lr": options}]}],
    }
    return bc.convert(model, rules, seed=seed)


def linear(rows=200, columns=500):
    """Give a layer with the same weights each time."""
    torch.manual_seed(0)
    return nn.Linear(columns, rows, bias=False)


def factors(net, optimizer, weight=None):
    """Give what a step of size 1 is multiplied by, for each weight."""
    weight = net.weight if weight is None else weight
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 1.0)
    optimizer.step()
    return (before - weight.detach()).double()


def bound(net, **how):
    """Give plain SGD with a learning rate of 1, and the plasticity that is bound to it."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    return optimizer, bc.Plasticity(net, **how).bind(optimizer)
