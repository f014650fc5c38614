"""Looking at a model before surgery: what its modules are, and which of them must not be touched, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from bioconvert.core.classes import ancestor_names
from bioconvert.core.errors import ConversionError, OptionError
from bioconvert.core.families import family_of, family_root
from bioconvert.core.wrappers import innermost
from bioconvert.graph.classes import original_class
from bioconvert.graph.flow import Graphs
from bioconvert.graph.nodes import may_enter
from bioconvert.graph.reads import Called, resolve, weights_read_around
from bioconvert.graph.strays import bound_forwards, unregistered
from bioconvert.graph.trace import Untraceable
from bioconvert.graph.tree import ModuleTree
from bioconvert.graph.uses import Use, observed_uses, traced_uses
from bioconvert.ruleset import Candidate
from bioconvert.surgery.samples import Inputs, execution_order, in_mode, preserved, run
from bioconvert.surgery.step import steps_of

_FSDP_MODULE = "torch.distributed.fsdp.FSDPModule"


def unwrapped(model: object) -> nn.Module:
    """Give the model that a compiled or data-parallel wrapper stands for.

    Raises:
        OptionError: it is no module.
        ConversionError: it is wrapped in what can't take new parameters.
    """
    inner, wrapper = innermost(model)
    if not isinstance(inner, nn.Module):
        given = inner.__name__ if isinstance(inner, type) else type(inner).__name__
        raise OptionError(f"a model must be an instance of torch.nn.Module, not {given}")
    if wrapper is not None:
        raise ConversionError(
            f"the model is {wrapper.said}, which has taken note of its parameters already: "
            "work on the model itself, and wrap it afterwards"
        )
    return inner


@dataclass(frozen=True, slots=True, eq=False)
class ReadAround:
    """How a layer's weight is read around its forward.

    Args:
        container: the module that reads it.
        called: whether the container calls the layer too.
        passed_on: whether every use of the weight is to give it to ``linear`` or ``conv*d``.
    """

    container: nn.Module
    called: Called
    passed_on: bool


@dataclass
class Look:
    """What is known of a model before a plan is made.

    Args:
        model: the model, unwrapped.
        example_inputs: inputs that it runs on, if there are any.
    """

    model: nn.Module
    example_inputs: Inputs | None = None
    tree: ModuleTree = field(init=False)
    graphs: Graphs = field(init=False)
    class_refusals: dict[type[nn.Module], str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tree = ModuleTree(self.model)
        self.graphs = Graphs(self.tree)

    @cached_property
    def executed(self) -> Sequence[nn.Module]:
        """The modules that ran on the example inputs, in the order of their first call."""
        return () if self.example_inputs is None else execution_order(self.model, self.example_inputs)

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Every module once, as rules see it: in execution order where that is known."""
        places = {place.module: place for place in self.tree.modules()}
        ordered = dict.fromkeys([module for module in self.executed if module in places])
        return [
            Candidate(self.tree.names_of(module), original_class(module), module, self._functions(module))
            for module in (*ordered, *(module for module in places if module not in ordered))
        ]

    @cached_property
    def last(self) -> nn.Module | None:
        """The last linear or convolutional layer, in execution order where that is known."""
        order = self.executed or [place.module for place in self.tree.modules()]
        layers = (m for m in reversed(order) if family_of(original_class(m)) in ("linear", "conv"))
        return next(layers, None)

    @cached_property
    def strays(self) -> list[Candidate]:
        """The modules in plain lists and dicts, which torch neither trains nor saves, as rules see them."""
        return [Candidate((name,), type(module), module) for module, name in unregistered(self.tree).items()]

    @cached_property
    def bound(self) -> dict[nn.Module, str]:
        """The modules whose forward is held as a bound method, with the name that holds it."""
        return bound_forwards(self.tree)

    def _functions(self, module: nn.Module) -> Callable[[], Mapping[str, str]]:
        def found() -> dict[str, str]:
            borrowed = {b.parameter: b.function for step in steps_of(module) for b in step.borrows}
            return {name: use.function for name, use in self.uses(module).items()} | borrowed

        return found

    def uses(self, module: nn.Module) -> Mapping[str, Use]:
        """Give what a module does with its own parameters: as its graph shows, or as it was seen to run."""
        cls = original_class(module)
        if not any(p is not None for p in module._parameters.values()) or not may_enter(module):
            return {}
        if family_root(cls, "linear") or family_root(cls, "conv"):
            return {}
        try:
            return traced_uses(self.graphs.variants(module), module)
        except Untraceable:
            return self._observed.get(module, {})

    @cached_property
    def _observed(self) -> Mapping[nn.Module, Mapping[str, Use]]:
        if self.example_inputs is None:
            return {}
        with (
            preserved(self.model),
            in_mode(self.model, training=False),
            torch.no_grad(),
            observed_uses(self.model) as found,
        ):
            run(self.model, self.example_inputs)
        return found

    @cached_property
    def read_around(self) -> dict[nn.Module, list[ReadAround]]:
        """The layers whose weight containers read, with each of these."""
        found: dict[nn.Module, list[ReadAround]] = {}
        for place in self.tree.modules():
            if place.module._modules:
                for read in weights_read_around(original_class(place.module)):
                    for layer in resolve(place.module, read.chain):
                        read_here = ReadAround(place.module, read.called, read.passed_on)
                        found.setdefault(layer, []).append(read_here)
        return found

    @cached_property
    def owners(self) -> dict[int, list[str]]:
        """The names under which each parameter is registered, by its ``id``: more than one means tied."""
        found: dict[int, list[str]] = {}
        for place in self.tree.modules():
            for name, parameter in place.module._parameters.items():
                if parameter is not None:
                    found.setdefault(id(parameter), []).append(f"{place.name}.{name}" if place.name else name)
        return found


