"""What mechanisms report of themselves to the history."""

import torch
from torch import nn

import bioconvert as bc


def trained(*mechanisms, steps=3):
    """Give the plasticity of a small network that was trained for some steps."""
    torch.manual_seed(0)
    rule = {"match": {"path": "0"}, "attach": list(mechanisms)}
    net = bc.convert(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 2)), {"version": 1, "rules": [rule]})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    plasticity = bc.Plasticity(net, history=1).bind(optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(16, 8)).square().mean().backward()
        optimizer.step()
    return net, plasticity


def last(plasticity):
    """Give the latest numbers of the first weight."""
    return plasticity.history.notes[-1].numbers


def test_rates():
    """The mean rate is that of the buffer."""
    net, plasticity = trained({"fuzzy_lr": {"nu": 0.4}})
    assert last(plasticity)["fuzzy_lr mean rate"] == float(net[0].fuzzy_lr_rate.double().mean())


def test_crystals():
    """A weight whose rate has fallen below a tenth counts as crystallized."""
    _, plasticity = trained({"crystallize": {"threshold": 1e9, "damping": 0.3}})
    assert last(plasticity)["crystallize crystal"] == 1
    _, plasticity = trained({"crystallize": {"threshold": 0.0}})
    assert last(plasticity)["crystallize crystal"] == 0


def test_violations():
    """Signs are never wrong after a step, and are when someone sets them so."""
    net, plasticity = trained("dale")
    assert last(plasticity)["dale violations"] == 0
    with torch.no_grad():
        net[0].weight.neg_()
    mechanism = plasticity.synapses[0].mechanisms[0]
    assert mechanism.report(plasticity.synapses[0])["violations"] > 0.4


def test_replaced():
    """Replacements are counted."""
    _, plasticity = trained({"rejuvenate": {"every": 1, "d_re": 1e-6}})
    assert last(plasticity)["rejuvenate replaced"] == 3 * 48
