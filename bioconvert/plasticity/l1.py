"""Weights that shrink towards zero and reach it: L1 regularisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bioconvert.core.errors import OptionError
from bioconvert.core.lazy import LazyModule
from bioconvert.plasticity.mechanism import Mechanism, plastic, weights_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bioconvert.plasticity.moment import Moment
    from bioconvert.plasticity.synapses import Synapses
else:
    torch = LazyModule("torch")

_PIECE = 65_536
"""Weights that are looked at together: few enough for the processor's cache."""


@plastic("l1")
@dataclass(frozen=True, kw_only=True)
class L1(Mechanism):
    r"""Shrinks each weight after each step of the optimizer, and stops at zero.

    .. math::
        w \leftarrow \operatorname{sign}(w) \, \max(|w| - \eta \lambda, 0)

    That is the proximal step of the penalty :math:`\lambda \lVert w \rVert_1` at the learning rate
    :math:`\eta`: it gives exact zeros, where a penalty in the loss lets weights swing around zero. An
    adaptive optimizer doesn't rescale it, whose steps are of the size :math:`\eta` whatever the gradient:
    under Adam a strength of 1 is a great one. For a penalty in the loss there is :func:`l1_penalty`.

    Args:
        strength: :math:`\lambda`.
    """

    strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4

    def change(self, synapses: Synapses, moment: Moment) -> None:
        """Shrink the weights."""
        threshold = float(moment.group["lr"]) * self.strength * self.strength_at(moment.step)
        for piece in _flat(synapses.weight).split(_PIECE):  # type: ignore[no-untyped-call]
            piece.copy_(torch.nn.functional.softshrink(piece, threshold))


def _flat(weight: torch.Tensor) -> torch.Tensor:
    from bioconvert.plasticity.layout import flat

    return flat(weight)


def l1_penalty(model: nn.Module) -> torch.Tensor:
    r"""Add up the sizes of all synapses of a model, to go into a loss.

    .. math::
        \sum |w|

    over the parameters of two dimensions or more, each once, however many modules hold it. Biases and scales
    have no part in it, nor have the rates and other buffers of mechanisms.

    Args:
        model: any model.

    Returns:
        A tensor with one element, from which gradients flow to the weights.

    Raises:
        OptionError: the model has no such parameter.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> l1_penalty(layer).backward()
        >>> bool((layer.weight.grad == layer.weight.sign()).all()), layer.bias.grad
        (True, None)
    """
    found = [module._parameters[name] for module in model.modules() for name in weights_of(module)]
    weights = {id(weight): weight for weight in found if weight is not None}
    if not weights:
        raise OptionError("the model has no weights: no parameter of two dimensions or more")
    return torch.stack([weight.abs().sum() for weight in weights.values()]).sum()
