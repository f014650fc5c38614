"""What a training checkpoint held beside the weights: kept in a file of its kind, or said to be left out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from bioconvert.checkpoint.files.sniff import sniff
from bioconvert.checkpoint.folders.provenance import Origin
from bioconvert.checkpoint.formats.layout import locate
from bioconvert.checkpoint.formats.pickled import load_pickled
from bioconvert.checkpoint.formats.reading import Checkpoint

_SHOWN = 8
_log = logging.getLogger("bioconvert")


def around_of(source: Origin | None, *, keep: bool) -> tuple[Mapping[Any, Any] | None, tuple[str, ...]]:
    """Give the training dict that weights came from, and the keys in it under which they are.

    Args:
        source: the checkpoint.
        keep: whether what is written can hold it; otherwise a logged warning names what is left out.

    Returns:
        The dict and the keys; ``None`` and no keys where there is nothing to keep, or it can't be.
    """
    if not isinstance(source, Checkpoint) or not source.nesting or not source.beside:
        return None, ()
    if keep and not source.by_code:
        (file,) = locate(source.source).files
        return cast("Mapping[Any, Any]", load_pickled(file, sniff(file))), source.nesting
    beside = ", ".join(source.beside[:_SHOWN]) + (", …" if len(source.beside) > _SHOWN else "")
    advice = "only its own code can read the rest" if source.by_code else "--format pt keeps all"
    _log.warning("%s: only the weights are kept, and not %s; %s", source.source, beside, advice)
    return None, ()
