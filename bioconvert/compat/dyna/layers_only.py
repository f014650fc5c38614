"""The layers of dyna without the model's code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from bioconvert.compat.dyna.kinds import STATIC_BIAS
from bioconvert.compat.dyna.layer import build_layer
from bioconvert.compat.dyna.reading import Imported
from bioconvert.compat.layer_tree import LayerTree, tree_arguments


class LayersOnly(LayerTree):
    """A tree of layers under the names that they had in a model, without the model's forward.

    Args:
        layers: path → name of our class under ``"class"``, and its arguments.
        others: names and shapes of the tensors that belong to no layer; they become buffers.
        ties: groups of names that stand for one parameter.

    Raises:
        ArchitectureError: a name can't be one of a module's or tensor's.

    Example:
        >>> sizes = {"context_length": 16, "rows": 6, "cols": 9}
        >>> model = LayersOnly({"net.0": {"class": "TensorComposerDelta", **sizes}})
        >>> model.get_submodule("net.0")(torch.zeros(2, 16)).shape
        torch.Size([2, 6, 9])
    """

    def _build(self, becomes: str, arguments: Mapping[str, Any]) -> nn.Module:
        return build_layer(becomes, arguments)


def arguments_for(imported: Imported) -> dict[str, Any]:
    """Give the arguments of :class:`LayersOnly`, as JSON can hold them, for what was imported."""
    layers = {layer.path: {"class": layer.becomes, **layer.arguments} for layer in imported.layers}
    constants = [name for name in imported.state if name.rpartition(".")[2] == STATIC_BIAS]
    return tree_arguments(layers, imported.state, imported.others, constants)
