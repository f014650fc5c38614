"""Files that can't be read without running what they say."""

from __future__ import annotations

from pathlib import Path

from bioconvert.core.errors import UnsafeFileError


class NeedsCodeError(UnsafeFileError):
    """A file that only its own code can read.

    Args:
        path: the file or folder.
        what: what it is, or what it wants to be called, as a clause after the path.
    """

    def __init__(self, path: Path, what: str):
        super().__init__(
            f"{path}: {what}. Nothing was run. Where it was made, save model.state_dict() with safetensors "
            "instead; or, if you trust whoever made it, let it run code by --unsafe-pickle"
        )
