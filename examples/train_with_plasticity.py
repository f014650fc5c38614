"""Give the weights of a model plasticity: by a rule set and the optimizer, or by calls in a training loop."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

import bioconvert as bc

torch.manual_seed(0)
x = torch.randn(256, 10)
target = (x[:, 0] * x[:, 1] > 0).long()
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 2))
familiar, alone = copy.deepcopy(model), copy.deepcopy(model)

# 1. Attach what the rule set says, and let the optimizer's own steps drive it. Nothing in the loop changes.
outputs = model(x)
bc.convert(model, "plastic")
print(f"equal outputs: {torch.equal(model(x), outputs)}")
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
bc.Plasticity(model).bind(optimizer)
for _ in range(200):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), target)
    loss.backward()
    optimizer.step()
print(f"bound to the optimizer, loss: {loss.item():.3f}")

# 2. Or call the mechanisms yourself, between backward() and step().
bc.BioConverter(fuzzy_lr_distribution="lognormal", dampening_factor=0.9)(familiar)
optimizer = torch.optim.Adam(familiar.parameters(), lr=1e-2)
for step in range(200):
    optimizer.zero_grad()
    loss = F.cross_entropy(familiar(x), target)
    loss.backward()
    familiar.fuzzy_learning_rates()
    familiar.crystallize()
    optimizer.step()
    if step % 100 == 99:
        familiar.rejuvenate_weights()
print(f"called in the loop, loss: {loss.item():.3f}")

# Under Adam, too, each weight moves by its rate times what it would have moved by alone.
bc.BioConverter()(rated := copy.deepcopy(alone))
for each in (rated, alone):
    F.cross_entropy(each(x), target).backward()
rated.fuzzy_learning_rates()
start = alone[0].weight.detach().clone()
for each in (rated, alone):
    torch.optim.Adam(each.parameters(), lr=1e-2).step()
ratio = (rated[0].weight - start) / (alone[0].weight - start)
print(f"moved, in units of alone: {[round(each, 2) for each in ratio[0, :4].tolist()]}")
print(f"rates:                    {[round(each, 2) for each in rated[0].fuzzy_lr_rate[0, :4].tolist()]}")
