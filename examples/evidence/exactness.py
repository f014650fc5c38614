"""Is a model bit for bit what it was, right after a conversion that promises so?

Set-up: a multilayer perceptron, a convolutional network with batch normalisation, one with residual branches
and a transformer's encoder layer, each in training and in evaluation, converted in four ways: with ``morph``
at step 0, with dynamic layers at gate 0, with mechanisms of plasticity attached, and with blocks wrapped as
nodes that grow a branch each. After ten further steps of morphing, or with the gates open, they must differ,
or nothing was converted.

Bar: outputs and gradients with regard to the input ``torch.equal`` for all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

import bioconvert as bc

from .harness.findings import Bar, Finding, Settings

SEEDS = 1
_MORPH = {"activation": "drop", "morph": {"steps": 20}}
MORPHING = {
    "version": 1,
    "rules": [
        {
            "match": {"type": "Linear", "followed_by": "ReLU|GELU"},
            "replace": {"with": "YatLinear", **_MORPH},
            "optional": True,
        },
        {
            "match": {"type": "Conv2d", "followed_by": ["BatchNorm2d?", "ReLU"]},
            "replace": {"with": "YatConv2d", **_MORPH},
            "optional": True,
        },
    ],
}


ATTACHED = {
    "version": 1,
    "rules": [
        {
            "match": {"type": ["linear", "conv"]},
            "attach": [{"fuzzy_lr": {}}, {"crystallize": {}}, {"rejuvenate": {}}, {"synaptic_scaling": {}}],
        }
    ],
}
WRAPPED = {"version": 1, "rules": [{"match": {"path": "*"}, "wrap": {"tag": "general"}}]}


class Residual(nn.Module):
    """Two convolutions whose input is added to what they give."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        """Give x and the branch."""
        return x + self.second(self.first(x).relu())


class Feedforward(nn.Module):
    """A block of a transformer: attention, and two linear layers around a GELU."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.branch = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))

    def forward(self, x):
        """Attend, then apply the branch."""
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.branch(x)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron": (
        lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 4)),
        (16, 8),
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, groups=2),
            nn.ReLU(),
        ),
        (4, 3, 10, 10),
    ),
    "residual": (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), Residual(), Residual()), (4, 3, 10, 10)),
    "transformer": (Feedforward, (4, 6, 16)),
}


def run(settings: Settings) -> list[Finding]:
    """Convert each model and compare."""
    findings = []
    for way in WAYS:
        for name in MODELS:
            pairs = [_compared(name, way, seed) for seed in settings.each_seed]
            same, moved = zip(*pairs, strict=True)
            findings.append(Finding(f"{name}, {way}: equal at first", same, Bar("=", 1)))
            if WAYS[way] is not _attach:
                findings.append(Finding(f"{name}, {way}: differs later", moved, Bar("=", 1)))
    return findings


def _compared(name: str, way: str, seed: int) -> tuple[float, float]:
    """Say whether the model is the same at first, and whether it differs later."""
    make, shape = MODELS[name]
    torch.manual_seed(seed)
    model, x = make(), torch.randn(shape)
    before = _results(model, x)
    proceed = WAYS[way](model)
    after = _results(model, x)
    same = all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    proceed()
    return float(same), float(not torch.equal(before[0], _results(model, x)[0]))


def _morph(model: nn.Module) -> Callable[[], None]:
    """Convert with ``morph``; what follows are ten steps."""
    bc.convert(model, MORPHING)

    def proceed() -> None:
        for _ in range(10):
            bc.morph_step(model)

    return proceed


def _dynamic(model: nn.Module) -> Callable[[], None]:
    """Convert every layer but the first convolution and the last linear layer; then its gate opens."""
    bc.convert(model, "dynamic")
    return lambda: _open_gates(model)


def _attach(model: nn.Module) -> Callable[[], None]:
    """Attach mechanisms, which act when the model is trained."""
    bc.convert(model, ATTACHED)
    return lambda: None


def _grow(model: nn.Module) -> Callable[[], None]:
    """Wrap each child and let it grow a branch; then the branch's gate opens."""
    bc.convert(model, WRAPPED)
    organism = bc.Organism(model)
    for node in organism.nodes():
        organism.grow(node)
    return lambda: _open_gates(model)


def _open_gates(model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2] == "gate":
                parameter.fill_(0.5)


WAYS: dict[str, Callable[[nn.Module], Callable[[], None]]] = {
    "morph": _morph,
    "dynamic": _dynamic,
    "attached": _attach,
    "grown": _grow,
}


def _results(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Give outputs in evaluation and in training, and the gradient with regard to the input."""
    model = copy.deepcopy(model)  # training moves the statistics of normalisations
    given = x.clone().requires_grad_()
    model.eval()
    outputs = [model(given)]
    model.train()
    outputs.append(model(given))
    outputs[-1].square().sum().backward()
    return [*(output.detach() for output in outputs), given.grad]
