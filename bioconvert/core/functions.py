"""The functions that a rule's ``type:`` may name, for calls of them on a parameter."""

from __future__ import annotations

from collections.abc import Iterable

_NAMES: dict[str, tuple[str, ...]] = {
    "F.linear": ("torch.nn.functional.linear",),
    "F.conv1d": ("torch.nn.functional.conv1d", "torch.conv1d"),
    "F.conv2d": ("torch.nn.functional.conv2d", "torch.conv2d"),
    "F.conv3d": ("torch.nn.functional.conv3d", "torch.conv3d"),
    "torch.matmul": ("torch.mm",),
}
FUNCTIONS: dict[str, str] = {name: short for short, names in _NAMES.items() for name in (short, *names)}
"""Each name that such a function goes by, with the one that it is called in reports."""


def functions_in(types: Iterable[str]) -> frozenset[str]:
    """Give the functions among the names of a rule's ``type:``."""
    return frozenset(FUNCTIONS[name] for name in types if name in FUNCTIONS)
