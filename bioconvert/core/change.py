"""The value that a replacement, a mechanism or a node returns: what becomes of one module.

A :class:`Change` says everything that happens to a module without doing it, so that a plan can print it, an
apply can carry it out and undo it, and a manifest can repeat it on a freshly built model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bioconvert.core.random import Stream

Old = Mapping[str, "torch.Tensor"]
Make = Callable[[Old, "Stream"], "torch.Tensor"]
NormBecomes = Literal["keep", "fold", "drop"]
When = Literal["before", "after"]
SampleData = Literal["none", "example", "calibration"]
"""None at all; inputs that show what the model takes; or a set of samples given to fit layers to."""


@dataclass(frozen=True, slots=True)
class TensorRecipe:
    """How one tensor of the changed module arises from the old ones and the seed.

    Args:
        make: computes the tensor from the module's tensors by name, of which it may read those in ``reads``,
            and a random stream. Works on the meta device.
        reads: names of the module's own tensors that ``make`` looks at.
        like: name of the module's tensor whose device, type and ``requires_grad`` the new one takes; ``None``
            for a buffer that is to stay as it is made, and for a parameter like any other within the module.
        kind: ``"parameter"`` or ``"buffer"``.
    """

    make: Make
    reads: tuple[str, ...] = ("weight",)
    like: str | None = "weight"
    kind: Literal["parameter", "buffer"] = "parameter"


class Fit(Protocol):
    """Finds a layer's new tensors from what passes through the original layer on sample data.

    The engine calls :meth:`observe` for every call of the layer on every sample, without gradients, and
    :meth:`solve` once after the last.
    """

    def observe(self, layer: nn.Module, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        """Take note of one call of the original ``layer``."""
        ...

    def solve(self, layer: nn.Module) -> Mapping[str, torch.Tensor]:
        """Give the values of tensors that the change adds or overwrites, by name.

        Raises:
            Refused: the observations don't suffice.
        """
        ...


@runtime_checkable
class SequentialFit(Fit, Protocol):
    """A fit that corrects what the layers before it got wrong.

    Layers with such a fit are fitted one after the other, in the order of execution: :meth:`observe` is given
    the inputs that the layer gets in the network converted so far, and as outputs what :meth:`target` kept of
    the original's at the same call. The layer itself is still the original.
    """

    def target(self, layer: nn.Module, outputs: torch.Tensor) -> torch.Tensor:
        """Give what is to be kept of the original's outputs at one call."""
        ...


class ModuleHook:
    """What a module calls before or after its forward; subclasses say so by ``__call__``.

    It is called with ``(module, args, kwargs)`` before, with ``(module, args, kwargs, output)`` after a
    forward, also one that failed, and gives what a hook of torch with keywords gives. A file may name one:
    nothing but hooks is made then.
    """

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, *output: Any) -> Any:
        """Do what is to be done."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Hook:
    """What a module is to call before or after its forward.

    Args:
        make: the importable class of it.
        options: the arguments it is made with, plain values (as JSON has them).
        when: before or after.
    """

    make: type[ModuleHook]
    options: Mapping[str, object] = field(default_factory=dict)
    when: When = "before"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one module.

    Args:
        into: the class whose behaviour the module takes on; ``None`` leaves the class as it is.
        attributes: plain values (as JSON has them) to set on the instance: the options of the new layer.
        adds: new parameters and buffers, by name; none of them may exist already, unless it is ``None``.
        overwrites: new values for tensors that exist; the old values are kept aside and come back on revert.
        fit: makes the object that finds better values for ``adds`` and ``overwrites`` from sample data, if it
            can be done; ``None`` where the recipes say all.
        freezes: names of the module's own parameters that are trained no more, until it is undone.
        handed_on: names of two fitted values, a scale and an offset of the outputs by unit, that go into the
            linear layer behind the module and not into the module itself.
        hooks: what the module calls before and after its forward.
        elsewhere: what becomes of other modules for its sake, by their dotted names, the model's being empty:
            classes, attributes, parameters, buffers and hooks. What two changes want alike is done once.
        summary: in words, how the module is changed, for the plan.
        warnings: what the user should know before going on.
    """

    into: type[nn.Module] | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)
    adds: Mapping[str, TensorRecipe] = field(default_factory=dict)
    overwrites: Mapping[str, TensorRecipe] = field(default_factory=dict)
    fit: Callable[[], Fit] | None = None
    freezes: tuple[str, ...] = ()
    handed_on: tuple[str, str] | None = None
    hooks: tuple[Hook, ...] = ()
    elsewhere: Mapping[str, Change] = field(default_factory=dict)
    summary: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Activation:
    """The function that a model applies to a layer's output.

    Args:
        name: its name as a module class, such as ``"ReLU"``.
        apply: the function itself, element-wise.
    """

    name: str
    apply: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a module stands in the model: what a builder may want to know beyond the module itself.

    Args:
        path: dotted name of the module.
        activation: the activation that follows the module in the data flow; ``None`` where nothing of the
            kind follows or the graph is not known.
        activation_dropped: whether that activation goes when the module is replaced.
        norm: the normalisation module between the module and that activation, if there is one.
        norm_becomes: whether that normalisation stays, goes into the weights, or goes.
        data: the sample data that will pass through the module, so that ``fit`` can be used.
        parameter: name of the module's parameter that the rule selected; empty where it selected the module.
        seed: decides, with the path, the random numbers of a ``fit``.
        is_last: whether it is the model's last layer, linear or convolution.
        graphs: the graphs of the model's containers (:class:`bioconvert.graph.flow.Graphs`), if they are
            known.
    """

    path: str
    activation: Activation | None = None
    activation_dropped: bool = False
    norm: nn.Module | None = None
    norm_becomes: NormBecomes = "keep"
    data: SampleData = "none"
    parameter: str = ""
    seed: int = 0
    is_last: bool = False
    graphs: object = None

    @property
    def has_data(self) -> bool:
        """Whether there is any sample data."""
        return self.data != "none"
