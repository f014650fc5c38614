"""The mark that a converted model leaves in transformers' ``config.json``, and its removal.

transformers would load the weights of a converted model into the original classes and say no more than which
names it didn't expect. Its option ``transformers_weights`` names the file to load; the mark points it to one
that isn't there and whose name says what to use, so that ``from_pretrained`` of transformers fails at once.
Configuration and tokenizer load as before. The rest of the file stays as it is, byte by byte.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.checkpoint.formats.layout import CONFIG
from bioconvert.core.errors import CheckpointError, CorruptFileError
from bioconvert.version import __version__

MARK = "bioconvert"
WEIGHTS = "transformers_weights"
NO_FILE = "converted-by-bioconvert--load-with-bioconvert.load.safetensors"
"""Stands for the weights; transformers takes no name that ends otherwise."""
_MARK_VERSION = 1
_USE = (
    "The model in this folder was converted by bioconvert, and its layers are of other classes than "
    "transformers builds. Load it by bioconvert.load(folder) or "
    "bioconvert.integrations.transformers.from_pretrained(folder); `bioconvert revert` gives a plain folder."
)
_log = logging.getLogger("bioconvert")


def marked(text: bytes, path: Path) -> bytes:
    """Mark the text of a ``config.json`` of transformers; any other text is given back as it is.

    Args:
        text: the file's content.
        path: its path, for the words.
    """
    text = unmarked(text, path)
    config = _parsed(text)
    if config is None or not ("model_type" in config or "architectures" in config):
        return text
    taken = [key for key in (MARK, WEIGHTS) if key in config]
    if taken:
        _log.warning(
            "%s: has a key %r of its own and isn't marked: transformers will load the converted weights into "
            "the original classes",
            path,
            taken[0],
        )
        return text
    opening = text.index(b"{") + 1
    return text[:opening] + _insertion(text) + text[opening:]


def unmarked(text: bytes, path: Path) -> bytes:
    """Take the mark off the text of a ``config.json``, which then is the source's, byte by byte.

    Raises:
        CorruptFileError: the marked file was changed otherwise.
    """
    config = _parsed(text)
    if config is None or not is_marked(config):
        return text
    mark = config[MARK]
    opening = text.index(b"{") + 1
    length = mark.get("length")
    plain = text[:opening] + text[opening + (length if isinstance(length, int) and length > 0 else 0) :]
    if hashlib.sha256(plain).hexdigest() != mark.get("sha256"):
        raise CorruptFileError(
            f"{path}: was changed since bioconvert marked it; take out the keys {MARK!r} and {WEIGHTS!r} "
            "by hand"
        )
    return plain


def is_marked(config: Mapping[str, Any]) -> bool:
    """Say whether a configuration bears the mark."""
    return isinstance(config.get(MARK), dict) and config.get(WEIGHTS) == NO_FILE


def without_mark(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the mark out of a configuration."""
    if not is_marked(config):
        return dict(config)
    return {key: value for key, value in config.items() if key not in {MARK, WEIGHTS}}


def _insertion(text: bytes) -> bytes:
    """Give the members to be put first; they say how long they are, and of what text that leaves."""
    after = b"," if json.loads(text) else b""
    length = 0
    while True:
        mark = {
            "format_version": _MARK_VERSION,
            "version": __version__,
            "use": _USE,
            "sha256": hashlib.sha256(text).hexdigest(),
            "length": length,
        }
        members = f'\n  "{MARK}": {json.dumps(mark)},\n  "{WEIGHTS}": {json.dumps(NO_FILE)}'.encode() + after
        if len(members) == length:
            return members
        length = len(members)


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(text, CONFIG)
    except CheckpointError:
        return None
