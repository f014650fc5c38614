"""Checks one model: `python -m tests.zoo.worker TITLE RESULT.json MEMORY_GIB`."""

import json
import logging
import resource
import sys
import warnings
from pathlib import Path

from .check import check
from .entry import find
from .samples import sample

GIB = 1024**3


def main(title: str, path: str, memory: str) -> None:
    """Check a model within a limit of memory, and write the result when it is complete."""
    limit = int(float(memory) * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    result = check(title, sample(find(title)))
    partial = Path(path).with_suffix(".partial")
    partial.write_text(json.dumps(result.to_dict()), encoding="utf-8")
    partial.rename(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
