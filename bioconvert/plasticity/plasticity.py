"""The attached mechanisms of a model, driven by the steps of its optimizers."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from bioconvert.core.errors import OptionError
from bioconvert.core.wrappers import innermost
from bioconvert.graph.progress import counter_of
from bioconvert.plasticity.binding import Binding
from bioconvert.plasticity.consolidation import consolidate
from bioconvert.plasticity.history import History
from bioconvert.plasticity.layout import is_dense
from bioconvert.plasticity.synapses import Synapses, synapses_in
from bioconvert.plasticity.watching import forget_copies


class Plasticity:
    """The mechanisms of plasticity that rules attached to a model.

    :meth:`bind` lets them act around each step of an optimizer. Gradient accumulation and clipping need
    nothing: what counts is the optimizer's own step, and one that a scaler leaves out does not. Layers that
    morph go on by the same steps, without :func:`~bioconvert.morph_step`. What the mechanisms know of the
    weights lies in buffers of the model and is saved with it; the number of steps done is in
    :meth:`state_dict`. A weight that has no gradient at a step, as a frozen one, is left alone.

    Weights that the model gets later on, as with a branch that grows, are taken in at the first step of an
    optimizer that got them.

    A copy of the optimizer, by ``deepcopy`` or pickle, has no hooks and steps alone: bind it anew. The same
    goes for one whose weights were put in the place of others since, as ``load_state_dict(assign=True)``,
    ``to_empty`` and ``fully_shard`` do; make optimizers after those.

    Args:
        model: a converted model, wrapped by DDP or a compiler or not.
        seed: decides every random number that is drawn while training.
        history: number of steps after which :attr:`history` takes note of the weights; 0 for never.

    Raises:
        OptionError: no mechanism is attached to the model, and no layer of it morphs.

    Example:
        >>> import torch, bioconvert as bc
        >>> rules = {"version": 1, "rules": [{"match": {"type": "linear"}, "attach": ["fuzzy_lr"]}]}
        >>> model = bc.convert(nn.Linear(4, 2), rules)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> plasticity = Plasticity(model).bind(optimizer)
    """

    def __init__(self, model: nn.Module, *, seed: int = 0, history: int = 0):
        self.model = model
        self.seed = seed
        self.history = History(every=history)
        self._inner = _inside(model)
        self.synapses: list[Synapses] = synapses_in(self._inner, seed)
        self._morphing = _morphing_in(self._inner)
        if not self.synapses and not self._morphing:
            raise OptionError(
                "no mechanism of plasticity is attached to the model: convert it by a rule with `attach:`"
            )
        self._bindings: list[Binding] = []
        self._watching: list[RemovableHandle] = []
        self._done: list[dict[str, Any]] = []

    def bind(self, optimizer: Optimizer) -> Plasticity:
        """Let the mechanisms of an optimizer's parameters act around its steps.

        Args:
            optimizer: any optimizer that evaluates the loss once a step; several may be bound, one after the
                other. Each counts its own steps; a morphing layer goes by those of the first that trains it.

        Returns:
            This object; the optimizer's hooks keep it alive.

        Raises:
            OptionError: the optimizer holds none of the parameters, is bound already, or can't be.
        """
        optimizer = _unwrapped(optimizer)
        self._check(optimizer)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        own = [synapses for synapses in self.synapses if id(synapses.held) in held]
        morphing = self._uncounted(held)
        if not own and not morphing:
            raise OptionError(
                "the optimizer holds none of the weights that mechanisms are attached to: make it from the "
                "converted model's parameters"
            )
        for synapses in own:
            _settle(synapses)
        if not self._bindings:
            self._watch(self.synapses)
        binding = Binding(optimizer, self.synapses, morphing, self._note, self._meet)
        self._bindings.append(binding)
        self._go_on(binding)
        return self

    def consolidate(self, data: Iterable[Any] | None = None) -> None:
        """Say that a task is over: weights that crystallize by importance hold on to what they are now.

        Args:
            data: batches to call the model with: tensors, tuples of positional or dicts of keyword arguments.
                Law ``mas`` needs them, and no other uses them.

        Raises:
            OptionError: no weight crystallizes by importance, nothing was learned yet, ``mas`` has no data,
                or a weight isn't finite.
        """
        consolidate(self.model, self.synapses, data)

    def unbind(self) -> None:
        """Let all optimizers step alone again."""
        self._done = self.state_dict()["optimizers"]
        for binding in self._bindings:
            binding.remove()
        for handle in self._watching:
            handle.remove()
        self._bindings.clear()
        self._watching.clear()

    def state_dict(self) -> dict[str, Any]:
        """Give what isn't in the model's buffers: seed, history, and the steps done by each optimizer."""
        bound = [
            {"steps": binding.steps, "parameters": [synapses.path for synapses in binding.held]}
            for binding in self._bindings
        ]
        # What was loaded for optimizers that aren't bound yet waits for them.
        steps = [*bound, *self._done]
        return {"seed": self.seed, "optimizers": steps, "history": self.history.to_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Optimizers, whether bound before or after, are matched by the names of their parameters.
        """
        self.seed = state["seed"]
        self.history = History.from_dict(state["history"])
        for synapses in self.synapses:
            synapses.seed = self.seed
        self._done = list(state["optimizers"])
        for binding in self._bindings:
            self._go_on(binding)

    def _go_on(self, binding: Binding) -> None:
        """Set the number of steps that an optimizer has done; what was found is not given to another."""
        names = {synapses.path for synapses in binding.held}
        shared = [len(names.intersection(each["parameters"])) for each in self._done]
        if any(shared):
            binding.steps = self._done.pop(shared.index(max(shared)))["steps"]

    def _check(self, optimizer: Optimizer) -> None:
        if isinstance(optimizer, torch.optim.LBFGS):
            raise OptionError(
                "LBFGS evaluates the loss several times a step, so that there is no one gradient that "
                "mechanisms could see: bind an optimizer that steps once for each gradient"
            )
        here = {id(each) for each in (*(s.module for s in self.synapses), *self._morphing)}
        for binding in _bound_to(optimizer):
            there = {id(each) for each in (*(s.module for s in binding.synapses), *binding.morphing)}
            if here & there:
                raise OptionError("this optimizer is bound already: unbind() first")

    def _watch(self, synapses: Iterable[Synapses]) -> None:
        forget_copies(self.model)
        for each in synapses:
            for mechanism in each.mechanisms:
                self._watching += mechanism.watch(each)

    def _meet(self, binding: Binding) -> None:
        """Take in the weights that the model got since, as with a branch, and let go of those that went."""
        found = synapses_in(self._inner, self.seed)
        known = {id(synapses.held): synapses for synapses in self.synapses}
        new = [synapses for synapses in found if id(synapses.held) not in known]
        for synapses in found:
            held = known.get(id(synapses.held), synapses)
            held.index, held.count = synapses.index, synapses.count
        # The bindings share the list.
        self.synapses[:] = [known.get(id(synapses.held), synapses) for synapses in found]
        for synapses in new:
            _settle(synapses)
        self._watch(new)
        self._morphing = _morphing_in(self._inner)
        optimizer = binding.optimizer
        if optimizer is not None:
            trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
            binding.morphing += tuple(self._uncounted(trained))

    def _uncounted(self, held: Container[int]) -> list[nn.Module]:
        """Give the morphing modules with one of some parameters whose steps no optimizer counts yet."""
        counted = {id(module) for binding in self._bindings for module in binding.morphing}
        return [
            module
            for module in self._morphing
            if id(module) not in counted and any(id(p) in held for p in module.parameters())
        ]

    def _note(self, binding: Binding) -> None:
        if self.history.is_due(binding.steps):
            self.history.note(binding.steps, binding.held)


