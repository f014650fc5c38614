"""What a mechanism of plasticity is, and how it gets its name in rule files."""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_type_hints

from bioconvert.core.change import Change, Site, TensorRecipe
from bioconvert.core.errors import Refused
from bioconvert.core.registry import mechanism
from bioconvert.plasticity.schedule import Schedule, Target

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from bioconvert.plasticity.moment import Moment
    from bioconvert.plasticity.part import Part
    from bioconvert.plasticity.synapses import Synapses

OPTIONS = "plasticity"
"""The attribute in which a module keeps the options of its mechanisms: parameter → mechanism → options."""
_Class = TypeVar("_Class", bound="type[Mechanism]")
_classes: dict[str, type[Mechanism]] = {}


@dataclass(frozen=True, kw_only=True)
class Mechanism(Schedule, ABC):
    """A mechanism of plasticity with its options; a subclass is a frozen dataclass of them.

    What it knows of a parameter lies in buffers of the module that owns it, so that it is saved and moved
    with the weight. Around each step of the optimizer, a mechanism that acts then is asked, in this order:

    1. :meth:`prepare`, once for each parameter;
    2. :meth:`scale`, for each part of the parameter, by what the weights' update is multiplied;
    3. :meth:`change`, once for each parameter, after the step.

    Args:
        target: what a rate multiplies: the ``"update"`` that the optimizer made, or the ``"gradient"`` that
            it is given. An adaptive optimizer divides by the size of the gradient: a constant factor is
            lost; ``"auto"`` takes the gradient for plain SGD without weight decay, where both are the same
            and the gradient is cheaper, and the update everywhere else.
    """

    target: Target = "auto"

    name: ClassVar[str]
    scales: ClassVar[bool] = False
    """Whether it has a :meth:`scale`."""
    compares: ClassVar[bool] = False
    """Whether its :meth:`change` looks at the weight before the step."""
    closes: ClassVar[bool] = False
    """Whether its :meth:`change` comes after those of the others, as that of a constraint has to."""

    @property
    def options(self) -> dict[str, Any]:
        """Its options by name, from which :func:`mechanism_named` makes it again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def tensors(self, parameter: str) -> Mapping[str, TensorRecipe]:
        """Say what it keeps of a parameter, by a short name each."""
        del parameter
        return {}

    def check(self, module: nn.Module, parameter: str) -> None:
        """Refuse a parameter that it can't work on.

        Raises:
            Refused: with the reason.
        """

    def amend(self, change: Change, module: nn.Module, parameter: str, site: Site) -> Change:
        """Say what else becomes of a module that carries it: overwritten tensors, another class, warnings.

        Raises:
            Refused: with the reason.
        """
        del module, parameter, site
        return change

    def prepare(self, synapses: Synapses, moment: Moment) -> None:
        """Get ready for a step: take what is needed of the whole parameter."""

    def scale(self, part: Part) -> None:
        """Multiply the factor of a part's update, by ``part.multiply``."""

    def change(self, synapses: Synapses, moment: Moment) -> None:
        """Change the weights, after the optimizer did."""

    def watch(self, synapses: Synapses) -> Iterable[RemovableHandle]:
        """Watch the model at work: register hooks when an optimizer is bound, which go when it is unbound.

        A copy of the model has none of them, if they are made by :func:`~.watching.on_forward`, or are
        a :class:`~.watching.Watcher`.
        """
        del synapses
        return ()

    def report(self, synapses: Synapses) -> Mapping[str, float]:
        """Give what the history notes of a parameter, by name."""
        del synapses
        return {}


def plastic(name: str) -> Callable[[_Class], _Class]:
    """Register a mechanism's class under a name; its fields become the options of ``attach: [name]``."""

    def register(cls: _Class) -> _Class:
        cls.name = name
        mechanism(name)(_builder(name, cls))
        _classes[name] = cls
        return cls

    return register


def mechanism_named(name: str, options: Mapping[str, Any]) -> Mechanism:
    """Give a mechanism with these options; what was a tuple may be a list, as in a file."""
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
    }
    return _classes[name](**given)


def _builder(name: str, cls: type[Mechanism]) -> Callable[..., Change]:
    def build(module: nn.Module, site: Site, **options: Any) -> Change:
        return _attached(module, site, cls(**options))

    hints = get_type_hints(cls, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    given = [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=hints[field.name])
        for field in fields(cls)
    ]
    positional = [
        inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in ("module", "site")
    ]
    build.__signature__ = inspect.Signature([*positional, *given])  # type: ignore[attr-defined]
    build.__name__ = name
    build.__doc__ = cls.__doc__
    build.__wrapped__ = cls  # type: ignore[attr-defined]
    return build


def _attached(module: nn.Module, site: Site, chosen: Mechanism) -> Change:
    """Say what becomes of a module that carries a mechanism."""
    names = [site.parameter] if site.parameter else weights_of(module)
    if not names:
        raise Refused(f"a {type(module).__name__} has no weights of its own")
    for parameter in names:
        chosen.check(module, parameter)
    adds = {
        buffer_name(chosen.name, parameter, key): recipe
        for parameter in names
        for key, recipe in chosen.tensors(parameter).items()
    }
    attributes = {attribute_name(chosen.name, parameter): chosen.options for parameter in names}
    told = ", ".join(names) if names != ["weight"] else ""
    change = Change(adds=adds, attributes=attributes, summary=told)
    for parameter in names:
        change = chosen.amend(change, module, parameter, site)
    return change


def attribute_name(mechanism: str, parameter: str) -> str:
    """Name the attribute that holds a mechanism's options for one parameter."""
    return f"{OPTIONS}_{mechanism}__{parameter}"


def attached_parameters(change: Change) -> list[str]:
    """Name the parameters to which a change attaches a mechanism."""
    prefix = f"{OPTIONS}_"
    names = [name.removeprefix(prefix) for name in change.attributes if name.startswith(prefix)]
    return [name.partition("__")[2] for name in names]


def buffer_name(mechanism: str, parameter: str, key: str) -> str:
    """Name the buffer that holds what a mechanism knows of one parameter."""
    return f"{mechanism}_{key}" if parameter == "weight" else f"{mechanism}_{key}__{parameter}"


def weights_of(module: nn.Module) -> list[str]:
    """Name a module's own parameters that hold synapses: those of two dimensions or more.

    A class whose parameters do other things besides names those that count by ``carries_synapses``: it makes
    no difference whether a mechanism is attached to a layer before it became another, or afterwards.
    """
    own, named = module._parameters.items(), getattr(type(module), "carries_synapses", None)
    found = [name for name, p in own if p is not None and p.dim() > 1 and p.is_floating_point()]
    return found if named is None else [name for name in found if name in named]


def weight_like(parameter: str, make: Callable[[torch.Tensor, Any], torch.Tensor]) -> TensorRecipe:
    """Give the recipe of a buffer that is made from a parameter and the random stream."""
    return TensorRecipe(
        lambda old, stream: make(old[parameter], stream), reads=(parameter,), like=parameter, kind="buffer"
    )
