"""Text that every machine with Python has: some files of its standard library."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import torch

FILES = (
    "argparse.py",
    "ast.py",
    "configparser.py",
    "datetime.py",
    "doctest.py",
    "email/_header_value_parser.py",
    "inspect.py",
    "ipaddress.py",
    "mailbox.py",
    "optparse.py",
    "pickle.py",
    "subprocess.py",
    "tarfile.py",
    "typing.py",
    "zipfile.py",
)
_LEAST, _MOST = 32, 126
VOCABULARY = _MOST - _LEAST + 2
"""Printable ASCII, and one for all else, which is nearly always the end of a line."""
_VALIDATION = 0.1


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    """Give the characters as numbers, for training and for validation: the end of each file.

    A file that this version of Python lacks is left out.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    train, validation = [], []
    for path in (folder / name for name in FILES):
        if path.is_file():
            numbers = _numbers(path.read_bytes())
            end = int(len(numbers) * (1 - _VALIDATION))
            train.append(numbers[:end])
            validation.append(numbers[end:])
    return torch.cat(train), torch.cat(validation)


def windows(text: torch.Tensor, size: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw stretches of a text, [count, size]."""
    starts = torch.randint(len(text) - size, (count, 1), generator=generator)
    return text[starts + torch.arange(size)]


def _numbers(content: bytes) -> torch.Tensor:
    codes = torch.tensor(list(content))
    printable = (codes >= _LEAST) & (codes <= _MOST)
    return torch.where(printable, codes - _LEAST, VOCABULARY - 1)
