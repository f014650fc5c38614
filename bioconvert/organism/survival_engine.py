"""Survival of the nodes of a network under the names that users of dno know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bioconvert.core.errors import OptionError
from bioconvert.organism.config import DnoConfig
from bioconvert.organism.manager import OrganismManager
from bioconvert.organism.node import Node
from bioconvert.organism.survival import Survival
from bioconvert.organism.utilities import information_gain, utility_in

if TYPE_CHECKING:
    from bioconvert.organism.network import DynamicNetwork


class SurvivalEngine:
    """Measures the nodes of a network, lets those that do too little fade, and removes them.

    Args:
        manager: that of the network.
        config: every knob; those of the moment count.

    Example:
        >>> from torch import nn
        >>> from bioconvert.organism import DynamicNetwork
        >>> network = DynamicNetwork(config=DnoConfig(grace_period=0))
        >>> stem, idle = network.add_layer(nn.Linear(4, 4)), network.add_layer(nn.Identity())
        >>> engine, x = SurvivalEngine(network.manager, network.config), torch.ones(2, 4)
        >>> _ = engine.calculate_information_gain(network.members[idle], x, x)
        >>> engine.garbage_collect(network), list(network.members)
        (1, ['linear1'])
    """

    def __init__(self, manager: OrganismManager, config: DnoConfig):
        self.manager = manager
        self.config = config

    def calculate_information_gain(
        self, module: Node, input_tensor: torch.Tensor, output_tensor: torch.Tensor
    ) -> torch.Tensor | None:
        """Take note of how far a node moved the distribution over features, as a running mean.

        Args:
            module: the node.
            input_tensor: what it was given.
            output_tensor: what it gave.

        Returns:
            The divergence of both, softmaxed; ``None`` where they aren't of one shape.
        """
        if input_tensor.shape != output_tensor.shape:
            return None
        gain = information_gain(input_tensor, output_tensor)
        utility_in(module.node_record).add("information", gain)
        return gain

    def apply_selective_decay(self, optimizer: Any = None) -> None:
        """Say anew which nodes are dying, and let the parameters of these shrink a little.

        Args:
            optimizer: its steps are counted from now on, which tell how old nodes are.
        """
        if optimizer is not None:
            self.manager.network.organism.bind(optimizer)
        survival = self._survival()
        survival.mark()
        survival.apply_selective_decay()

    def garbage_collect(self, network: DynamicNetwork | None = None) -> int:
        """Remove the nodes that are dying; their children are fed by their parents. The last one stays.

        Args:
            network: the manager's own.

        Returns:
            How many went.

        Raises:
            OptionError: the manager serves another network.
        """
        if network is not None and network is not self.manager.network:
            raise OptionError("the network must be the one that the manager serves")
        survival, network = self._survival(), self.manager.network
        survival.mark()
        count = 0
        for name in survival.dying():
            node = self.manager.registry.get(name)  # it may have gone with its host
            if node is not None and (name not in network.members or len(network.members) > 1):
                network.remove_layer(node)
                count += 1
        return count

    def _survival(self) -> Survival:
        self.config.check()
        return Survival(
            self.manager.network.organism,
            threshold=self.config.utility_threshold,
            decay=self.config.pruning_decay_constant,
            blocks=True,
        )
