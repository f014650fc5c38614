"""The layers of a model whose code isn't at hand: what an imported folder is rebuilt from without it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bioconvert.compat.nmn.layer import build_layer
from bioconvert.compat.nmn.reading import Imported
from bioconvert.core.errors import ArchitectureError


class LayersOnly(nn.Module):
    """A tree of layers under the names that they had in a model, without the model's forward.

    Args:
        layers: path → name of our class under ``"class"``, and its arguments.
        others: names and shapes of the tensors that belong to no layer; they become buffers.
        ties: groups of names that stand for one parameter.

    Raises:
        ArchitectureError: a name can't be one of a module's or tensor's.

    Example:
        >>> model = LayersOnly({"net.0": {"class": "YatLinear", "in_features": 4, "out_features": 2}})
        >>> model.get_submodule("net.0")(torch.zeros(4)).shape
        torch.Size([2])
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
                holder.add_module(name, build_layer(said["class"], arguments))
            for path, shape in (others or {}).items():
                holder, name = self._holder(path)
                holder.register_buffer(name, torch.zeros(tuple(shape)))
        except KeyError as error:
            raise ArchitectureError(
                f"{path!r} can't be the name of a module's part ({error.args[0]}); name an architecture"
            ) from error
        for group in ties:
            self._tie(group)

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


def arguments_for(imported: Imported) -> dict[str, Any]:
    """Give the arguments of :class:`LayersOnly`, as JSON can hold them, for what was imported."""
    return {
        "layers": {layer.path: {"class": layer.becomes, **layer.arguments} for layer in imported.layers},
        "others": {name: list(imported.state[name].shape) for name in imported.others},
        "ties": _ties(imported),
    }


def _ties(imported: Imported) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    others = set(imported.others)
    for name, tensor in imported.state.items():
        if name not in others:
            groups.setdefault(id(tensor), []).append(name)
    return [names for names in groups.values() if len(names) > 1]
