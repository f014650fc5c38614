"""How a model with a mechanism of the table is converted, trained, copied and compared."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from typing import Any

import torch
from mechanism_table import LAYERS, OPTIMIZERS, Case, made, rules
from torch import nn

import bioconvert as bc


@dataclass
class Run:
    """A model in training.

    Args:
        case: the mechanism.
        layer: name of the layer.
        net: the model.
        optimizer: its optimizer.
        plasticity: what is bound to it; ``None`` where the loop calls the mechanisms.
    """

    case: Case
    layer: str
    net: nn.Module
    optimizer: torch.optim.Optimizer
    plasticity: bc.Plasticity | None = None

    def bind(self, seed: int = 3) -> Run:
        """Let the mechanism act from now on."""
        if not self.case.by_hand:
            self.plasticity = bc.Plasticity(self.net, seed=seed).bind(self.optimizer)
        return self

    def step(self, number: int) -> None:
        """Make one step; which one decides the data."""
        self.find_gradients(number)
        if self.case.by_hand:
            call_before(self.net)
        self.optimizer.step()
        if self.case.by_hand:
            self.net.rejuvenate_weights()
            self.net.enforce_dales_principle()

    def plain_step(self, number: int) -> None:
        """Make one step without a call of a mechanism."""
        self.find_gradients(number)
        self.optimizer.step()

    def find_gradients(self, number: int) -> None:
        """Find gradients towards larger outputs, some of them negative."""
        self.optimizer.zero_grad()
        loss_of(self.net(LAYERS[self.layer].input(number))).backward()

    def alone(self) -> Run:
        """Give a copy that nothing is bound to."""
        net, optimizer = copy.deepcopy((self.net, self.optimizer))
        return Run(self.case, self.layer, net, optimizer)

    def state(self) -> dict[str, Any]:
        """Give the whole state, as a file would hold it."""
        states = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.plasticity is not None:
            states["plasticity"] = self.plasticity.state_dict()
        file = io.BytesIO()
        torch.save(states, file)
        file.seek(0)
        found: dict[str, Any] = torch.load(file, weights_only=True)
        return found

    def load(self, state: dict[str, Any]) -> Run:
        """Go on from a state."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.plasticity is not None:
            self.plasticity.load_state_dict(state["plasticity"])
        return self


def started(case: Case, layer: str, optimizer: str = "Adam", schedule: dict[str, int] | None = None) -> Run:
    """Convert a model and bind an optimizer; where it takes data to consolidate, that is done."""
    net = converted(case, layer, schedule)
    run = Run(case, layer, net, OPTIMIZERS[optimizer](net.parameters())).bind()
    if case.options.get("law") == "mas":
        run.plasticity.consolidate([LAYERS[layer].input(99)])
    return run


def converted(case: Case, layer: str, schedule: dict[str, int] | None = None) -> nn.Module:
    """Attach a mechanism to a model, all of whose weights it must take."""
    model = made(layer, case)
    plan = bc.plan(model, rules(case, layer, schedule))
    assert plan.applied
    assert not plan.skipped
    plan.apply()
    return model


def call_before(net: nn.Module) -> None:
    """Call every method by which a loop lets mechanisms act at the next step."""
    net.fuzzy_learning_rates()
    net.volume_dependent_lr()
    net.crystallize()
    net.scale_grad()


def loss_of(y: torch.Tensor) -> torch.Tensor:
    """Give a loss that depends on each output in its own way."""
    return (y * torch.linspace(-60, 60, y.numel()).view(y.shape)).mean()


def same(one: Any, other: Any) -> bool:
    """Say whether two states are equal bit for bit, NaN included."""
    if isinstance(one, torch.Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype
        return alike and torch.equal(_bytes(one), _bytes(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def without(state: dict[str, Any], case: Case) -> dict[str, Any]:
    """Give a state without what a mechanism keeps of forward passes, and of the number of steps."""
    names = tuple(f"{case.mechanism}_{key}" for key in case.seen)
    net = {key: value for key, value in state["net"].items() if not key.rpartition(".")[2].startswith(names)}
    if not names:
        net = state["net"]
    return {"net": net, "optimizer": state["optimizer"]}
