"""How far a converted model's outputs are from the original's, layer by layer and end to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.graph.activations import default_function
from bioconvert.graph.tree import ModuleTree
from bioconvert.surgery.look import unwrapped
from bioconvert.surgery.revert import as_original
from bioconvert.surgery.samples import (
    Inputs,
    blamed,
    checked_inputs,
    hooked,
    in_mode,
    preserved,
    run,
    tensors_in,
)
from bioconvert.surgery.step import Step, steps_of


@dataclass(frozen=True, slots=True)
class Difference:
    r"""How far one output is from what it was.

    With :math:`y` the original's output and :math:`\hat y` the converted model's, over all elements:

    Args:
        path: dotted name of the layer; empty for the model's own output.
        max_abs: :math:`\max |\hat y - y|`.
        relative: :math:`\lVert \hat y - y \rVert / \lVert y \rVert`.
        cosine: :math:`\hat y \cdot y / (\lVert \hat y \rVert \lVert y \rVert)`; 1 for equal outputs.
    """

    path: str
    max_abs: float
    relative: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Drift:
    """The differences between a converted model and its original on the same inputs.

    Args:
        layers: one for each replaced layer, in the order of the model; where the activation behind a layer
            was dropped, the layer is compared with what the activation gave.
        output: the model's own output.
    """

    layers: tuple[Difference, ...]
    output: Difference

    def to_dict(self) -> dict[str, object]:
        """Give the differences as values that JSON can hold."""
        return {"layers": [asdict(layer) for layer in self.layers], "output": asdict(self.output)}

    def __str__(self) -> str:
        rows = [*self.layers, self.output]
        width = max(len(row.path or "(output)") for row in rows)
        head = f"{'':{width}}  {'max |Δ|':>10}  {'relative':>10}  {'cosine':>8}"
        return "\n".join([head, *(_line(row, width) for row in rows)])


def _line(row: Difference, width: int) -> str:
    name = row.path or "(output)"
    return f"{name:{width}}  {row.max_abs:10.3g}  {row.relative:10.3g}  {row.cosine:8.4f}"


def drift(model: nn.Module, example_inputs: Inputs) -> Drift:
    """Compare a converted model with its original, with the present weights, in evaluation.

    Nothing of the model changes. An unconverted model has no layers to compare and no difference.

    Raises:
        OptionError: there are no inputs, or the model can't run on them.
    """
    inputs = checked_inputs(example_inputs)
    if inputs is None:
        raise OptionError("drift needs example_inputs to run the model on")
    root = unwrapped(model)
    points = _points(root)
    with preserved(root), in_mode(root, training=False), torch.no_grad():
        with as_original(root):
            before, output_before = _outputs(root, inputs, points, original=True)
        after, output_after = _outputs(root, inputs, points, original=False)
    paths = [path for path in points if path in before and path in after]
    return Drift(
        tuple(_difference(path, before[path], after[path]) for path in paths),
        _difference("", _flat(tensors_in(output_before)), _flat(tensors_in(output_after))),
    )


@dataclass(frozen=True, slots=True)
class _Point:
    """Where a layer is compared: the output of which module in the original, and in the converted model.

    Args:
        original: the module in the original.
        converted: the module in the converted model.
        activation: what the original's output goes through first.
    """

    original: nn.Module
    converted: nn.Module
    activation: Callable[[torch.Tensor], torch.Tensor] | None = None


def _points(model: nn.Module) -> dict[str, _Point]:
    tree = ModuleTree(model)
    by_name = {place.name: place.module for place in tree.places}
    points = {}
    for place in tree.modules():
        for step in steps_of(place.module):
            if step.action == "replace":
                points[place.name] = _point(place.module, step, by_name)
    return points


def _point(layer: nn.Module, step: Step, by_name: Mapping[str, nn.Module]) -> _Point:
    dropping = step.dropping
    if dropping is None:
        return _Point(layer, layer)
    behind = by_name.get(dropping.norm, layer) if dropping.norm is not None else layer
    converted = layer if dropping.norm_dropped else behind
    return _Point(behind, converted, default_function(dropping.activation))


def _outputs(
    model: nn.Module, inputs: Inputs, points: Mapping[str, _Point], *, original: bool
) -> tuple[dict[str, torch.Tensor], Any]:
    seen: dict[str, list[torch.Tensor]] = {}

    def note(path: str, point: _Point) -> Callable[..., None]:
        def called(module: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
            for tensor in tensors_in(output):
                value = tensor.detach().clone()
                if original and point.activation is not None:
                    value = point.activation(value)
                seen.setdefault(path, []).append(value)

        return called

    places = {path: point.original if original else point.converted for path, point in points.items()}
    hooks = hooked(place.register_forward_hook(note(path, points[path])) for path, place in places.items())
    with hooks, blamed("the model fails on the example inputs"):
        output = run(model, inputs)
    return {path: _flat(tensors) for path, tensors in seen.items()}, output


def _flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    if not tensors:
        return torch.zeros(0, dtype=torch.float64)
    return torch.cat([tensor.detach().reshape(-1).double().cpu() for tensor in tensors])


def _difference(path: str, before: torch.Tensor, after: torch.Tensor) -> Difference:
    if before.shape != after.shape:
        raise OptionError(
            f"the outputs of {path or 'the model'!r} have {after.numel()} values and had {before.numel()}"
        )
    if torch.equal(before, after):
        return Difference(path, 0.0, 0.0, 1.0)
    apart, size, new = (float(t.norm()) for t in (after - before, before, after))
    cosine = float(before @ after) / (size * new) if size > 0 and new > 0 else 0.0
    return Difference(
        path, float((after - before).abs().max()), apart / size if size > 0 else float("inf"), cosine
    )
