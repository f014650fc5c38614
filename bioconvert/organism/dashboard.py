"""The state of a network's nodes on the terminal."""

from __future__ import annotations

import sys

from bioconvert.organism.manager import OrganismManager


def print_organism_status(manager: OrganismManager) -> None:
    """Print a line for each node, and one for all of them.

    Example:
        >>> from torch import nn
        >>> from bioconvert.organism import DynamicNetwork
        >>> network = DynamicNetwork()
        >>> stem = network.add_layer(nn.Linear(4, 4), name="stem")
        >>> print_organism_status(network.manager)
        node  ...
        stem  ...
        step 0: 1 node, ...
        1 input, 1 output
    """
    ends = f"{_count(manager.inputs, 'input')}, {_count(manager.outputs, 'output')}"
    sys.stdout.write(f"{manager.network.organism}\n{ends}\n")


def _count(names: tuple[str, ...], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"