Check = Callable[[nn.Module, Look], str | None]


def refusal(module: nn.Module, look: Look) -> str | None:
    """Say why the class of a module must not change; ``None`` if it may."""
    for check in _CHECKS:
        reason = check(module, look)
        if reason is not None:
            return reason
    return None


def _own_forward(module: nn.Module, look: Look) -> str | None:  # noqa: ARG001 - one signature for all checks
    if "forward" not in vars(module):
        return None
    return "a forward is set on the instance (as accelerate's hooks do), which would win over any class"


def _bound_before(module: nn.Module, look: Look) -> str | None:
    if module not in look.bound:
        return None
    held = look.bound[module]
    return f"its forward is held as a bound method ({held}), which would go on calling the old one"


def _parametrized(module: nn.Module, look: Look) -> str | None:  # noqa: ARG001
    parametrizations = module._modules.get("parametrizations")
    if parametrizations is None:
        return None
    names = ", ".join(parametrizations._modules)
    return f"{names} is parametrized: remove the parametrization (torch.nn.utils.parametrize) first"


def class_refusal(module: nn.Module, look: Look) -> str | None:
    """Say why a module of its class takes neither another class nor new tensors; ``None`` if it does."""
    cls = type(module)
    if cls not in look.class_refusals:
        look.class_refusals[cls] = _refusal_of_class(cls)
    reason = look.class_refusals[cls]
    if reason is _UNINITIALISED and not module.has_uninitialized_params():  # type: ignore[operator]
        return None
    return reason


_UNINITIALISED = "its parameters have no shape yet: run the model once before converting it"


def _refusal_of_class(cls: type[nn.Module]) -> str | None:
    if issubclass(cls, nn.modules.lazy.LazyModuleMixin):
        return _UNINITIALISED
    if issubclass(cls, torch.jit.ScriptModule):
        return "it is scripted: convert the model first, then script it"
    if _FSDP_MODULE in ancestor_names(cls):
        return "it is sharded by FSDP2 already: convert the model first, then call fully_shard"
    if callable(getattr(cls, "weight", None)):
        return "its weight is a method: it is quantized"
    return None


_CHECKS: tuple[Check, ...] = (_own_forward, _bound_before, class_refusal, _parametrized)
