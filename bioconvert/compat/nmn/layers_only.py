"""The layers of nmn without the model's code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from bioconvert.compat.layer_tree import LayerTree, tree_arguments
from bioconvert.compat.nmn.layer import build_layer
from bioconvert.compat.nmn.reading import Imported


class LayersOnly(LayerTree):
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

    def _build(self, becomes: str, arguments: Mapping[str, Any]) -> nn.Module:
        return build_layer(becomes, arguments)


def arguments_for(imported: Imported) -> dict[str, Any]:
    """Give the arguments of :class:`LayersOnly`, as JSON can hold them, for what was imported."""
    layers = {layer.path: {"class": layer.becomes, **layer.arguments} for layer in imported.layers}
    return tree_arguments(layers, imported.state, imported.others)
