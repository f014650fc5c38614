"""What is known of a node and of a whole organism: plain values, as JSON has them, and nothing else."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]
GROWN = "grown"
"""The child of a node that holds its branches."""
GENERAL = "general"
"""The tag of a core, as opposed to that of an expert."""


def node_record(identity: str, tag: str = GENERAL, *, immortal: bool = False, grace: int = 100) -> Record:
    """Begin the record of a node.

    Args:
        identity: the dotted path of the module, by which the node is known.
        tag: what the node is for.
        immortal: whether nothing may prune it.
        grace: number of steps after its birth within which nothing prunes it by itself.

    Returns:
        ``id``, ``tag``, ``born`` (the step), ``of`` (the ``id`` of what it is a clone of), ``clone``,
        ``active`` (whether it takes part), ``frozen`` (the names of the parameters that are held, ``None``
        for a node that learns), ``dying``, ``immortal``, ``grace``, ``branches`` (the keys of those that
        live) and ``births`` (the number of those that were born).
    """
    return {
        "id": identity,
        "tag": tag,
        "born": 0,
        "of": None,
        "clone": False,
        "active": True,
        "frozen": None,
        "dying": False,
        "immortal": immortal,
        "grace": grace,
        "branches": [],
        "births": 0,
    }


def clone_record(record: Record, key: str, host: str, tag: str, born: int) -> Record:
    """Begin the record of a branch.

    Args:
        record: that of what it is a clone of.
        key: its name among its host's branches.
        host: the ``id`` of its host.
        tag: what it is for.
        born: the step of its birth.
    """
    fresh = node_record(branch_id(host, key), tag, grace=record["grace"])
    return {**fresh, "born": born, "of": record["id"], "clone": True}


def branch_id(host: str, key: str) -> str:
    """Give the ``id`` of a branch."""
    return f"{host}+{key}"


def renamed(identity: str, old: str, new: str) -> str:
    """Give the ``id`` that a node inside a clone has, from that of the node inside the original."""
    return new + identity[len(old) :] if identity.startswith(old) else f"{new}.{identity}"


def organism_record(seed: int) -> Record:
    """Begin the record of an organism.

    Returns:
        ``seed``, ``step`` (number of optimizer steps done), ``births``, ``groups`` (the optimizer groups that
        growth made, in their order), ``history`` (the events) and ``control`` (the state of what decides on
        growth, by name). The organism adds ``parameters``, how many there were when it was made first.
    """
    return {"seed": seed, "step": 0, "births": 0, "groups": [], "history": [], "control": {}}
