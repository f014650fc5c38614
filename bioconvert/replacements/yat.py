"""Linear and Conv layers become Yat layers on the same weight and bias."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bioconvert import layers
from bioconvert.core.change import Change, Fit, Site, TensorRecipe
from bioconvert.core.errors import Refused
from bioconvert.core.registry import replacement

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bioconvert.core.random import Stream

Alpha = Literal["learnable", "exponent", "none"] | float
Epsilon = Literal["auto"] | Annotated[float, Field(gt=0)]
Init = Literal["auto", "keep", "closed_form"]
Fraction = Annotated[float, Field(ge=0, lt=1)]

RELATIVE_FLOOR = 1e-5
"""Floor of the denominator over ‖x‖² + ‖w‖²: the rounding of fp32 in their difference."""
DEFAULT_EPSILON = 1e-5
"""ε where ``epsilon: auto`` has no data to be relative to: the reference's."""
_IDEMPOTENT = ("ReLU", "ReLU6", "Hardtanh")
_KEPT_AS_IS = (
    "weight and bias are kept as they are and the layer computes something else: with example_inputs, a "
    "layer before an activation is fitted to what the two gave"
)


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
    init: Init = "auto",
) -> Change:
    r"""Turn a layer into the Yat layer of its kind, on the same weight and bias.

    Args:
        layer: a Linear, Conv1d, Conv2d or Conv3d, or transformers' ``Conv1D``.
        site: where it stands.
        bias_mode: whether the bias goes inside the square (``"pre"``) or is added behind (``"post"``).
        alpha: the scale: learnable, learnable as the reference's exponent, none, or a constant.
        per_unit: whether the scale is one for each unit.
        offset: whether an offset for each unit is added to the output.
        epsilon: :math:`\varepsilon`; ``"auto"`` takes it relative to the inputs where sample data is given.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, through softplus.
        spherical: whether x and w are normalised.
        weight_normalized: whether w is normalised.
        drop_connect: probability that a weight is left out while training.
        init: ``"keep"`` leaves weight and bias as they are; ``"closed_form"`` fits α, bias, ε and an offset
            to what the layer and its activation gave; ``"auto"`` does the latter wherever it can.

    Raises:
        Refused: ``init: closed_form`` can't be done here.
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
    }
    obstacle = _obstacle(site, options)
    if init == "closed_form" and obstacle is not None:
        raise Refused(f"`init: closed_form` is impossible: {obstacle}")
    if init != "keep" and obstacle is None:
        return _fitted(layer, site, options)
    kept = _kept(type(layer), _units(layer), options)
    if epsilon == "auto" and site.has_data and not learnable_epsilon:
        return _with_measured_epsilon(kept, site)
    return kept


_changes: dict[tuple[Any, ...], Change] = {}


def _kept(cls: type[nn.Module], units: int, options: dict[str, Any]) -> Change:
    """Say what becomes of a layer whose weight and bias stay: the same value for all of a class and size."""
    key = (cls, units, *options.values())
    if key not in _changes:
        attributes, adds = _layer(units, options)
        _changes[key] = Change(into=_into(cls), attributes=attributes, adds=adds, warnings=(_KEPT_AS_IS,))
    return _changes[key]


def _with_measured_epsilon(kept: Change, site: Site) -> Change:
    """Let ε be relative to the inputs."""
    attributes = dict(kept.attributes)
    attributes.pop("epsilon")
    epsilon = _filled((1,), DEFAULT_EPSILON, "buffer")
    adds = {**kept.adds, "epsilon": epsilon}
    return dataclasses.replace(kept, attributes=attributes, adds=adds, fit=_fit(site, closed_form=False))


def _fitted(layer: nn.Module, site: Site, options: dict[str, Any]) -> Change:
    """Say what becomes of a layer that is fitted to what it and its activation gave."""
    units = _units(layer)
    attributes, adds = _layer(units, {**options, "per_unit": True, "offset": True})
    adds["epsilon"] = _filled((1,), attributes.pop("epsilon"), "buffer")
    bias = {"bias": _filled((units,), 0.0)}
    fresh = layer.bias is None
    return Change(
        into=_into(type(layer)),
        attributes=attributes,
        adds={**adds, **bias} if fresh else adds,
        overwrites={} if fresh else bias,
        fit=_fit(site, closed_form=True),
        summary="fitted to its old outputs",
    )


def _layer(units: int, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, TensorRecipe]]:
    """Give the attributes and the extra parameters of a Yat layer."""
    automatic = options["epsilon"] == "auto"
    relative = {"epsilon": DEFAULT_EPSILON, "floor": RELATIVE_FLOOR} if automatic else {"floor": 0.0}
    full = {**options, **relative}
    extra = layers.yat_parameters(units, **full)
    return dict(layers.yat_attributes(**full)), {
        name: _filled(shape, value) for name, (shape, value) in extra.items()
    }


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


def _obstacle(site: Site, options: dict[str, Any]) -> str | None:
    """Say what stands in the way of a fit in closed form."""
    if options["bias_mode"] != "pre" or options["alpha"] != "learnable":
        return "it needs `bias_mode: pre` and `alpha: learnable`"
    if options["spherical"] or options["weight_normalized"] or options["learnable_epsilon"]:
        return "it needs a plain layer, not spherical, weight-normalized or with a learnable epsilon"
    if options["epsilon"] != "auto":
        return "it finds its own epsilon: leave `epsilon: auto`"
    if not site.has_data:
        return "there is no sample data: give example_inputs or calibration"
    if site.activation is None:
        return "no activation is known to follow the layer"
    if site.norm is not None and getattr(site.norm, "running_var", None) is None:
        return f"{type(site.norm).__name__} between it and its activation has no running statistics"
    if not (site.activation_dropped or site.activation.name in _IDEMPOTENT):
        return f"{site.activation.name} stays behind the layer: say `activation: drop`"
    return None


def _fit(site: Site, *, closed_form: bool) -> Callable[[], Fit]:
    def make() -> Fit:
        # Imported here, so that rule files are checked without torch.
        from bioconvert.replacements.closed_form import ClosedForm, InputNorm

        return ClosedForm(site, DEFAULT_EPSILON) if closed_form else InputNorm(DEFAULT_EPSILON)

    return make


def _filled(
    shape: tuple[int, ...], value: float, kind: Literal["parameter", "buffer"] = "parameter"
) -> TensorRecipe:
    def make(old: Any, stream: Stream) -> Tensor:  # noqa: ARG001 - one signature for all recipes
        weight: Tensor = old["weight"]
        return weight.new_full(shape, value)

    return TensorRecipe(make, kind=kind)


def _units(layer: Any) -> int:
    """Give the number of a layer's outputs; transformers' ``Conv1D`` calls it ``nf``."""
    for name in ("out_features", "out_channels", "nf"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    raise Refused(f"{type(layer).__name__} doesn't say how many outputs it has")
