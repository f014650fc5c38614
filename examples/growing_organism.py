"""Let a model grow by itself: digits whose look changes twice, learned one after the other.

The model is never told when the data change. Outputs that turn unsure make it grow a branch, and from then
on the branch alone learns, so that what was learned before is kept.
"""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.organism import GrowthCallback, GrowthConfig, probe_expert_affinity
from bioconvert.report.organism import print_organism

STEPS, CAP = 300, 70_000
torch.manual_seed(0)

data = load_digits()
pictures, labels = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
chance = torch.randperm(len(labels))
train, test = chance[:1350], chance[1350:]
shuffled = torch.randperm(64)
LOOKS = {
    "as they are": lambda x: x,
    "negatives": lambda x: 1 - x,
    "shuffled": lambda x: x[:, shuffled],
}

model = nn.Sequential()
model.features = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
model.head = nn.Linear(64, 10)

# 1. Both parts become nodes, so that a lock holds both; the first one is what grows.
bc.convert(model, {"version": 1, "rules": [{"match": {"path": ["features", "head"]}, "wrap": {}}]})
organism = bc.Organism(model)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
config = GrowthConfig(
    trigger="entropy",
    node="features",
    lock=True,
    max_param_count=CAP,
    entropy_spike_factor=2.0,
    check_every=1,
)
callback = GrowthCallback(organism, optimizer, config)


def accuracy(look, tag):
    """Measure on held-out digits of one look, with the branch of one tag."""
    organism.route(tag)
    with torch.no_grad():
        guess = model(LOOKS[look](pictures[test])).argmax(1)
    return (guess == labels[test]).float().mean().item()


# 2. An ordinary loop, with one call of ours after each step.
learner, learned = "general", {}
for step in range(STEPS * len(LOOKS)):
    look = list(LOOKS)[step // STEPS]
    chosen = train[torch.randint(len(train), (64,))]
    outputs = model(LOOKS[look](pictures[chosen]))
    loss = F.cross_entropy(outputs, labels[chosen])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    born = callback(loss=loss, outputs=outputs)
    if born is not None:
        learner = born.tag
        organism.route(learner)
        print(f"step {step}, {step % STEPS + 1} steps after the change: {callback.reason}")
    if step % STEPS == STEPS - 1:
        learned[look] = (learner, accuracy(look, learner))

# 3. A branch that never learned anything still has a closed gate: it is dead, and pruned.
organism.grow("features", tag="spare")
for row in organism.status():
    if row["gate"] is not None and abs(row["gate"]) < 0.01:
        organism.prune(row["id"])

# 4. What is known now of each look: by the node that learned it, and which node is surest of it.
print(f"\n{'digits':12}  {'learned by':10}  then   now     kept  surest of them")
for look, (tag, then) in learned.items():
    now, surest = accuracy(look, tag), probe_expert_affinity(organism, LOOKS[look](pictures[test])).claimed
    print(f"{look:12}  {tag:10}  {then:.1%}  {now:.1%}  {now / then:6.1%}  {surest}")
print(f"parameters: {sum(p.numel() for p in model.parameters()):,} of at most {CAP:,}\n")
organism.route()
print_organism(organism)
path = Path(tempfile.gettempdir()) / "growing_organism.svg"
organism.timeline(path)
print(f"\ntimeline: {path}")
