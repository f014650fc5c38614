"""What a training checkpoint held beside the weights: kept in a file of its kind, or said to be left out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from bioconvert.checkpoint.layout import locate
from bioconvert.checkpoint.needs_code import NeedsCodeError
from bioconvert.checkpoint.pickled import load_pickled
from bioconvert.checkpoint.provenance import Origin
from bioconvert.checkpoint.reading import Checkpoint
from bioconvert.checkpoint.sniff import sniff

_SHOWN = 8
_log = logging.getLogger("bioconvert")


def around_of(source: Origin | None, *, keep: bool) -> tuple[Mapping[Any, Any] | None, tuple[str, ...]]:
    """Give the training dict that weights came from, and the keys in it under which they are.

    Args:
        source: the checkpoint.
        keep: whether it can be kept; otherwise what it holds is named in a logged warning.

    Returns:
        The dict and the keys; ``None`` and no keys where there is nothing to keep, or it can't be.
    """
    if not isinstance(source, Checkpoint) or not source.nesting or not source.beside:
        return None, ()
    beside = ", ".join(source.beside[:_SHOWN]) + (", …" if len(source.beside) > _SHOWN else "")
    if not keep:
        _log.warning(
            "%s: only the weights are kept, and not %s; --format pt keeps all", source.source, beside
        )
        return None, ()
    try:
        return _loaded(source), source.nesting
    except NeedsCodeError:
        _log.warning("%s: only its own code can read %s, which are left out", source.source, beside)
        return None, ()


def _loaded(source: Checkpoint) -> Mapping[Any, Any]:
    (file,) = locate(source.source).files
    return cast("Mapping[Any, Any]", load_pickled(file, sniff(file)))
