"""The attached mechanisms of a model, driven by the steps of its optimizers."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from bioconvert.core.errors import OptionError
from bioconvert.plasticity.binding import Binding
from bioconvert.plasticity.synapses import Synapses, synapses_in


class Plasticity:
    """The mechanisms of plasticity that rules attached to a model.

    :meth:`bind` lets them act around each step of an optimizer. Gradient accumulation and clipping need
    nothing: what counts is the optimizer's own step. What the mechanisms know of the weights lies in buffers
    of the model and is saved with it; the number of steps done is in :meth:`state_dict`.

    Args:
        model: a converted model.
        seed: decides every random number that is drawn while training.

    Raises:
        OptionError: no mechanism is attached to the model.

    Example:
        >>> import torch, bioconvert as bc
        >>> rules = {"version": 1, "rules": [{"match": {"type": "linear"}, "attach": ["fuzzy_lr"]}]}
        >>> model = bc.convert(nn.Linear(4, 2), rules)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> plasticity = Plasticity(model).bind(optimizer)
    """

    def __init__(self, model: nn.Module, *, seed: int = 0):
        self.model = model
        self.seed = seed
        self.synapses: list[Synapses] = synapses_in(model, seed)
        if not self.synapses:
            raise OptionError(
                "no mechanism of plasticity is attached to the model: convert it by a rule with `attach:`"
            )
        self._bindings: list[Binding] = []
        self._steps: list[int] = []

    def bind(self, optimizer: Optimizer) -> Plasticity:
        """Let the mechanisms of an optimizer's parameters act around its steps.

        Args:
            optimizer: any optimizer; several may be bound, one after the other.

        Returns:
            This object; the optimizer's hooks keep it alive.

        Raises:
            OptionError: the optimizer holds none of the parameters, or is bound already.
        """
        if any(binding.optimizer is optimizer for binding in self._bindings):
            raise OptionError("this optimizer is bound already: unbind() first")
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        own = [synapses for synapses in self.synapses if id(synapses.weight) in held]
        if not own:
            raise OptionError(
                "the optimizer holds none of the weights that mechanisms are attached to: make it from the "
                "converted model's parameters"
            )
        steps = self._steps[len(self._bindings)] if len(self._bindings) < len(self._steps) else 0
        self._bindings.append(Binding(optimizer, own, steps))
        return self

    def unbind(self) -> None:
        """Let all optimizers step alone again."""
        self._steps = [binding.steps for binding in self._bindings]
        for binding in self._bindings:
            binding.remove()
        self._bindings.clear()

    def state_dict(self) -> dict[str, Any]:
        """Give what isn't in the model's buffers: the seed, and the steps done by each bound optimizer."""
        steps = [binding.steps for binding in self._bindings] or list(self._steps)
        return {"seed": self.seed, "steps": steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave; optimizers are matched in the order of binding."""
        self.seed, self._steps = state["seed"], list(state["steps"])
        for synapses in self.synapses:
            synapses.seed = self.seed
        for binding, steps in zip(self._bindings, self._steps, strict=False):
            binding.steps = steps
