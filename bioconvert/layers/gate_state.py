"""Whether a gate is zero everywhere, without asking an accelerator more often than need be."""

from __future__ import annotations

import torch
from torch.utils.weak import WeakIdKeyDictionary

# Beside the gates instead of on them or their layers: copies and pickles must not take an answer along.
_seen: WeakIdKeyDictionary = WeakIdKeyDictionary()


def is_closed(gate: torch.Tensor) -> bool:
    """Say whether a gate is zero everywhere; never, for one whose values can't be known."""
    if gate.device.type == "cpu" or gate.is_inference():
        return not gate.any()
    if gate.is_meta or (gate.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False
    state = (gate._version, gate.data_ptr())
    known = _seen.get(gate)  # type: ignore[no-untyped-call]
    if known is None or known[0] != state:
        known = (state, not gate.any())
        _seen[gate] = known
    closed: bool = known[1]
    return closed
