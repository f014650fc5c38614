"""Finding the user's line that an exception arose from."""

from __future__ import annotations

import linecache
import os
import traceback
from pathlib import Path

import torch

_NOT_THE_USERS = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}")
_LONGEST = 60


def users_line(error: BaseException) -> str:
    """Give ``file:line: source`` of the innermost frame outside torch and this package; empty if none is."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if not name.startswith((*_NOT_THE_USERS, "<")):
            source = linecache.getline(name, line, frame.f_globals).strip()
            shown = source if len(source) <= _LONGEST else source[: _LONGEST - 1] + "…"
            place = f"{Path(name).name}:{line}: {shown}"
    return place
