"""Models inside what stands in front of them."""

from __future__ import annotations

from torch import nn

from bioconvert.core.errors import CheckpointError, OptionError
from bioconvert.core.wrappers import innermost


def bare(model: object) -> nn.Module:
    """Give the model that a data-parallel or compiled wrapper stands for, all of whose values are at hand.

    Raises:
        OptionError: it is no module.
        CheckpointError: it is sharded or scripted, so that its state isn't that of the model it was.
    """
    if not isinstance(model, nn.Module):
        raise OptionError(f"a model must be an instance of torch.nn.Module, not {type(model).__name__}")
    inner, wrapper = innermost(model, past_counted=True)
    if wrapper is not None:
        raise CheckpointError(
            f"the model is {wrapper.said}: gather its full state into a plain model and save that"
        )
    assert isinstance(inner, nn.Module)
    return inner
