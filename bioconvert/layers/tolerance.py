"""Loading the checkpoint of a plain layer into one that has more tensors: what it lacks keeps its value."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

_log = logging.getLogger("bioconvert")


@dataclass(frozen=True)
class Additions:
    """Fills in what a state dict lacks of a module's additions, with a notice; a hook of ``load_state_dict``.

    Args:
        names: the additions.
    """

    names: tuple[str, ...]

    def __call__(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        """Fill in, before the module reads the state dict."""
        lacking = [name for name in self.names if f"{prefix}{name}" not in state_dict]
        for name in lacking:
            held: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
            if held.get(name) is not None:
                state_dict[f"{prefix}{name}"] = held[name].detach()
        if lacking:
            listed = ", ".join(sorted(lacking))
            _log.info("%s: not in the checkpoint, so kept as it is: %s", prefix.rstrip("."), listed)


def tolerate(module: nn.Module, names: Iterable[str]) -> None:
    """Let a module load state dicts that lack some of its tensors."""
    module.register_load_state_dict_pre_hook(Additions(tuple(names)))  # type: ignore[no-untyped-call]


def insist(module: nn.Module, names: Iterable[str]) -> None:
    """Let a module demand these tensors again."""
    hook = Additions(tuple(names))
    held = module._load_state_dict_pre_hooks
    for key in [key for key, wrapped in held.items() if getattr(wrapped, "hook", None) == hook]:
        del held[key]
