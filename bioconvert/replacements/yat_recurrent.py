"""Recurrent layers and cells become Yat layers and cells on the same weights and biases."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bioconvert import layers
from bioconvert.core.change import Change, Old, Site, TensorRecipe
from bioconvert.core.errors import Refused
from bioconvert.core.registry import replacement
from bioconvert.replacements.added import filled

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bioconvert.core.random import Stream
    from bioconvert.layers.gate_init import GateInit

Positive = Annotated[float, Field(gt=0)]
_KEPT_AS_IS = (
    "weights and biases are kept as they are and the layer computes something else: train it, with "
    "`morph: {steps: N}` gradually, or draw them anew with `init: fresh`"
)


@replacement("YatRNN", of="torch.nn.RNN")
@replacement("YatGRU", of="torch.nn.GRU")
@replacement("YatLSTM", of="torch.nn.LSTM")
@replacement("YatRNNCell", of="torch.nn.RNNCell")
@replacement("YatGRUCell", of="torch.nn.GRUCell")
@replacement("YatLSTMCell", of="torch.nn.LSTMCell")
def yat_recurrent(
    layer: nn.Module,
    site: Site,  # noqa: ARG001 - one signature for all builders
    *,
    alpha: Literal["learnable", "none"] | Positive = "learnable",
    per_unit: bool = False,
    epsilon: Positive = 1.0,
    learnable_epsilon: bool = False,
    init: Literal["keep", "fresh"] = "keep",
) -> Change:
    r"""Turn a recurrent layer or cell into the Yat layer or cell of its kind.

    Args:
        layer: an RNN, GRU or LSTM, or one of their cells.
        site: where it stands.
        alpha: the scale of the Yat products. A learnable one starts such that they are about 1 for inputs of
            unit variance.
        per_unit: whether scale and learnt epsilon are one for each row of the gates.
        epsilon: :math:`\varepsilon`.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, through softplus.
        init: ``"keep"`` leaves weights and biases as they are; ``"fresh"`` draws them as the Yat layer's
            ``reset_parameters`` does.

    Raises:
        Refused: ``init: fresh`` can't be done, because a weight is computed from other parameters.
    """
    options: dict[str, Any] = {
        "alpha": alpha,
        "per_unit": per_unit,
        "epsilon": epsilon,
        "learnable_epsilon": learnable_epsilon,
    }
    into = getattr(layers, f"Yat{_torch_class(type(layer)).__name__}")
    fresh = init == "fresh"
    return Change(
        into=into,
        attributes=layers.gate_attributes(**options),
        adds=_added(layer, options, into.opened if fresh else None),
        overwrites=_redrawn(layer, options, into.opened) if fresh else {},
        summary="drawn anew" if fresh else "",
        warnings=() if fresh else (_KEPT_AS_IS,),
    )


def _torch_class(cls: type[nn.Module]) -> type[nn.Module]:
    return next(ancestor for ancestor in cls.__mro__ if ancestor.__module__.startswith("torch.nn."))


def _added(
    layer: nn.Module, options: Mapping[str, Any], opened: tuple[float, ...] | None
) -> dict[str, TensorRecipe]:
    """Give the recipes of alpha and epsilon.

    Args:
        layer: the layer.
        options: the options of the Yat layer.
        opened: how far the gates are to be open, where weights are drawn anew; ``None`` where they stay.
    """
    found: dict[str, TensorRecipe] = {}
    for suffix in layers.gate_suffixes(layer):
        for name, (shape, value) in layers.gate_parameters(layer, **options).items():
            if name != "alpha":
                recipe = filled(shape, value, like=f"weight_ih{suffix}")
            elif opened is None:
                recipe = _balanced(layer, suffix, shape, options["epsilon"])
            else:
                recipe = _drawn(_init(layer, suffix, options, opened), name, suffix, shape)
            found[f"{name}{suffix}"] = recipe
    return found


def _redrawn(
    layer: nn.Module, options: Mapping[str, Any], opened: tuple[float, ...]
) -> dict[str, TensorRecipe]:
    """Give the recipes of weights and biases.

    Raises:
        Refused: one of them is no parameter.
    """
    found: dict[str, TensorRecipe] = {}
    for suffix in layers.gate_suffixes(layer):
        init = _init(layer, suffix, options, opened)
        for name in layers.GATE_TENSORS:
            tensor = getattr(layer, f"{name}{suffix}", None)
            if tensor is None:
                continue
            if f"{name}{suffix}" not in layer._parameters:
                raise Refused(
                    f"`init: fresh` can't draw {name}{suffix}: it is computed from other parameters"
                )
            found[f"{name}{suffix}"] = _drawn(init, name, suffix, tuple(tensor.shape))
    return found


def _init(layer: nn.Module, suffix: str, options: Mapping[str, Any], opened: tuple[float, ...]) -> GateInit:
    numbers = {name: options[name] for name in ("alpha", "epsilon")}
    found: GateInit = layers.initial_gates(layer, suffix, opened, **numbers)
    return found


def _drawn(init: GateInit, name: str, suffix: str, shape: tuple[int, ...]) -> TensorRecipe:
    def make(old: Old, stream: Stream) -> Tensor:  # noqa: ARG001 - one signature for all recipes
        return init.value(name, shape, partial(stream.uniform, f"{name}{suffix}"))

    return TensorRecipe(make, reads=(), like=f"weight_ih{suffix}")


def _balanced(layer: nn.Module, suffix: str, shape: tuple[int, ...], epsilon: float) -> TensorRecipe:
    """Say how alpha arises from weights that stay."""
    reads = tuple(
        f"{name}{suffix}"
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        if getattr(layer, f"{name}{suffix}", None) is not None
    )

    def make(old: Old, stream: Stream) -> Tensor:  # noqa: ARG001 - one signature for all recipes
        of_inputs, of_states, *biases = (old[name].float() for name in reads)
        bias = biases[0] + biases[1] if biases else None
        mean_square = layers.input_mean_square(suffix)
        numbers = {"mean_square": mean_square, "epsilon": epsilon}
        found: Tensor = layers.balanced_alpha(of_inputs, of_states, bias, **numbers)
        return found.expand(shape).clone()

    return TensorRecipe(make, reads=reads, like=f"weight_ih{suffix}")
