"""Calls that make one row of each sample, or one number of each of its channels."""

from __future__ import annotations

import torch
from torch import fx

_FLATTENING_METHODS = ("flatten", "view", "reshape")


def flattens(node: fx.Node) -> bool:
    """Say whether a node makes one row of each sample."""
    arguments: list[object] = [*node.args[1:], *node.kwargs.values()]
    if node.target is torch.flatten or (node.op == "call_method" and node.target == "flatten"):
        return bool(arguments) and arguments[0] == 1 and arguments[1:] in ([], [-1])
    return node.op == "call_method" and node.target in _FLATTENING_METHODS and len(_sizes(arguments)) == 2


def _sizes(arguments: list[object]) -> list[object]:
    first = arguments[0] if arguments else None
    return list(first) if len(arguments) == 1 and isinstance(first, (tuple, list)) else arguments


def averages_places(node: fx.Node) -> bool:
    """Say whether a node takes the mean over height and width."""
    if node.target not in (torch.mean, "mean"):
        return False
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return isinstance(dims, (tuple, list)) and sorted(map(str, dims)) in (["2", "3"], ["-1", "-2"])