def _morphing_in(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if counter_of(module) is not None]


def _inside(model: nn.Module) -> nn.Module:
    """Give the model in its wrappers: names, and random numbers with them, are those of the model alone."""
    inner, wrapper = innermost(model, past_counted=True)
    if wrapper is not None:
        raise OptionError(
            f"the model is {wrapper.said}, in which weights are no longer what they were: mechanisms of "
            "plasticity work in a plain one, under DistributedDataParallel, and with fully_shard"
        )
    assert isinstance(inner, nn.Module)
    return inner


def _unwrapped(optimizer: Optimizer) -> Optimizer:
    """Give the optimizer that does the steps, where accelerate or Lightning put another in front of it."""
    inner = getattr(optimizer, "optimizer", None)
    return _unwrapped(inner) if isinstance(inner, Optimizer) else optimizer


def _bound_to(optimizer: Optimizer) -> list[Binding]:
    """Give what is bound to an optimizer, by whomever."""
    owners = (getattr(hook, "__self__", None) for hook in optimizer._optimizer_step_pre_hooks.values())
    return [owner for owner in owners if isinstance(owner, Binding)]


def _settle(synapses: Synapses) -> None:
    """Let what is kept of a weight lie as the weight does, from now on."""
    if not is_dense(synapses.weight):
        raise OptionError(
            f"{synapses.path!r} is a view with gaps in memory: mechanisms work on weights that have memory "
            "of their own, as .clone() gives it"
        )
    for mechanism in synapses.mechanisms:
        for key in mechanism.tensors(synapses.parameter):
            synapses.tensor(mechanism, key)
