"""Linear and Conv layers become Yat layers on the same weight and bias."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bioconvert import layers
from bioconvert.core.change import Change, Site, TensorRecipe
from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.registry import replacement
from bioconvert.replacements.added import filled
from bioconvert.replacements.yat_init import (
    DEFAULT_EPSILON,
    KEPT,
    RELATIVE_FLOOR,
    SUMMARIES,
    Init,
    Start,
    Way,
    chosen_way,
    fit_for,
    warnings_for,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bioconvert.core.random import Stream

Alpha = Literal["learnable", "exponent", "none"] | float
Epsilon = Literal["auto"] | Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Mask = Literal["none", "nonzero"]


@replacement("YatLinear", of=("torch.nn.Linear", "transformers.pytorch_utils.Conv1D"))
@replacement("YatConv1d", of="torch.nn.Conv1d")
@replacement("YatConv2d", of="torch.nn.Conv2d")
@replacement("YatConv3d", of="torch.nn.Conv3d")
def yat(
    layer: nn.Module,
    site: Site,
    *,
    bias_mode: Literal["pre", "post"] = "pre",
    alpha: Alpha = "learnable",
    per_unit: bool = False,
    offset: bool = False,
    epsilon: Epsilon = "auto",
    learnable_epsilon: bool = False,
    spherical: bool = False,
    weight_normalized: bool = False,
    drop_connect: Fraction = 0.0,
    softplus_bias: bool = False,
    scalar_bias: bool = False,
    constant_bias: Finite | None = None,
    freeze_kernel: bool = False,
    mask: Mask = "none",
    init: Init = "auto",
    refine: Annotated[int, Field(ge=0)] = 0,
    hand_on: bool = False,
) -> Change:
    r"""Turn a layer into the Yat layer of its kind, on the same weight and bias.

    Args:
        layer: a Linear, Conv1d, Conv2d or Conv3d, or transformers' ``Conv1D``.
        site: where it stands.
        bias_mode: whether the bias goes inside the square (``"pre"``) or is added behind (``"post"``).
        alpha: the scale: learnable, learnable as the reference's exponent, none, or a constant.
        per_unit: whether the scale, and a learnable :math:`\varepsilon`, are one for each unit.
        offset: whether an offset for each unit is added to the output.
        epsilon: :math:`\varepsilon`; ``"auto"`` takes it relative to the inputs where sample data is given.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, through softplus.
        spherical: whether x and w are normalised.
        weight_normalized: whether w is normalised.
        drop_connect: probability that a weight is left out while training.
        softplus_bias: whether the softplus of the bias is used.
        scalar_bias: whether the mean of the bias is used by all units.
        constant_bias: a number that is used in place of the bias, which is trained no more.
        freeze_kernel: whether the weight is trained no more.
        mask: ``"nonzero"`` keeps weights that are exactly zero, as pruned ones are, at zero.
        init: what the layer starts from. ``"keep"`` leaves weight and bias as they are. ``"closed_form"``
            fits α, bias, ε and an offset to mean and deviation of what the layer and its activation gave.
            ``"calibrate"`` finds them, unit by unit, on samples of it, in the network that the layers before
            have become. ``"affine"`` makes the layer as straight as it was. ``"fresh"`` draws everything
            anew, for the inputs in the sample data or, without any, as the layer's constructor does.
            ``"auto"`` is ``"calibrate"`` with ``calibration``, ``"closed_form"`` with ``example_inputs`` and
            ``"keep"`` where that can't be done.
        refine: number of gradient steps by which ``"calibrate"`` improves what it found.
        hand_on: whether the fitted α and offset go into the linear layer behind, and this one has none.

    Raises:
        Refused: what ``init`` or another option asks for can't be done here.
        OptionError: two options contradict each other.
    """
    options: dict[str, Any] = {
        "bias_mode": bias_mode,
        "alpha": alpha,
        "per_unit": per_unit,
        "offset": offset,
        "epsilon": epsilon,
        "learnable_epsilon": learnable_epsilon,
        "spherical": spherical,
        "weight_normalized": weight_normalized,
        "drop_connect": drop_connect,
        "softplus_bias": softplus_bias,
        "scalar_bias": scalar_bias,
        "constant_bias": constant_bias,
        "freeze_kernel": freeze_kernel,
        "mask": mask,
    }
    return yat_change(layer, site, options, Start(init, refine, hand_on))


def yat_change(layer: nn.Module, site: Site, options: dict[str, Any], start: Start) -> Change:
    """Say what becomes of a layer with these options.

    Raises:
        Refused: what an option asks for can't be done here.
        OptionError: two options contradict each other.
    """
    for name in ("softplus_bias", "scalar_bias"):
        if options[name] and layer.bias is None:
            raise Refused(f"`{name}` needs a bias, and the layer has none")
    if options["constant_bias"] is not None and site.norm_becomes == "fold":
        raise Refused("`constant_bias` and `norm: fold` can't both be: the norm's shift goes into the bias")
    way = chosen_way(start, site, options)
    if way != "keep":
        change = _started(layer, site, options, way, start)
    else:
        change = _kept(type(layer), _units(layer), options)
        if options["epsilon"] == "auto" and site.has_data and not options["learnable_epsilon"]:
            change = _with_measured_epsilon(change, site)
    freezes = ("weight",) * options["freeze_kernel"]
    if options["constant_bias"] is not None and layer.bias is not None:
        freezes = (*freezes, "bias")
    return dataclasses.replace(change, freezes=freezes) if freezes else change


_SCALED = {"per_unit": True, "offset": True}
"""What a fitted layer has, whatever the rule says."""
_UNSCALED = {"alpha": "none", "per_unit": False, "offset": False}
"""What is left of it where the layer behind takes over scale and offset."""
_changes: dict[tuple[Any, ...], Change] = {}


def _kept(cls: type[nn.Module], units: int, options: dict[str, Any]) -> Change:
    """Say what becomes of a layer whose weight and bias stay: the same value for all of a class and size."""
    key = (cls, units, *options.values())
    if key not in _changes:
        attributes, adds = _layer(units, options)
        _changes[key] = Change(into=_into(cls), attributes=attributes, adds=adds, warnings=(KEPT,))
    return _changes[key]


def _with_measured_epsilon(kept: Change, site: Site) -> Change:
    """Let ε be relative to the inputs."""
    attributes = dict(kept.attributes)
    attributes.pop("epsilon")
    epsilon = filled((1,), DEFAULT_EPSILON, kind="buffer")
    adds = {**kept.adds, "epsilon": epsilon}
    return dataclasses.replace(kept, attributes=attributes, adds=adds, fit=fit_for("keep", site, 0))


def _started(layer: nn.Module, site: Site, options: dict[str, Any], way: Way, start: Start) -> Change:
    """Say what becomes of a layer whose tensors are found anew, on sample data if there is any."""
    units = _units(layer)
    if site.has_data:
        options = {**options, **(_UNSCALED if start.hand_on else _SCALED)}
    attributes, adds = _layer(units, options)
    if site.has_data:
        size = units if way in ("calibrate", "affine") else 1
        adds["epsilon"] = filled((size,), attributes.pop("epsilon"), kind="buffer")
    overwrites = {"weight": TensorRecipe(_xavier)} if way == "fresh" else {}
    table = adds if layer.bias is None else overwrites
    if layer.bias is not None or site.has_data:
        table["bias"] = TensorRecipe(partial(_uniform, units)) if way == "fresh" else filled((units,), 0.0)
    return Change(
        into=_into(type(layer)),
        attributes=attributes,
        adds=adds,
        overwrites=overwrites,
        fit=fit_for(way, site, start.refine),
        handed_on=("alpha", "offset") if start.hand_on else None,
        summary=SUMMARIES[way],
        warnings=warnings_for(way, site),
    )


def _layer(units: int, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, TensorRecipe]]:
    """Give the attributes and the extra parameters of a Yat layer."""
    automatic = options["epsilon"] == "auto"
    relative = {"epsilon": DEFAULT_EPSILON, "floor": RELATIVE_FLOOR} if automatic else {"floor": 0.0}
    full = {**options, **relative}
    adds = {"mask": TensorRecipe(_nonzero, kind="buffer")} if full.pop("mask") == "nonzero" else {}
    for name, (shape, value) in layers.yat_parameters(units, **full).items():
        adds[name] = filled(shape, value)
    try:
        return dict(layers.yat_attributes(**full)), adds
    except ValueError as error:
        raise OptionError(str(error)) from error


def _into(cls: type[nn.Module]) -> type[nn.Module]:
    """Give the Yat layer for a layer's class: the one that inherits from it."""
    for ancestor in cls.__mro__:
        name = f"Yat{ancestor.__name__}"
        if ancestor.__module__.startswith("torch.nn.") and hasattr(layers, name):
            found: type[nn.Module] = getattr(layers, name)
            return found
    # The class inherits from transformers' own, so it is imported only for a model that has one.
    from bioconvert.layers.yat_conv1d import YatConv1D

    return YatConv1D


def _nonzero(old: Any, stream: Stream) -> Tensor:  # noqa: ARG001
    found: Tensor = old["weight"] != 0
    return found


def _xavier(old: Any, stream: Stream) -> Tensor:
    r"""Draw :math:`N(0, 2 / (\text{fan in} + \text{fan out}))`."""
    weight: Tensor = old["weight"]
    receptive = weight[0, 0].numel()
    deviation = math.sqrt(2 / ((weight.shape[0] + weight.shape[1]) * receptive))
    return stream.normal("fresh weight", tuple(weight.shape)) * deviation


def _uniform(units: int, old: Any, stream: Stream) -> Tensor:
    r"""Draw :math:`U(\pm 1 / \sqrt{\text{fan in}})`."""
    bound = math.sqrt(units / max(1, old["weight"].numel()))
    return (2 * stream.uniform("fresh bias", (units,)) - 1) * bound


def _units(layer: Any) -> int:
    """Give the number of a layer's outputs; transformers' ``Conv1D`` calls it ``nf``."""
    for name in ("out_features", "out_channels", "nf"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    raise Refused(f"{type(layer).__name__} doesn't say how many outputs it has")
