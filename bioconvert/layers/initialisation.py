"""Initialising the Yat layers of a model from one batch of data."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bioconvert.core.errors import OptionError, first_line
from bioconvert.core.random import Stream
from bioconvert.layers.starting_values import (
    RELATIVE_EPSILON,
    inverse_softplus,
    mean_norm,
    standardisation,
    vertex_bias,
)
from bioconvert.layers.yat_core import YatLayer

Layers = dict[nn.Module, str]
Batch = torch.Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]

_LEAST_LENGTH = 1e-12
"""Length below which an input counts as zero when it is normalised."""
_LEAST_SOFTPLUS = 1e-2
"""Least bias through a softplus: below, it could hardly be learnt."""

_log = logging.getLogger("bioconvert")


def initialise(model: nn.Module, batch: Batch, *, seed: int = 0) -> tuple[str, ...]:
    r"""Draw every Yat layer of a model anew, so that its outputs vary as they should on a batch of data.

    For a layer whose inputs, or patches, have :math:`d` features,
    :math:`v_{ji} \sim N(0, E\lVert x \rVert^2 / d)` and

    .. math::
        y_j = \alpha_j \frac{(v_j \cdot x + c_j)^2}{\lVert x - v_j \rVert^2 + \varepsilon} + o_j, \quad
        c_j = 3 \operatorname{std}(v_j \cdot x) - \operatorname{mean}(v_j \cdot x), \quad
        \varepsilon = 0.1\, E\lVert x \rVert^2,

    with :math:`\alpha_j` and :math:`o_j` such that :math:`y_j` has zero mean and unit variance. That takes
    one forward pass: each layer is initialised when it is first called, and then gives what the layers behind
    it are initialised on.

    A layer needs ``per_unit=True``, ``offset=True`` and a bias for all of it. Otherwise it gets what its
    options allow:

    - α one for all units: the mean of the units' variances is 1. α a constant or none: the variance is what
      it is.
    - no offset: the mean stays what it is, unless the bias is behind the quotient and can take its place.
    - no bias inside the square: :math:`c_j = 0`, and the unit tells little about its input. A constant bias
      stays, one for all units is the mean of the :math:`c_j`, one through a softplus is positive.
    - ``spherical``, ``weight_normalized``: the weight's length plays no part; with the first, ε is 0.1.
    - a unit that is constant on the batch keeps :math:`\alpha_j = 1`; inputs that are all zero are taken to
      have unit variance.

    The model runs in evaluation, so that nothing is dropped; batch normalisations alone keep their mode, and
    normalise by the batch if the model is to be trained. Train flags, buffers, gradients and the random state
    stay as they were; after an error, all values too.

    Embeddings, attention and recurrent layers are left as they are.

    Without data there is ``reset_parameters()``, which each layer has called in its constructor: Xavier
    normal weights and a bias of :math:`U(\pm 1/\sqrt d)`. It is enough for a few layers, but dies with depth:
    at width 128, the variation between inputs falls from 0.7 behind two layers to 2e-6 behind eight.

    Args:
        model: any module; it is changed in place.
        batch: what the model is called on: a tensor, a tuple of positional or a dict of keyword arguments.
            Some hundreds of inputs do.
        seed: every random number is a function of it and of the layer's name.

    Returns:
        The names of the layers that were initialised, in the order of execution. Layers that the model
        didn't call are left alone, with a warning in the log.

    Raises:
        ValueError: there is no Yat layer, none of them was called, one is on the meta device or computes its
            weight, the model fails on the batch, or a layer's inputs aren't finite.

    Example:
        >>> from bioconvert.layers import YatLinear
        >>> options = {"per_unit": True, "offset": True}
        >>> net = nn.Sequential(YatLinear(8, 16, **options), YatLinear(16, 4, **options))
        >>> initialise(net, torch.rand(256, 8))
        ('0', '1')
    """
    layers: Layers = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, YatLayer) and not isinstance(module, nn.Embedding)
    }
    _check(layers)
    done: dict[nn.Module, str] = {}
    drawn: set[int] = set()

    def called(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if layer not in done:
            done[layer] = layers[layer]
            _Call(layer, layers[layer], args, kwargs).initialise(seed, redraw=id(layer.weight) not in drawn)
            drawn.add(id(layer.weight))

    with _unchanged_on_error(layers), _without_trace(model, layers), _hooked(layers, called):
        _run(model, batch)
    if not done:
        raise OptionError("none of the model's Yat layers was called on the batch")
    missed = [name for layer, name in layers.items() if layer not in done]
    if missed:
        _log.warning("not initialised, since the model didn't call them: %s", ", ".join(missed))
    return tuple(done.values())


class _Call:
    """One call of a Yat layer: what it was called on, and what it makes of it.

    Args:
        layer: the layer.
        name: its name in the model.
        args: the call's positional arguments, the input first.
        kwargs: its keyword arguments, the input first if there is no positional one.
    """

    def __init__(self, layer: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.layer = layer
        self.name = name
        self.units: int = layer._units
        self.named = dict(kwargs)
        # Every torch layer takes its input by position too.
        first = next((key for key, value in kwargs.items() if isinstance(value, torch.Tensor)), "")
        self.input: torch.Tensor = args[0] if args else self.named.pop(first)
        self.rest = args[1:]
        if not bool(self.input.isfinite().all()):
            raise OptionError(f"the inputs of {name or 'the model'} on the batch aren't finite")

    def initialise(self, seed: int, *, redraw: bool) -> None:
        """Draw the weight, unless another layer has drawn it, and set all else by the inputs."""
        layer, kernel = self.layer, self.layer._kernel()
        features = kernel.numel() // self.units
        norms = self._norms(kernel)
        size = mean_norm(norms, features)
        if redraw:
            # The whole weight, of which this layer may use a part: see `kernel_bank`.
            noise = Stream(seed, self.name).normal("fresh weight", tuple(layer.weight.shape))
            layer.weight.copy_(noise * math.sqrt(size / features))
        length = float(kernel.double().square().sum()) / self.units
        if layer.spherical:
            size = 1.0
        if layer.spherical or layer.weight_normalized:
            length = 1.0
        _set_epsilon(layer, RELATIVE_EPSILON * size)
        bias = vertex_bias(self._scores(norms), length * size / features)
        _set_bias(layer, bias if layer.bias_mode == "pre" else torch.zeros_like(bias))
        self._standardise()

    def _standardise(self) -> None:
        """Set α and the offset, or what takes its place, by the outputs without them."""
        layer = self.layer
        learnt = layer.alpha_mode in ("learnable", "exponent")
        _fill(layer, "offset", 0.0)
        if learnt:
            _fill(layer, "alpha", 1.0 if layer.alpha_mode == "learnable" else 0.0)
        outputs = self._by_unit(layer.forward(self.input, *self.rest, **self.named))
        factor, offset = standardisation(outputs, per_unit=layer.per_unit)
        if not learnt:
            factor, offset = torch.ones_like(factor), -outputs.double().mean(0)
        if layer.alpha_mode == "learnable":
            _fill(layer, "alpha", factor)
        elif learnt:
            base = math.sqrt(self.units) / math.log1p(self.units)
            _fill(layer, "alpha", factor.log() / math.log(base))
        if layer._parameters.get("offset") is not None:
            _fill(layer, "offset", offset)
        elif layer.bias_mode == "post":
            behind = factor if layer.alpha_mode != "constant" else torch.as_tensor(float(layer.alpha))
            _set_bias(layer, torch.where(behind == 0, 0.0, offset / behind))

    def _norms(self, kernel: torch.Tensor) -> torch.Tensor:
        """Give ‖x‖² of each input or patch, as each unit sees it: [n, K]."""
        window = torch.ones_like(kernel, dtype=_precision(kernel))
        return self._by_unit(self._linear(self.input.to(window.dtype).square(), window))

    def _scores(self, norms: torch.Tensor) -> torch.Tensor:
        """Give v·x, of what is normalised where the layer normalises: [n, K]."""
        weight = self.layer._effective_weight()
        weight = weight.to(_precision(weight))
        if self.layer.spherical:
            weight = self.layer._normalized(weight)
        scores = self._by_unit(self._linear(self.input.to(weight.dtype), weight))
        return scores / norms.sqrt().clamp_min(_LEAST_LENGTH) if self.layer.spherical else scores

    def _linear(self, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Apply the linear map that the layer's torch class is, with another weight and no bias."""
        base: Any = next(cls for cls in type(self.layer).__mro__ if not issubclass(cls, YatLayer))
        plain = object.__new__(base)
        parameters = {"weight": weight, "bias": weight.new_zeros(self.units)}
        vars(plain).update(vars(self.layer), _parameters=parameters)
        found: torch.Tensor = base.forward(plain, input, *self.rest, **self.named)
        return found

    def _by_unit(self, outputs: torch.Tensor) -> torch.Tensor:
        """Give outputs as [n, K]."""
        return outputs.movedim(self.layer._unit_axis, -1).reshape(-1, self.units)


