"""Converting by the names and the ways of the Bio Transformations package."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from bioconvert.compat.bio_transformations.bio_config import BioConfig
from bioconvert.core.errors import ConversionError, OptionError
from bioconvert.core.results import Skipped
from bioconvert.surgery import make_plan

_log = logging.getLogger("bioconvert")
_Given = TypeVar("_Given", nn.Module, type[nn.Module])
_VARYING = ("temporal", "activity")
_CONVERTED = "_bio_converter_of_init"


class BioConverter:
    """Attaches mechanisms of plasticity to a model, whose training loop calls them itself.

    A converted model has the methods of :class:`~bioconvert.plasticity.manual.ManualPlasticity`, to be called
    between ``backward()`` and ``step()``::

        loss.backward()
        model.volume_dependent_lr()
        model.fuzzy_learning_rates()
        model.crystallize()
        optimizer.step()

    The weights of linear, convolution, recurrent, attention and embedding layers get fuzzy rates, drawn now,
    and rates that crystallize; both are buffers. Dale's principle and weight splitting come with the options
    for them. Rates hold for any optimizer: under an adaptive one they multiply its update.

    Where it differs from the package whose names it has: a rate that crystallizes counts from the same step
    on, by the gradient as the loss gave it, whatever the order of calls; Dale's signs are those of a neuron's
    outgoing synapses; rejuvenated weights keep their signs; nothing is clamped.

    Args:
        config: the options; the defaults if ``None``.
        overrides: single options, by the names of :class:`BioConfig`.

    Raises:
        OptionError: an option is unknown or out of its range.

    Example:
        >>> model = BioConverter(fuzzy_learning_rate_factor_nu=0.2)(nn.Linear(4, 2))
        >>> model(torch.ones(1, 4)).sum().backward()
        >>> model.fuzzy_learning_rates()
    """

    def __init__(self, config: BioConfig | None = None, **overrides: Any):
        if config is not None and not isinstance(config, BioConfig):
            raise OptionError(f"config must be a BioConfig, not a {type(config).__name__}; see from_dict()")
        self._config = config or BioConfig()
        self.update_config(**overrides)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any]) -> BioConverter:
        """Make a converter from options by name."""
        return cls(**config_dict)

    def get_config(self) -> BioConfig:
        """Give the options."""
        return self._config

    def update_config(self, **options: Any) -> None:
        """Change options, for models that are converted from now on."""
        BioConfig.check_names(options)
        self._config = replace(self._config, **options)

    def __call__(self, model: _Given, *, seed: int = 0) -> _Given:
        """Convert, as :meth:`convert` does."""
        return self.convert(model, seed=seed)

    def convert(self, model: _Given, *, seed: int = 0) -> _Given:
        """Convert a model in place, or a class, whose instances are converted when they are made.

        Args:
            model: a module, or a class of modules: this is a class decorator.
            seed: decides the rates, with the names of the weights.

        Returns:
            The same object.

        Raises:
            OptionError: it is neither.
            ConversionError: the model can't be converted.
        """
        if isinstance(model, nn.Module):
            _converted(model, self._config, seed)
        elif isinstance(model, type) and issubclass(model, nn.Module):
            _let_convert(model, self._config, seed)
        else:
            raise OptionError(f"only a module or a class of modules can be converted, not {model!r}")
        return model


def _converted(model: nn.Module, config: BioConfig, seed: int) -> None:
    plan = make_plan(model, rules_of(config), seed=seed)
    for outcome in plan.outcomes:
        if not isinstance(outcome, Skipped):
            continue
        if outcome.action == "attach by_hand" and not hasattr(model, "by_hand"):
            raise ConversionError(f"the model can't be given the methods: {outcome.reason}")
        if outcome.action in ("attach weight_splitting", "attach dale"):
            _log.warning("%s: no %s: %s", outcome.path, outcome.action.split()[1], outcome.reason)
    plan.apply()


def _let_convert(cls: type[nn.Module], config: BioConfig, seed: int) -> None:
    """Let a class convert each instance at the end of its constructor."""
    plain: Callable[..., None] = vars(cls).get(_CONVERTED, cls.__init__)

    @functools.wraps(plain)
    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        _converted(self, config, seed)

    # The class itself is changed, as its instances are: under another one they could not be pickled.
    setattr(cls, _CONVERTED, plain)
    cls.__init__ = init  # type: ignore[method-assign]


def rules_of(config: BioConfig) -> dict[str, Any]:
    """Give the rules that a converter goes by."""
    rates = [{"fuzzy_lr": _fuzzy(config)}, {"crystallize": _crystallize(config)}]
    methods = {
        "base": config.base_lr,
        "stability": config.stability_factor,
        "variability": config.lr_variability,
        "d_re": config.rejuvenation_parameter_dre,
    }
    rules: list[dict[str, Any]] = [
        _rule("layers", {"type": ["linear", "conv", "recurrent", "attention"]}, *rates),
        # Sparse gradients are gradients of some rows only: there is nothing to multiply elsewhere.
        _rule("embeddings", {"type": ["embedding"], "where": {"sparse": False}}, *rates),
    ]
    seen = {"type": ["linear", "conv"]}
    if config.apply_dales_principle:
        rules.append(_rule("signs", seen, "dale"))
    if config.weight_splitting_Gamma > 1:
        split = {"synapses": config.weight_splitting_Gamma, "activation": config.activation}
        rules.append(_rule("splitting", seen, {"weight_splitting": {"law": "reference", **split}}))
    rules.append({"name": "methods", "match": {"path": ""}, "attach": [{"by_hand": methods}]})
    return {"version": 1, "name": "bio_converter", "rules": rules}


def _rule(name: str, match: dict[str, Any], *attach: Any) -> dict[str, Any]:
    return {"name": name, "match": match, "attach": list(attach), "optional": True}


def _fuzzy(config: BioConfig) -> dict[str, Any]:
    distribution = config.distribution
    options: dict[str, Any] = {
        "distribution": distribution
        if config.fuzzy_lr_dynamic or distribution not in _VARYING
        else "uniform",
        "nu": config.fuzzy_learning_rate_factor_nu,
        "bounds": [config.fuzzy_lr_min, config.fuzzy_lr_max],
        "decay": config.fuzzy_lr_decay,
        "decay_every": config.fuzzy_lr_update_freq,
    }
    if config.layers is not None:
        options["layer_index"], options["total_layers"] = config.layers
    return options


def _crystallize(config: BioConfig) -> dict[str, Any]:
    return {"threshold": config.crystal_thresh, "damping": config.dampening_factor}
