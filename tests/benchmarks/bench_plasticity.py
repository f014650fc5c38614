"""Mechanisms of plasticity around an optimizer's step, on ResNet-18, against Bio Transformations."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

import bioconvert as bc
from bioconvert.checkpoint.architectures.torchvision_ops import import_torchvision

from .harness import Bar, Contender, Figure, Result, Timing, alternate, installed

SECONDS = 40.0
OURS, PEER = "bioconvert", "bio_transformations"
RATES = ("fuzzy_lr", "crystallize")
WITH_VOLUME = (*RATES, {"volume_lr": {"law": "reference"}})
COMPACT = ({"fuzzy_lr": {"storage": "compact"}}, {"crystallize": {"storage": "compact"}})
FUZZY_AND_CRYSTALLIZE, STRETCH = Bar("<=", 3.0), 2.0
VOLUME = Bar("<=", 1.3)
REJUVENATION = Bar("<=", 100.0)
REJUVENATION_BESIDE_PEER = Bar(">=", 3.0)
STEP_BESIDE_PEER = Bar(">=", 5.0)
ATTACH_BESIDE_PEER = Bar(">=", 2.0)
MEMORY = Bar("<=", 1.0)
GRADIENT = 1e-3
"""The deviation of gradients, beside weights of about 0.02."""
REPLACED = 8.0
"""How fast the chance to be replaced falls with a weight's size, of both."""


@dataclass(frozen=True)
class Trained:
    """A model with gradients, and what steps it."""

    model: nn.Module
    optimizer: Optimizer
    plasticity: bc.Plasticity | None = None


def run(*, quick: bool = False) -> Result:
    """Time steps with and without mechanisms, rejuvenation and attaching; count what is kept."""
    logging.getLogger("bioconvert").setLevel(logging.ERROR)
    has_peer = installed(PEER)
    steps = alternate("step", _steps(has_peer), budget=SECONDS, quick=quick)
    renewal = alternate("rejuvenate", _renewals(has_peer), budget=SECONDS / 2, quick=quick)
    attaching = alternate("attach", _attachings(has_peer), budget=SECONDS / 2, quick=quick)
    figures = [*_step_figures(steps), *_renewal_figures(renewal), *_memory()]
    if has_peer:
        figures += _peer_figures(steps, renewal, attaching)
    timings = (*steps.values(), *renewal.values(), *attaching.values())
    notes = [
        "Ratios are of the least times: on a busy machine these are the ones that say what the work takes.",
        "A step is the optimizer's with everything that was called for it, on gradients that are there.",
    ]
    missing = [] if has_peer else [f"{PEER} is not installed: left out."]
    return Result("plasticity", timings, tuple(figures), (*notes, *missing))


def _resnet() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = import_torchvision().models.resnet18()
    return model


def _again(make: Callable[[], Trained]) -> Callable[[], Trained]:
    """Make it once, and give it new gradients each time: mechanisms shrink those that they were given."""
    made: list[Trained] = []

    def prepare() -> Trained:
        if not made:
            made.append(make())
        generator = torch.Generator().manual_seed(0)
        for parameter in made[0].model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.grad = drawn.mul_(GRADIENT)
        return made[0]

    return prepare


def _momentum(model: nn.Module) -> Optimizer:
    # Without a learning rate steps don't wear the weights out; they take the same time.
    return SGD(model.parameters(), lr=1e-6, momentum=0.9)


def _adam(model: nn.Module) -> Optimizer:
    return Adam(model.parameters(), lr=1e-9)


def _rules(mechanisms: Sequence[Any]) -> dict[str, Any]:
    rule = {"match": {"type": ["linear", "conv"]}, "attach": list(mechanisms)}
    return {"version": 1, "rules": [rule]}


def _bound(mechanisms: Sequence[Any], make: Callable[[nn.Module], Optimizer]) -> Callable[[], Trained]:
    def prepare() -> Trained:
        model = bc.convert(_resnet(), _rules(mechanisms))
        optimizer = make(model)
        return Trained(model, optimizer, bc.Plasticity(model).bind(optimizer))

    return _again(prepare)


def _plain(make: Callable[[nn.Module], Optimizer]) -> Callable[[], Trained]:
    def prepare() -> Trained:
        model = _resnet()
        return Trained(model, make(model))

    return _again(prepare)


def _of_peer(make: Callable[[nn.Module], Optimizer]) -> Callable[[], Trained]:
    def prepare() -> Trained:
        model = _peer_convert(_resnet())
        return Trained(model, make(model))

    return _again(prepare)


def _peer_convert(model: nn.Module) -> nn.Module:
    from bio_transformations import BioConverter

    converted: nn.Module = BioConverter()(model)
    return converted


def _step(trained: Trained) -> None:
    trained.optimizer.step()


def _peer_step(*methods: str) -> Callable[[Trained], None]:
    def step(trained: Trained) -> None:
        for method in methods:
            getattr(trained.model, method)()
        trained.optimizer.step()

    return step


