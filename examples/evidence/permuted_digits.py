"""Does a network stay able to learn task after task?

Set-up: 60 tasks one after the other, each the digits, standardised, with the 64 pixels in an order of its
own; a network of 64-100-100-100-10 with ReLU; once through all pictures for each task, 16 a time: 112 steps
of Adam at 3e-3. What counts is the share of pictures told right before they were learnt from, in the first
5 tasks and in the last 15. The laws of `rejuvenate` that work unit by unit look at the hidden units every 8
steps (`continual_backprop`) or once a task (`redo`). Of those that work synapse by synapse, on all layers,
`synapse` acts every 8 steps, the reference's once a task.

Bar: without rejuvenation at least 8 points are lost, with continual backprop and with ReDo at most 4. The
laws by synapse have no bar: `synapse`, which draws small weights anew, loses about half as much as none, and
only when it acts often; the reference's law, which prunes, loses more than none, and its first version, which
puts weights of any size in the place of small ones, ends at chance.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

import bioconvert as bc

from .harness.digits import digits
from .harness.findings import Bar, Finding, Settings

SEEDS = 2
TASKS = 60
QUICK_TASKS = 25
STEPS = 112
BATCH = 16
RATE = 3e-3
FIRST, LAST = 5, 15

_HIDDEN = {"path": "re:[024]"}
_ALL = {"type": "linear"}
LAWS = {
    "none": None,
    "ReDo": (_HIDDEN, {"law": "redo", "every": STEPS}),
    "continual backprop": (_HIDDEN, {"law": "continual_backprop", "every": 8, "rate": 1e-3}),
    "synapse by synapse": (_ALL, {"law": "synapse", "every": 8}),
    "reference": (_ALL, {"law": "reference", "every": STEPS}),
    "reference, first version": (_ALL, {"law": "reference_v1", "every": STEPS}),
}
BARS = {"none": Bar("≥", 8), "ReDo": Bar("≤", 4), "continual backprop": Bar("≤", 4)}


def run(settings: Settings) -> list[Finding]:
    """Train through all tasks with each law and judge what was lost."""
    findings = []
    for name in BARS if settings.quick else LAWS:
        told = [_first_and_last(name, seed, settings.quick) for seed in settings.each_seed]
        lost = [first - last for first, last in told]
        findings += [
            Finding(f"points lost, {name}", lost, BARS.get(name)),
            Finding(f"accuracy of the last tasks, {name}, %", [last for _, last in told]),
        ]
    return findings


def _first_and_last(law: str, seed: int, quick: bool) -> tuple[float, float]:
    tasks = QUICK_TASKS if quick else TASKS
    accuracies = accuracy_by_task(law, seed, tasks)
    last = min(LAST, tasks // 4)
    return sum(accuracies[:FIRST]) / FIRST, sum(accuracies[-last:]) / last


def accuracy_by_task(law: str, seed: int, tasks: int) -> list[float]:
    """Train on one task after the other and give the accuracy in the course of each."""
    data = digits(seed)
    labels = torch.cat([data.labels, data.test_labels])
    inputs = _standardised(torch.cat([data.inputs, data.test_inputs]))
    torch.manual_seed(seed)
    model, optimizer = _bound(law, seed)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(tasks):
        order = torch.randperm(64, generator=generator)
        task = (inputs[:, order], labels)
        found.append(_train(model, optimizer, task, generator))
    return found


def _standardised(inputs: torch.Tensor) -> torch.Tensor:
    """Give each pixel mean 0 and deviation 1; those that hardly ever change are left small."""
    return (inputs - inputs.mean(0)) / inputs.std(0).clamp_min(0.01)


def _bound(law: str, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    sizes = [64, 100, 100, 100]
    hidden = [each for a, b in pairwise(sizes) for each in (nn.Linear(a, b), nn.ReLU())]
    model: nn.Module = nn.Sequential(*hidden, nn.Linear(100, 10))
    chosen = LAWS[law]
    if chosen is not None:
        match, options = chosen
        rule = {"match": match, "attach": [{"rejuvenate": options}]}
        model = bc.convert(model, {"version": 1, "rules": [rule]})
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    if chosen is not None:
        bc.Plasticity(model, seed=seed).bind(optimizer)
    return model, optimizer


def _train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: tuple[torch.Tensor, torch.Tensor],
    generator: torch.Generator,
) -> float:
    """Learn from each picture once, and give the share told right before, in percent."""
    inputs, labels = task
    right = 0
    order = torch.randperm(len(inputs), generator=generator)[: STEPS * BATCH]
    for chosen in order.split(BATCH):
        logits = model(inputs[chosen])
        right += int((logits.detach().argmax(1) == labels[chosen]).sum())
        optimizer.zero_grad()
        F.cross_entropy(logits, labels[chosen]).backward()
        optimizer.step()
    return 100 * right / len(order)
