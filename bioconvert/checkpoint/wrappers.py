"""Models inside what stands in front of them."""

from __future__ import annotations

from torch import nn

from bioconvert.core.classes import ancestor_names
from bioconvert.core.errors import CheckpointError, OptionError

_WRAPPERS = {
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
}
_OPAQUE = {
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": "FullyShardedDataParallel",
    "torch.jit._script.ScriptModule": "a scripted module",
}


def bare(model: object) -> nn.Module:
    """Give the model that a data-parallel or compiled wrapper stands for, all of whose values are at hand.

    Raises:
        OptionError: it is no module.
        CheckpointError: it is sharded or scripted, so that its state isn't that of the model it was.
    """
    if not isinstance(model, nn.Module):
        raise OptionError(f"a model must be an instance of torch.nn.Module, not {type(model).__name__}")
    ancestors = ancestor_names(type(model))
    for name, said in _OPAQUE.items():
        if name in ancestors:
            raise CheckpointError(
                f"the model is {said}: gather its full state into a plain model and save that"
            )
    for name, attribute in _WRAPPERS.items():
        if name in ancestors:
            return bare(getattr(model, attribute))
    return model
