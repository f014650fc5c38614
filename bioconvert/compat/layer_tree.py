"""The layers of a model whose code isn't at hand: what an imported folder is rebuilt from without it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import ArchitectureError


class LayerTree(nn.Module, ABC):
    """A tree of layers under the names that they had in a model, without the model's forward.

    Args:
        layers: path → name of our class under ``"class"``, and its arguments.
        others: names and shapes of the tensors that belong to no layer; they become buffers.
        ties: groups of names that stand for one parameter.

    Raises:
        ArchitectureError: a name can't be one of a module's or tensor's.
    """

    def __init__(
        self,
        layers: Mapping[str, Mapping[str, Any]],
        others: Mapping[str, Sequence[int]] | None = None,
        ties: Iterable[Sequence[str]] = (),
    ):
        super().__init__()
        try:
            for path, said in layers.items():
                arguments = {name: value for name, value in said.items() if name != "class"}
                holder, name = self._holder(path)
                holder.add_module(name, self._build(said["class"], arguments))
            for path, shape in (others or {}).items():
                holder, name = self._holder(path)
                holder.register_buffer(name, torch.zeros(tuple(shape)))
        except KeyError as error:
            raise ArchitectureError(
                f"{path!r} can't be the name of a module's part ({error.args[0]}); name an architecture"
            ) from error
        for group in ties:
            self._tie(group)

    @abstractmethod
    def _build(self, becomes: str, arguments: Mapping[str, Any]) -> nn.Module:
        """Build one of the system's layers from its class name and arguments that JSON can hold."""

    def _holder(self, path: str) -> tuple[nn.Module, str]:
        """Find the module that holds what has a name, and its name there."""
        *parents, name = path.split(".")
        module: nn.Module = self
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        return module, name

    def _tie(self, group: Sequence[str]) -> None:
        first = self.get_parameter(group[0])
        for path in group[1:]:
            holder, name = self._holder(path)
            holder.register_parameter(name, first)

    def forward(self, *_: object) -> torch.Tensor:
        """Say that there is none."""
        raise NotImplementedError(
            "these are the layers of a model whose code isn't known: take them by get_submodule(name), "
            "or load the folder with factory="
        )


def tree_arguments(
    layers: Mapping[str, Mapping[str, Any]],
    state: Mapping[str, torch.Tensor],
    others: Collection[str],
    buffers: Collection[str] = (),
) -> dict[str, Any]:
    """Give the arguments of a :class:`LayerTree`, as JSON can hold them.

    Args:
        layers: path → class and arguments.
        state: all tensors, by our names.
        others: names of those that belong to no layer.
        buffers: names of those that are no parameters of their layers; they aren't tied.
    """
    return {
        "layers": dict(layers),
        "others": {name: list(state[name].shape) for name in others},
        "ties": _ties(state, {*others, *buffers}),
    }


def _ties(state: Mapping[str, torch.Tensor], left_out: Collection[str]) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    for name, tensor in state.items():
        if name not in left_out:
            groups.setdefault(id(tensor), []).append(name)
    return [names for names in groups.values() if len(names) > 1]