def _precision(weight: torch.Tensor) -> torch.dtype:
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _fill(layer: nn.Module, name: str, value: torch.Tensor | float) -> None:
    """Give a parameter its value, if the layer has it."""
    held = layer._parameters.get(name)
    if held is not None:
        held.copy_(torch.as_tensor(value))


def _set_bias(layer: Any, value: torch.Tensor) -> None:
    """Give the bias its value, [K], as near as the layer's options allow."""
    if layer.scalar_bias:
        value = value.mean(0, keepdim=True)
    if layer.softplus_bias:
        value = inverse_softplus(value.clamp_min(_LEAST_SOFTPLUS))
    _fill(layer, "bias", value)


def _set_epsilon(layer: Any, value: float) -> None:
    """Give ε its value in the form in which the layer holds it."""
    if layer.learnable_epsilon:
        _fill(layer, "raw_epsilon", inverse_softplus(torch.tensor(value, dtype=torch.float64)))
    elif isinstance(layer.epsilon, torch.Tensor):
        layer.epsilon.fill_(value)
    else:
        layer.epsilon = value


def _check(layers: Layers) -> None:
    """Refuse what can't be initialised.

    Raises:
        OptionError: as for :func:`initialise`.
    """
    if not layers:
        raise OptionError("the model has no Yat layer to initialise")
    for layer, name in layers.items():
        if any(tensor.is_meta for tensor in layer.parameters()):
            raise OptionError(f"{name or 'the model'} is on the meta device: it has no values to initialise")
        if "weight" not in layer._parameters:
            raise OptionError(
                f"the weight of {name or 'the model'} is computed; add what computes it, such as a "
                "parametrization, afterwards"
            )


