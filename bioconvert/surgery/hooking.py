"""What a converted module calls before and after its forward: registering it, and taking it away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from bioconvert.core.change import Hook

Made = Callable[..., Any]


def made_hooks(hooks: Iterable[Hook]) -> tuple[Made, ...]:
    """Make what a module is to call."""
    return tuple(hook.make(**hook.options) for hook in hooks)


def hook_up(module: nn.Module, hooks: Iterable[Hook], made: Iterable[Made]) -> None:
    """Let a module call what was made of hooks."""
    for hook, each in zip(hooks, made, strict=True):
        if hook.when == "before":
            module.register_forward_pre_hook(each, with_kwargs=True)
        else:
            module.register_forward_hook(each, with_kwargs=True, always_call=True)


def unhook(module: nn.Module, hooked: Iterable[Made]) -> None:
    """Take hooks away from a module; torch's own handles don't know a copy's from the original's."""
    going = {id(made) for made in hooked}
    before = (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs)
    after = (module._forward_hooks, module._forward_hooks_with_kwargs, module._forward_hooks_always_called)
    for hooks, *flags in (before, after):
        for key in [key for key, made in hooks.items() if id(made) in going]:
            del hooks[key]
            for table in flags:
                table.pop(key, None)
