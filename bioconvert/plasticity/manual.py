"""The methods of a model whose training loop calls the mechanisms itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.plasticity.calls import call, forget, moment_of, synapses_of
from bioconvert.plasticity.fuzzy_lr import FuzzyRates
from bioconvert.plasticity.l1 import l1_penalty
from bioconvert.plasticity.rejuvenate import Rejuvenate


class ManualPlasticity(nn.Module):
    """A model whose training loop calls the mechanisms of plasticity itself.

    A call between ``backward()`` and the ``step()`` of whichever optimizer holds the weights acts around that
    step: on the gradient for plain SGD, and on the update that an adaptive optimizer makes, which would
    divide a factor of the gradient out again. Called twice before a step, a mechanism acts once. Each is as
    it was attached, whatever its schedule says; where it wasn't, it has its defaults, and what it keeps of a
    weight is no part of the ``state_dict``. ``rejuvenate_weights`` and ``enforce_dales_principle`` change
    weights at once. The number of steps done is in the ``state_dict``, so that random numbers go on.

    A training loop with none of these calls has them made by :class:`~bioconvert.Plasticity`.
    """

    keeps_name: ClassVar[bool] = True

    def fuzzy_learning_rates(self) -> None:
        """Let each weight's next update be multiplied by its rate: ``fuzzy_lr``."""
        call(self, "fuzzy_lr")

    def volume_dependent_lr(self) -> None:
        """Let the next update depend on the size of weights, and on chance: ``volume_lr``."""
        call(self, "volume_lr")

    def crystallize(self) -> None:
        """Slow down weights that settle, from the next step on: ``crystallize``."""
        call(self, "crystallize")

    def scale_grad(self) -> None:
        """Let units share the next update evenly: ``synaptic_scaling`` by ``scope: gradient``."""
        call(self, "synaptic_scaling")

    def update_fuzzy_learning_rates(self, x: Any = None) -> None:
        """Bring fuzzy rates that vary with time up to date.

        Rates by ``activity`` need to see the model at work; those by ``temporal`` go by the number of steps.

        Args:
            x: what the model is called with: a tensor, a tuple of positional or a dict of keyword arguments.
                In eval mode nothing is noted.

        Raises:
            OptionError: rates go by activity, and there is no ``x``.
        """
        watching = [
            (each, mechanism)
            for each in synapses_of(self, "fuzzy_lr")
            for mechanism in each.mechanisms
            if isinstance(mechanism, FuzzyRates) and mechanism.distribution == "activity"
        ]
        if not watching:
            return
        if x is None:
            raise OptionError("fuzzy rates by activity need to see what the model does: give an input `x`")
        handles = [handle for each, mechanism in watching for handle in mechanism.watch(each)]
        try:
            with _as_it_was(self), torch.enable_grad():
                _run(self, x)
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def rejuvenate_weights(self) -> None:
        """Replace weights that are of little use, now: ``rejuvenate``.

        Raises:
            OptionError: it is attached by a law that replaces units, whose activity wasn't seen; or a weight
                isn't finite.
        """
        for each in synapses_of(self, "rejuvenate"):
            for mechanism in each.mechanisms:
                if isinstance(mechanism, Rejuvenate) and mechanism.by_unit:
                    raise OptionError(
                        f"the law {mechanism.law} replaces units by what they did while training: let "
                        "bc.Plasticity(model).bind(optimizer) call it"
                    )
                mechanism.change(each, moment_of(self, each))

    @torch.no_grad()
    def enforce_dales_principle(self) -> None:
        """Set weights of the wrong sign to zero, now: ``dale``."""
        for each in synapses_of(self, "dale"):
            for mechanism in each.mechanisms:
                mechanism.change(each, moment_of(self, each))

    def leave(self, *, for_good: bool) -> None:
        """Take along what mechanisms know of weights that they aren't attached to."""
        if for_good:
            forget(self)

    def l1_reg(self) -> torch.Tensor:
        """Give the sum of the sizes of all weights, to go into the loss: :func:`~.l1.l1_penalty`."""
        return l1_penalty(self)


def _run(model: nn.Module, x: Any) -> None:
    if isinstance(x, dict):
        model(**x)
    else:
        model(*(x if isinstance(x, tuple) else (x,)))


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Let a call of the model leave no trace in random state and statistics, but in what mechanisms keep."""
    statistics = {
        name: tensor.clone() for name, tensor in model.named_buffers() if "fuzzy_lr_firing" not in name
    }
    with torch.random.fork_rng():
        yield
    present = dict(model.named_buffers())
    with torch.no_grad():
        for name, value in statistics.items():
            present[name].copy_(value)
