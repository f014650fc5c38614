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
        changed: tensors of the plain layer that have got other values, which such a checkpoint undoes.
    """

    names: tuple[str, ...]
    changed: tuple[str, ...] = ()

    def __call__(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        """Fill in, before the module reads the state dict."""
        lacking = [name for name in self.names if f"{prefix}{name}" not in state_dict]
        for name in lacking:
            held: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
            if held.get(name) is not None:
                state_dict[f"{prefix}{name}"] = held[name].detach()
        if not lacking:
            return
        name, listed = prefix.rstrip("."), ", ".join(sorted(lacking))
        _log.info("%s: not in the checkpoint, so kept as it is: %s", name, listed)
        if self.changed:
            _log.warning(
                "%s: the checkpoint is from before the conversion, which had given new values to %s: the "
                "layer no longer does what it was fitted to; convert again after loading",
                name,
                ", ".join(self.changed),
            )


def tolerate(module: nn.Module, names: Iterable[str], changed: Iterable[str] = ()) -> None:
    """Let a module load state dicts that lack some of its tensors.

    Args:
        module: the module.
        names: what may be lacking.
        changed: tensors of the plain layer that have got other values.
    """
    hook = Additions(tuple(names), tuple(changed))
    module.register_load_state_dict_pre_hook(hook)  # type: ignore[no-untyped-call]


def insist(module: nn.Module, names: Iterable[str]) -> None:
    """Let a module demand these tensors again."""
    wanted, held = tuple(names), module._load_state_dict_pre_hooks
    for key, wrapped in list(held.items()):
        hook = getattr(wrapped, "hook", None)
        if isinstance(hook, Additions) and hook.names == wanted:
            del held[key]