def _steps(has_peer: bool) -> list[Contender]:
    found = [
        Contender("SGD, momentum", _step, _plain(_momentum), fresh=True),
        Contender("Adam", _step, _plain(_adam), fresh=True),
        Contender("normal_ over all weights", _draw, lambda: list(_resnet().parameters())),
        Contender("SGD: fuzzy, crystallize", _step, _bound(RATES, _momentum), fresh=True),
        Contender("SGD: the same, compact", _step, _bound(COMPACT, _momentum), fresh=True),
        Contender("SGD: and volume", _step, _bound(WITH_VOLUME, _momentum), fresh=True),
        Contender("Adam: and volume", _step, _bound(WITH_VOLUME, _adam), fresh=True),
    ]
    if has_peer:
        calls = ("volume_dependent_lr", "fuzzy_learning_rates", "crystallize")
        found += [
            Contender(f"{PEER}: SGD, two", _peer_step(*calls[1:]), _of_peer(_momentum), fresh=True),
            Contender(f"{PEER}: SGD, three", _peer_step(*calls), _of_peer(_momentum), fresh=True),
        ]
    return found


@torch.no_grad()
def _draw(parameters: list[torch.Tensor]) -> None:
    for parameter in parameters:
        parameter.normal_()


def _renewals(has_peer: bool) -> list[Contender]:
    def ours() -> nn.Module:
        return bc.BioConverter(rejuvenation_parameter_dre=REPLACED)(_resnet())

    def renew(model: nn.Module) -> None:
        model.rejuvenate_weights()

    found = [Contender(OURS, renew, ours, fresh=True)]
    if has_peer:
        found.append(Contender(PEER, renew, lambda: _peer_convert(_resnet()), fresh=True))
    return found


def _attachings(has_peer: bool) -> list[Contender]:
    def attach(model: nn.Module) -> nn.Module:
        return bc.convert(model, _rules(["fuzzy_lr"]))

    found = [
        Contender(f"{OURS}: fuzzy_lr", attach, _resnet, fresh=True),
        Contender(f"{OURS}: BioConverter", lambda model: bc.BioConverter()(model), _resnet, fresh=True),
    ]
    if has_peer:
        found.append(Contender(PEER, _peer_convert, _resnet, fresh=True))
    return found


def _least(timings: dict[str, Timing], name: str) -> float:
    return min(timings[name].seconds)


def _step_figures(steps: dict[str, Timing]) -> list[Figure]:
    momentum = _least(steps, "SGD, momentum")
    floor = _least(steps, "Adam") + _least(steps, "normal_ over all weights")

    def added(name: str, optimizer: str) -> float:
        return _least(steps, name) - _least(steps, optimizer)

    rates = added("SGD: fuzzy, crystallize", "SGD, momentum")
    compact = added("SGD: the same, compact", "SGD, momentum")
    volume = added("SGD: and volume", "SGD, momentum")
    on_update = added("Adam: and volume", "Adam")
    of_momentum, of_floor = "/ SGD-momentum step", "/ (Adam step + normal_)"
    return [
        Figure(f"fuzzy + crystallize {of_momentum}", rates / momentum, "x", FUZZY_AND_CRYSTALLIZE),
        Figure(f"the same, compact {of_momentum}", compact / momentum, "x"),
        Figure(f"with volume {of_floor}", volume / floor, "x", VOLUME),
        Figure(f"with volume, on Adam's update {of_floor}", on_update / floor, "x"),
    ]


def _renewal_figures(renewal: dict[str, Timing]) -> list[Figure]:
    return [Figure("rejuvenate", _least(renewal, OURS) * 1e3, "ms", REJUVENATION)]


def _memory() -> list[Figure]:
    """What the compact rates take, beside the weights."""
    model = bc.convert(_resnet(), _rules(COMPACT[:1]))
    kept = sum(b.nbytes for name, b in model.named_buffers() if "fuzzy_lr" in name)
    weights = sum(synapses.weight.numel() for synapses in bc.Plasticity(model).synapses)
    return [Figure("compact fuzzy rates, bytes kept", kept / weights, "a weight", MEMORY)]


def _peer_figures(
    steps: dict[str, Timing], renewal: dict[str, Timing], attaching: dict[str, Timing]
) -> list[Figure]:
    two = _least(steps, f"{PEER}: SGD, two") / _least(steps, "SGD: fuzzy, crystallize")
    three = _least(steps, f"{PEER}: SGD, three") / _least(steps, "SGD: and volume")
    renewing = _least(renewal, PEER) / _least(renewal, OURS)
    rates = _least(attaching, PEER) / _least(attaching, f"{OURS}: fuzzy_lr")
    converter = _least(attaching, PEER) / _least(attaching, f"{OURS}: BioConverter")
    return [
        Figure(f"step: {PEER} / ours, fuzzy + crystallize", two, "x", STEP_BESIDE_PEER),
        Figure(f"step: {PEER} / ours, and volume", three, "x", STEP_BESIDE_PEER),
        Figure(f"rejuvenate: {PEER} / ours", renewing, "x", REJUVENATION_BESIDE_PEER),
        Figure(f"attach: {PEER} / ours, fuzzy rates", rates, "x", ATTACH_BESIDE_PEER),
        Figure(f"attach: {PEER} / ours, BioConverter", converter, "x"),
    ]
