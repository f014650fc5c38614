"""Models of no known architecture: a tree of plain modules that holds tensors under their dotted names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import nn

from bioconvert.checkpoint.architectures.kind import Args, Candidate, Kind
from bioconvert.checkpoint.tensors.ties import Ties
from bioconvert.checkpoint.tensors.torch_dtypes import TORCH_DTYPES
from bioconvert.core.errors import ArchitectureError, CheckpointError

NAME = "tree"
_TENSORS, _TIES = "tensors", "ties"
_DESCRIBED = "described"
"""Attribute of a whole tree: the arguments that it was built with."""
_MAX_DEPTH = 64
"""Parts of a name; Python copies and pickles nested objects by recursion, whose depth is limited."""


class TensorTree(nn.Module):
    """Holds the tensors whose names begin alike, and below them others of its kind.

    Floating-point and complex tensors are parameters, all others are buffers. It can be converted by rules
    about names, shapes and number formats, and saved; it can't be called, as nothing says what is computed.

    Example:
        >>> tree = build_tree({"stem.weight": ("F32", (4, 3)), "stem.steps": ("I64", ())})
        >>> [name for name, _ in tree.named_parameters()], list(tree.state_dict())
        (['stem.weight'], ['stem.weight', 'stem.steps'])
    """

    def forward(self, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG002 - whatever it is called with
        """Refuse.

        Raises:
            ArchitectureError: always.
        """
        raise ArchitectureError(
            "tensors alone can't be run, as nothing says what is computed of them; name the architecture"
        )

    def get_submodule(self, target: str) -> nn.Module:
        """Give a module by its path, also where a part of the path is the name of a method, such as ``type``.

        Raises:
            AttributeError: there is none.
        """
        found: nn.Module | None = self
        for part in target.split(".") if target else ():
            found = None if found is None else found._modules.get(part)
        if found is None:
            raise AttributeError(f"the tree has no module {target!r}")
        return found


def build_tree(tensors: Mapping[str, tuple[str, Sequence[int]]], ties: Ties = ()) -> TensorTree:
    """Build a tree whose state dict has the given names, shapes and number formats, all values zero.

    Args:
        tensors: name → number format, by its name in safetensors files, and shape.
        ties: groups of names that stand for one tensor.

    Raises:
        CheckpointError: a name has an empty part, or a format is one that torch doesn't have.
    """
    root = TensorTree()
    made: dict[str, torch.Tensor] = {}
    first = {name: group[0] for group in ties for name in group[1:]}
    for name, (dtype, shape) in tensors.items():
        leader = first.get(name, name)
        if leader not in made:
            made[leader] = _tensor(leader, dtype, shape)
        _put(root, name, made[leader])
    return root


def tree_of(tensors: Mapping[str, tuple[str, Sequence[int]]], ties: Ties = ()) -> Candidate:
    """Give the architecture of a tree: its name, and what :func:`build_tree` takes, as JSON has it."""
    described = {name: [dtype, list(shape)] for name, (dtype, shape) in tensors.items()}
    return NAME, {_TENSORS: described, _TIES: [list(group) for group in ties]}


def shapes_in(args: Args) -> dict[str, list[int]]:
    """Give the shapes in the arguments of a tree, by name."""
    return {name: shape for name, (_, shape) in args[_TENSORS].items()}


def _tensor(name: str, dtype: str, shape: Sequence[int]) -> torch.Tensor:
    if dtype not in TORCH_DTYPES:
        raise CheckpointError(f"tensor {name[:200]!r} is {dtype}, which torch has no number format for")
    made = torch.zeros(tuple(shape), dtype=TORCH_DTYPES[dtype])
    return nn.Parameter(made) if made.is_floating_point() or made.is_complex() else made


def _put(root: TensorTree, name: str, tensor: torch.Tensor) -> None:
    *parts, last = name.split(".")
    if not last or not all(parts) or len(parts) > _MAX_DEPTH:
        raise CheckpointError(
            f"tensor {name[:200]!r} must have a dotted name of {_MAX_DEPTH} parts at most, none of them empty"
        )
    holder: nn.Module = root
    for part in parts:
        holder = _child(holder, part)
    table: dict[str, Any] = holder._parameters if isinstance(tensor, nn.Parameter) else holder._buffers
    table[last] = tensor


def _child(holder: nn.Module, part: str) -> nn.Module:
    """Give a child, new or old; put into the table, as ``register_module`` refuses names such as ``type``."""
    found = holder._modules.get(part)
    if found is None:
        found = holder._modules[part] = TensorTree()
    return found


def _build(name: str, args: Args) -> nn.Module:
    tensors, ties = args.get(_TENSORS), args.get(_TIES, [])
    if name != NAME or not isinstance(tensors, Mapping) or not isinstance(ties, list):
        raise ArchitectureError("a tree of tensors must list them by name, with number format and shape")
    tree = build_tree(
        {each: (dtype, shape) for each, (dtype, shape) in tensors.items()},
        tuple(tuple(group) for group in ties),
    )
    vars(tree)[_DESCRIBED] = dict(args)
    return tree


def _candidates(model: nn.Module) -> Iterator[Candidate]:
    if isinstance(model, TensorTree) and _DESCRIBED in vars(model):
        yield NAME, vars(model)[_DESCRIBED]


TENSORS = Kind("tensors", "", _build, _candidates)
