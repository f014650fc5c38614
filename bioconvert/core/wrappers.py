"""The classes that stand in front of a model."""

from __future__ import annotations

from dataclasses import dataclass

from bioconvert.core.classes import ancestor_names


@dataclass(frozen=True, slots=True)
class Wrapper:
    """What stands in front of a model.

    Args:
        said: what to call it.
        inner: the attribute that holds the model; empty where its parts are no longer at hand as they were.
        counted: whether it has taken note of the model's parameters, so that any added since goes unseen.
    """

    said: str
    inner: str = ""
    counted: bool = True


_WRAPPERS = {
    "torch._dynamo.eval_frame.OptimizedModule": Wrapper("a compiled model", "_orig_mod", counted=False),
    "torch.nn.parallel.data_parallel.DataParallel": Wrapper("DataParallel", "module", counted=False),
    "torch.nn.parallel.distributed.DistributedDataParallel": Wrapper("DistributedDataParallel", "module"),
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": Wrapper(
        "FullyShardedDataParallel"
    ),
    "torch.jit._script.ScriptModule": Wrapper("a scripted module"),
}


def innermost(model: object, *, past_counted: bool = False) -> tuple[object, Wrapper | None]:
    """Give the model that wrappers stand for, and the first of them that can't be looked through, if any.

    Args:
        model: the model, wrapped or not.
        past_counted: whether those are looked through that have taken note of the model's parameters.
    """
    wrapper = wrapper_of(type(model))
    while wrapper is not None and wrapper.inner and (past_counted or not wrapper.counted):
        model = getattr(model, wrapper.inner)
        wrapper = wrapper_of(type(model))
    return model, wrapper


def wrapper_of(cls: type) -> Wrapper | None:
    """Say what a model's class is, if it is one that stands in front of another model."""
    ancestors = ancestor_names(cls)
    return next((wrapper for name, wrapper in _WRAPPERS.items() if name in ancestors), None)
