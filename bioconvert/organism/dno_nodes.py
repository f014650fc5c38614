"""Nodes of a dno file: from the name of a class and the shapes of tensors to a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from bioconvert.core.errors import ArchitectureError, Refused, first_line
from bioconvert.organism.config import DnoConfig
from bioconvert.organism.evolvable import BaseEvolvableModule
from bioconvert.organism.gpt import GPTModel
from bioconvert.organism.identity_wrapper import IdentityWrapper
from bioconvert.organism.pass_through import PassThrough
from bioconvert.organism.seed_block import SeedBlock

Factory = Callable[[str], "nn.Module | None"]
Fallback = Literal["pass_through", "GPTModel"]
Tensors = Mapping[str, torch.Tensor]
_HELD = "child_module."
_GATE = "gamma"
_PLAIN = ("Identity", "ReLU", "GELU", "SiLU", "Tanh", "Sigmoid", "Flatten", "Softplus", "Mish", "Hardtanh")
"""Classes without tensors whose instances are hardly ever made with arguments."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a file tells of one node.

    Args:
        name: its ``id``.
        kind: the class of what it holds.
        tensors: those of what it holds, by name.
        entry: all that its entry in the topology says.
    """

    name: str
    kind: str
    tensors: Tensors
    entry: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Name it for an error."""
        return f"{self.name!r} ({self.kind})"


def own_tensors(name: str, weights: Tensors) -> dict[str, torch.Tensor]:
    """Give the tensors of what a node holds, without its gate, whatever it is wrapped in."""
    prefix = f"modules_dict.{name}."
    own = {key[len(prefix) :]: tensor for key, tensor in weights.items() if key.startswith(prefix)}
    held = {key: tensor for key, tensor in own.items() if key != _GATE}
    while held and all(key.startswith(_HELD) for key in held):
        held = {key[len(_HELD) :]: tensor for key, tensor in held.items()}
    return held


def make_node(told: Told, config: DnoConfig, factory: Factory | None) -> BaseEvolvableModule:
    """Make a node with its values.

    Args:
        told: what the file tells.
        config: the file's settings.
        factory: makes what a node holds from the name of its class; asked first.

    Raises:
        Refused: neither the factory nor the file tells what the node holds, or its tensors don't fit.
    """
    made = _by_factory(told, factory)
    if made is None:
        made = _by_tensors(told, config)
    held = made.child_module if isinstance(made, BaseEvolvableModule) else made
    _load(held, told.tensors)
    node = made if isinstance(made, BaseEvolvableModule) else BaseEvolvableModule(made)
    return _with_gate(node, told) if _GATE in told.entry else node


def stand_in(told: Told, config: DnoConfig, fallback: str) -> BaseEvolvableModule:
    """Make what stands for a node that can't be made.

    Args:
        told: what the file tells of it.
        config: the file's settings.
        fallback: what stands for it.

    Raises:
        ArchitectureError: it doesn't keep the width.
    """
    widths = widths_of(told.tensors)
    if fallback == "GPTModel":
        if widths is not None and widths != (config.d_model, config.d_model):
            raise ArchitectureError(
                f"a GPTModel of width {config.d_model} can't stand for {told.label}, which makes {widths[1]} "
                f"of {widths[0]} features: use the fallback 'pass_through'"
            )
        return BaseEvolvableModule(GPTModel(config, causal=False))
    if widths is None or widths[0] == widths[1]:
        return BaseEvolvableModule(nn.Identity())
    return BaseEvolvableModule(PassThrough(*widths))


def widths_of(tensors: Tensors) -> tuple[int, int] | None:
    """Tell from the first and the last weight how many features go in and come out, if there are weights."""
    weights = [tensor for name, tensor in tensors.items() if name.endswith("weight") and tensor.ndim > 1]
    return (weights[0].shape[1], weights[-1].shape[0]) if weights else None


def _by_factory(told: Told, factory: Factory | None) -> nn.Module | None:
    if factory is None:
        return None
    try:
        made = factory(told.kind)
    except Exception as error:
        raise Refused(f"module_factory failed: {first_line(error)}") from error
    if made is not None and not isinstance(made, nn.Module):
        raise Refused(f"module_factory must give a module or None, and gave a {type(made).__name__}")
    return made


def _by_tensors(told: Told, config: DnoConfig) -> nn.Module:
    if "mask_config" in told.entry:
        return _seed_block(told)
    if told.kind in _PLAIN and not told.tensors:
        made: nn.Module = getattr(nn, told.kind)()
        return made
    if told.kind not in _MAKERS:
        raise Refused("the file doesn't tell what it is made of")
    try:
        return _MAKERS[told.kind](told.tensors, config)
    except (KeyError, ValueError, IndexError) as error:
        raise Refused(f"its tensors aren't those of a {told.kind}: {first_line(error)}") from None


def _seed_block(told: Told) -> SeedBlock:
    try:
        hidden, width = told.tensors["0.weight"].shape
        block = SeedBlock(input_dim=width, hidden_dim=hidden)
        block.apply_mask({str(name): bool(frozen) for name, frozen in told.entry["mask_config"].items()})
    except (AttributeError, KeyError, ValueError) as error:
        raise Refused(f"its tensors or its mask aren't those of a SeedBlock: {first_line(error)}") from None
    return block


def _linear(tensors: Tensors, _: DnoConfig) -> nn.Module:
    units, features = tensors["weight"].shape
    return nn.Linear(features, units, bias="bias" in tensors)


def _gpt(tensors: Tensors, config: DnoConfig) -> nn.Module:
    (width,) = tensors["ln1.weight"].shape
    # In dno every place attends to all others.
    return GPTModel(DnoConfig.from_dict({**config.to_dict(), "d_model": width}), causal=False)


_MAKERS: Mapping[str, Callable[[Tensors, DnoConfig], nn.Module]] = {
    "Linear": _linear,
    "Embedding": lambda tensors, _: nn.Embedding(*tensors["weight"].shape),
    "LayerNorm": lambda tensors, _: nn.LayerNorm(tensors["weight"].shape[0], bias="bias" in tensors),
    "GPTModel": _gpt,
}


def _load(module: nn.Module, tensors: Tensors) -> None:
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        said = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise Refused(f"its tensors don't fit a {type(module).__name__}: {said}") from None


def _with_gate(node: BaseEvolvableModule, told: Told) -> BaseEvolvableModule:
    wrapper = IdentityWrapper(node.child_module)
    with torch.no_grad():
        wrapper.gamma.fill_(float(told.entry[_GATE]))
    return wrapper
