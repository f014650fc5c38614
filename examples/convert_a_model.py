"""Convert a model in memory, look at what happened, train on, and take it back."""

import torch
from torch import nn

import bioconvert as bc

torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(16, 32),
    nn.ReLU(),
    nn.Linear(32, 32),
    nn.ReLU(),
    nn.Linear(32, 4),
)
optimizer = torch.optim.Adam(model.parameters())
inputs = (torch.randn(64, 16),)

# What would change, and why the rest would not. Nothing has happened yet.
print(bc.plan(model, "yat", example_inputs=inputs))

# The same object comes back, changed in place. With example inputs the new layers start close to the old
# ones; with the optimizer, their new parameters are trained too.
bc.convert(model, "yat", example_inputs=inputs, optimizer=optimizer)
print(model)

# How far the outputs moved: each replaced layer, and the whole model.
print(bc.drift(model, example_inputs=inputs))

# Train on as before.
targets = torch.randint(0, 4, (64,))
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(*inputs), targets)
    loss.backward()
    optimizer.step()
print(f"loss after 20 steps: {loss.item():.3f}")

# The original classes back, on the very same objects.
bc.revert(model)
print(type(model[0]).__name__)
