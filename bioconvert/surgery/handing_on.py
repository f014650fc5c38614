r"""Handing a layer's scale and offset on to the linear layer behind it.

.. math::
    W (\alpha \odot q + o) + b = (W \operatorname{diag}(\alpha)) \, q + (W o + b)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from bioconvert.core.change import Change, Old, TensorRecipe
from bioconvert.core.errors import Refused
from bioconvert.core.random import Stream
from bioconvert.graph.trace import Untraceable
from bioconvert.graph.walk import Mismatch
from bioconvert.replacements.normalisation import is_transposed
from bioconvert.ruleset import Link, Rule
from bioconvert.surgery.chain import LayerChain
from bioconvert.surgery.look import Look, class_refusal

_LINEAR = Link(alternatives=("Linear", "Conv1D"))


def receiver_behind(module: nn.Module, rule: Rule, chain: LayerChain, look: Look) -> nn.Module:
    """Give the linear layer that takes a layer's output as it is, once what goes with the layer is gone.

    Raises:
        Refused: there is none, or others have a use for its weight or for its work.
    """
    if chain.keeps_something:
        raise Refused("scale and offset can't be handed on: what follows the layer stays in between")
    try:
        following = look.graphs.following(module, (*rule.match.followed_by, _LINEAR))
    except (Mismatch, Untraceable) as reason:
        raise Refused(f"scale and offset can't be handed on to a Linear: {reason}") from reason
    found = {found.hits[-1].module: found.hits[-1].container for found in following.chains}
    receiver, container = next(iter(found.items()))
    if len(found) > 1 or receiver is None:
        raise Refused("scale and offset can't be handed on: several layers take the output")
    here = {found.hits[-1].node for found in following.chains}
    shared = any(node not in here for node in look.graphs.all_calls(container, receiver))
    weight = receiver._parameters.get("weight")
    if shared or weight is None or len(look.owners.get(id(weight), ())) > 1:
        raise Refused("scale and offset can't be handed on: the Linear behind has other work, too")
    if (refusal := class_refusal(receiver, look)) is not None:
        raise Refused(f"scale and offset can't be handed on: {refusal}")
    return receiver


def handed_on(receiver: nn.Module, scale: torch.Tensor, offset: torch.Tensor) -> Change:
    """Say what becomes of a linear layer that takes over a scale and an offset of its inputs.

    Args:
        receiver: a Linear, or transformers' ``Conv1D``.
        scale: :math:`\\alpha`, one for each input.
        offset: :math:`o`, likewise.
    """
    transposed = is_transposed(receiver)

    def scaled(old: Old, stream: Stream) -> torch.Tensor:  # noqa: ARG001 - one signature for all recipes
        weight = old["weight"].double()
        by_input = scale.to(weight)
        return weight * (by_input[:, None] if transposed else by_input)

    def shift(old: Old) -> torch.Tensor:
        weight = old["weight"].double()
        by_input = offset.to(weight)
        return by_input @ weight if transposed else weight @ by_input

    def shifted(old: Old, stream: Stream) -> torch.Tensor:  # noqa: ARG001
        return old["bias"].double() + shift(old)

    def shift_alone(old: Old, stream: Stream) -> torch.Tensor:  # noqa: ARG001
        return shift(old)

    by_weight: Mapping[str, TensorRecipe] = {"weight": TensorRecipe(scaled)}
    summary = "takes over scale and offset"
    if receiver._parameters.get("bias") is None:
        return Change(adds={"bias": TensorRecipe(shift_alone)}, overwrites=by_weight, summary=summary)
    by_bias = {"bias": TensorRecipe(shifted, reads=("weight", "bias"), like="bias")}
    return Change(overwrites={**by_weight, **by_bias}, summary=summary)
