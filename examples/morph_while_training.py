"""Let a trained network go over to Yat layers while it is trained on, without a jump in its loss."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

import bioconvert as bc

STEPS = 200
RULES = {
    "version": 1,
    "rules": [
        {
            "match": {"type": "Linear", "followed_by": "ReLU"},
            "replace": {"with": "YatLinear", "activation": "drop", "morph": {"steps": STEPS}},
        }
    ],
}

torch.manual_seed(0)
x = torch.rand(512, 2) * 4 - 2
target = ((x.square().sum(1) > 1) ^ (x[:, 0] > x[:, 1])).long()


def accuracy(model):
    """Give the share of points that are classified right."""
    return (model(x).argmax(1) == target).float().mean().item()


def train(model, steps, after_step=lambda: None):
    """Train a model, and call a function after each step of the optimizer."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), target).backward()
        optimizer.step()
        after_step()


model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
train(model, 300)
print(f"trained:                     {accuracy(model):.3f}")

# At once, and without data to fit the new layers to, what was learnt is lost.
at_once = copy.deepcopy(RULES)
del at_once["rules"][0]["replace"]["morph"]
print(f"converted at once:           {accuracy(bc.convert(copy.deepcopy(model), at_once)):.3f}")

# Gradually: at step 0 the model is the original, bit for bit.
before = model(x)
bc.convert(model, RULES)
print(f"at step 0 equal outputs:     {torch.equal(model(x), before)}")

# (1 - λ)·original + λ·replacement, λ growing with each call of morph_step.
train(model, STEPS, after_step=lambda: bc.morph_step(model))
print(f"at the end of the way:       {accuracy(model):.3f}")

# The replacements alone; what the originals needed is gone.
bc.finalize(model)
print(f"finalized:                   {accuracy(model):.3f}, {type(model[0]).__name__}, {model[1]}")
