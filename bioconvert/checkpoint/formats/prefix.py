"""What wrappers put before every name of a state dict."""

from __future__ import annotations

from collections.abc import Iterable

PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "model.")
"""What DataParallel, torch.compile, FSDP, activation checkpointing and Lightning put before every name."""


def common_prefix(names: Iterable[str]) -> str:
    """Give what wrappers put before *every* name, in any nesting; empty where one name lacks it."""
    remaining = list(names)
    stripped = ""
    while remaining:
        prefix = next(
            (p for p in PREFIXES if all(n.startswith(p) and len(n) > len(p) for n in remaining)), None
        )
        if prefix is None:
            break
        stripped += prefix
        remaining = [name[len(prefix) :] for name in remaining]
    return stripped