def _run(model: nn.Module, batch: Batch) -> None:
    """Call the model on a batch.

    Raises:
        OptionError: the model fails, or a layer can't be initialised.
    """
    try:
        if isinstance(batch, Mapping):
            model(**batch)
        else:
            model(*batch if isinstance(batch, (tuple, list)) else (batch,))
    except OptionError:
        raise
    except Exception as error:
        raise OptionError(f"the model fails on the batch: {first_line(error)}") from error


@contextmanager
def _hooked(layers: Layers, hook: Callable[..., None]) -> Iterator[None]:
    """Let a function see the calls of the layers, also those in a compiled model."""
    handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _without_trace(model: nn.Module, layers: Layers) -> Iterator[None]:
    """Run in evaluation, without gradients; put back train flags, random state and others' buffers."""
    flags = [(module, module.training) for module in model.modules()]
    others = [module for module in model.modules() if module not in layers]
    buffers = [(held, held.clone()) for module in others for held in module.buffers(recurse=False)]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    for module, _ in flags:
        module.training = module.training and isinstance(module, _BatchNorm)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, training in flags:
            module.training = training
        _put_back(buffers)


@contextmanager
def _unchanged_on_error(layers: Layers) -> Iterator[None]:
    """Give the layers their old values back if anything fails."""
    held = [tensor for layer in layers for tensor in (*layer.parameters(False), *layer.buffers(False))]
    values = [(tensor, tensor.detach().clone()) for tensor in held]
    attributes = [(layer, copy.copy(vars(layer).get("epsilon"))) for layer in layers]
    try:
        yield
    except BaseException:
        _put_back(values)
        for layer, epsilon in attributes:
            if epsilon is not None:
                vars(layer)["epsilon"] = epsilon
        raise


def _put_back(values: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    with torch.no_grad():
        for tensor, value in values:
            tensor.copy_(value)
