"""A model whose forward takes one keyword argument more, the context of layers inside it."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

KEYWORD = "context"


class TakesContext(nn.Module):
    """Shows ``context`` among the arguments of a model's forward.

    A hook takes the argument out of every call (:class:`bioconvert.layers.context.CarryArgument`), so that
    the model's own forward never sees it; who binds arguments by signature, such as ``torch.export``, does.
    """

    keeps_name = True

    @staticmethod
    def members_on(base: type[nn.Module]) -> dict[str, Any]:
        """Give the forward for models of a class."""

        def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return base.forward(self, *args, **kwargs)

        own = inspect.signature(base.forward)
        taken = inspect.Parameter(KEYWORD, inspect.Parameter.KEYWORD_ONLY, default=None)
        positions = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        rest = [p for p in own.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
        forward.__doc__ = base.forward.__doc__
        forward.__wrapped__ = base.forward  # type: ignore[attr-defined]
        forward.__signature__ = own.replace(parameters=[*positions, taken, *rest])  # type: ignore[attr-defined]
        return {"forward": forward}


def takes_keyword(cls: type[nn.Module], name: str = KEYWORD) -> bool:
    """Say whether the forward of a class has an argument of that name."""
    return name in inspect.signature(cls.forward).parameters
