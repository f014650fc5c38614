"""The options of the Bio Transformations converter, under the names that it gave them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, get_args

from bioconvert.core.errors import OptionError
from bioconvert.plasticity.distributions import Distribution

ACTIVATIONS = {
    "identity": "none",
    "none": "none",
    "relu": "relu",
    "gelu": "gelu",
    "silu": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}
"""Names of modules and functions, in small letters, and what ``weight_splitting`` calls them."""
_DISTRIBUTIONS = get_args(Distribution)
_Check = tuple[Callable[[float], bool], str]
_ABOVE_0: _Check = (lambda value: value > 0, "above 0")
_SHARE: _Check = (lambda value: 0 <= value <= 1, "from 0 to 1")
_FROM_0: _Check = (lambda value: value >= 0, "0 or more")
_COUNT: _Check = (lambda value: value >= 1 and value == int(value), "a whole number from 1")
_PLACE: _Check = (lambda value: value >= -1 and value == int(value), "a whole number from 0, or -1")
_NUMBERS: dict[str, _Check] = {
    "fuzzy_learning_rate_factor_nu": _SHARE,
    "dampening_factor": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "crystal_thresh": _FROM_0,
    "rejuvenation_parameter_dre": _ABOVE_0,
    "weight_splitting_Gamma": (lambda value: value >= 0 and value == int(value), "a whole number from 0"),
    "base_lr": _ABOVE_0,
    "stability_factor": (lambda value: 0 <= value <= 50, "from 0 to 50"),
    "lr_variability": _FROM_0,
    "fuzzy_lr_min": _ABOVE_0,
    "fuzzy_lr_max": _ABOVE_0,
    "fuzzy_lr_decay": _SHARE,
    "fuzzy_lr_update_freq": _COUNT,
    "fuzzy_lr_layer_index": _PLACE,
    "fuzzy_lr_total_layers": _PLACE,
}


@dataclass(frozen=True)
class BioConfig:
    """What a :class:`~bioconvert.BioConverter` attaches to a model, and how.

    Args:
        weight_splitting_activation_function: what comes before the sum of units: a name, a module, a module's
            class or a function of torch, among identity, relu, gelu, silu, tanh and sigmoid.
        fuzzy_learning_rate_factor_nu: spread of the fuzzy learning rates.
        dampening_factor: what a rate is multiplied by when its weight crystallizes.
        crystal_thresh: a weight crystallizes where its gradient is smaller than this share of it.
        rejuvenation_parameter_dre: how fast the chance to be replaced falls with a weight's size.
        weight_splitting_Gamma: number of units that are added up; 0 or 1 for none.
        apply_dales_principle: whether all synapses of a neuron keep one sign.
        base_lr: volume-dependent rate of a weight of 0.
        stability_factor: how fast that rate falls with a weight's size.
        lr_variability: deviation of that rate, in units of its mean.
        fuzzy_lr_distribution: name of the distribution of fuzzy learning rates, or an enum's member with the
            name as its value.
        fuzzy_lr_min: least fuzzy rate.
        fuzzy_lr_max: greatest fuzzy rate.
        fuzzy_lr_dynamic: whether rates by ``temporal`` and ``activity`` vary with time; as drawn otherwise.
        fuzzy_lr_decay: what ``temporal`` leaves of the spread each time.
        fuzzy_lr_update_freq: number of steps between these times.
        fuzzy_lr_layer_index: the layer's place, for ``layer_adaptive``; -1 to find it.
        fuzzy_lr_total_layers: number of layers, likewise.

    Raises:
        OptionError: a value is out of its range; the field is named.

    Example:
        >>> BioConfig(fuzzy_lr_distribution="lognormal").crystal_thresh
        4.5e-05
    """

    weight_splitting_activation_function: Any = "identity"
    fuzzy_learning_rate_factor_nu: float = 0.16
    dampening_factor: float = 0.6
    crystal_thresh: float = 4.5e-05
    rejuvenation_parameter_dre: float = 8.0
    weight_splitting_Gamma: int = 0  # noqa: N815 - the name that configurations use
    apply_dales_principle: bool = False
    base_lr: float = 0.1
    stability_factor: float = 2.0
    lr_variability: float = 0.2
    fuzzy_lr_distribution: str | Enum = "uniform"
    fuzzy_lr_min: float = 0.5
    fuzzy_lr_max: float = 2.0
    fuzzy_lr_dynamic: bool = False
    fuzzy_lr_decay: float = 0.9995
    fuzzy_lr_update_freq: int = 100
    fuzzy_lr_layer_index: int = -1
    fuzzy_lr_total_layers: int = -1

    def __post_init__(self) -> None:
        for name, (is_right, said) in _NUMBERS.items():
            _insist_on_number(name, getattr(self, name), is_right, said)
        for name in ("apply_dales_principle", "fuzzy_lr_dynamic"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if not self.fuzzy_lr_min < self.fuzzy_lr_max:
            raise OptionError(
                "fuzzy_lr_min must be below fuzzy_lr_max, "
                f"not {self.fuzzy_lr_min:g} with {self.fuzzy_lr_max:g}"
            )
        if self.distribution not in _DISTRIBUTIONS:
            raise OptionError(
                f"fuzzy_lr_distribution must be one of {', '.join(_DISTRIBUTIONS)}, not {self.distribution!r}"
            )
        if self.layers is not None and self.layers[0] >= self.layers[1]:
            raise OptionError("fuzzy_lr_layer_index must be below fuzzy_lr_total_layers")
        if self.activation is None:
            raise OptionError(
                f"weight_splitting_activation_function must be one of {', '.join(ACTIVATIONS)}, "
                f"by name or as torch has it, not {self.weight_splitting_activation_function!r}"
            )

    @classmethod
    def check_names(cls, options: dict[str, Any]) -> None:
        """Refuse options that no field has the name of.

        Raises:
            OptionError: there are some; they and the known ones are named.
        """
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in options if name not in known]:
            raise OptionError(
                f"BioConfig has no field {', '.join(map(repr, unknown))}. Known: {', '.join(known)}"
            )

    @property
    def distribution(self) -> str:
        """The name of the distribution."""
        given = self.fuzzy_lr_distribution
        return str(given.value if isinstance(given, Enum) else given).lower()

    @property
    def activation(self) -> str | None:
        """What ``weight_splitting`` calls the activation; ``None`` where it doesn't know it."""
        given = self.weight_splitting_activation_function
        named = given if isinstance(given, str | type) else getattr(given, "__name__", type(given))
        return ACTIVATIONS.get((named if isinstance(named, str) else named.__name__).lower())

    @property
    def layers(self) -> tuple[int, int] | None:
        """Place and number of layers; ``None`` where they are to be found."""
        place, number = self.fuzzy_lr_layer_index, self.fuzzy_lr_total_layers
        if (place < 0) != (number < 0):
            raise OptionError("fuzzy_lr_layer_index and fuzzy_lr_total_layers are given both or not at all")
        return None if place < 0 else (place, number)


def _insist_on_number(name: str, value: object, is_right: Callable[[float], bool], said: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (is_number and is_right(value)):  # type: ignore[arg-type]
        raise OptionError(f"{name} must be {said}, not {value!r}")
