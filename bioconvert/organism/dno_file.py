"""Networks on disk in the file that dno writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from bioconvert.core.errors import BioconvertError, CorruptFileError, OptionError, first_line
from bioconvert.organism.dno_archive import DnoFile, read_archive, write_archive
from bioconvert.organism.dno_nodes import Factory, Fallback
from bioconvert.organism.dno_reading import DnoReader
from bioconvert.organism.dno_writing import EXTRA, fill, topology_of, weights_of
from bioconvert.organism.network import DynamicNetwork


def save_dno(network: DynamicNetwork, path: str | os.PathLike[str]) -> Path:
    """Write a network as dno does: a zip of ``topology.json``, ``config.json`` and ``weights.pt``.

    The topology tells more than dno's, so that :func:`load_dno` needs no factory.

    Args:
        network: the network.
        path: the file; it appears whole or not at all.

    Returns:
        The file.

    Raises:
        OptionError: it holds converted layers or another network, which such a file can't tell of:
            :func:`bioconvert.save` can.
    """
    target = Path(path)
    write_archive(target, DnoFile(topology_of(network), network.config.to_dict(), weights_of(network)))
    return target


def load_dno(
    path: str | os.PathLike[str],
    module_factory: Factory | None = None,
    *,
    repair: bool = False,
    fallback: Fallback = "pass_through",
) -> DynamicNetwork:
    """Read a network that dno or :func:`save_dno` wrote; nothing in the file is run.

    A file of dno names the class of what a node holds and no more, so that only some can be made from their
    tensors alone. Clones become branches of what they are clones of: dno averages over all paths through the
    network, where each branch is added to its parent here.

    Args:
        path: the file.
        module_factory: makes what a node holds from the name of its class, or gives ``None``. A file of ours
            tells it itself.
        repair: whether something else may stand for nodes that can't be made; the log and the history say
            which. The edges stay.
        fallback: what: ``"pass_through"``, which keeps the widths, or ``"GPTModel"``.

    Raises:
        CheckpointError: there is no such file.
        UnsafeFileError: it would run code, or unpacks to absurd sizes.
        CorruptFileError: it is damaged, or not of dno.
        ArchitectureError: nodes can't be made; every one is named.
        ConversionError: a class that a file of ours names isn't there.
    """
    if fallback not in get_args(Fallback):
        raise OptionError(f"fallback must be one of {', '.join(get_args(Fallback))}, not {fallback!r}")
    file = read_archive(Path(path))
    if EXTRA in file.topology and not _untold(file.topology[EXTRA]):
        return _ours(file, str(path))
    reader = DnoReader(file, str(path), module_factory, repair=repair, fallback=fallback)
    return reader.network()


def _untold(extra: Any) -> bool:
    blueprint = extra.get("blueprint") if isinstance(extra, Mapping) else None
    return bool(isinstance(blueprint, Mapping) and blueprint.get("problems"))


def _ours(file: DnoFile, where: str) -> DynamicNetwork:
    try:
        return fill(DynamicNetwork(), file)
    except BioconvertError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, IndexError) as error:
        raise CorruptFileError(
            f"{where}: it can't be put together ({type(error).__name__}: {first_line(error)})"
        ) from error
