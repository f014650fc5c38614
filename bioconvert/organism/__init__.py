"""Models whose blocks grow and die; importing this package registers what ``wrap:`` does.

Nothing here imports torch before a model is at hand, so that rule files are checked without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports
from bioconvert.organism import wrap as wrap

if TYPE_CHECKING:
    from bioconvert.organism.affinity import probe_expert_affinity
    from bioconvert.organism.branch import Branch
    from bioconvert.organism.callback import GrowthCallback
    from bioconvert.organism.config import DnoConfig
    from bioconvert.organism.dashboard import print_organism_status
    from bioconvert.organism.dno_file import load_dno, save_dno
    from bioconvert.organism.evolvable import BaseEvolvableModule
    from bioconvert.organism.gpt import GPTModel
    from bioconvert.organism.growth_engine import GrowthEngine
    from bioconvert.organism.identity_wrapper import IdentityWrapper
    from bioconvert.organism.manager import OrganismManager
    from bioconvert.organism.network import DynamicNetwork
    from bioconvert.organism.node import Node
    from bioconvert.organism.novelty import route_by_novelty
    from bioconvert.organism.organism import Organism
    from bioconvert.organism.seed_block import SeedBlock
    from bioconvert.organism.survival import Survival
    from bioconvert.organism.survival_engine import SurvivalEngine
    from bioconvert.organism.triggers import GrowthConfig

__all__ = [
    "BaseEvolvableModule",
    "Branch",
    "DnoConfig",
    "DynamicNetwork",
    "GPTModel",
    "GrowthCallback",
    "GrowthConfig",
    "GrowthEngine",
    "IdentityWrapper",
    "Node",
    "Organism",
    "OrganismManager",
    "SeedBlock",
    "Survival",
    "SurvivalEngine",
    "load_dno",
    "print_organism_status",
    "probe_expert_affinity",
    "route_by_novelty",
    "save_dno",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "BaseEvolvableModule": "bioconvert.organism.evolvable",
        "Branch": "bioconvert.organism.branch",
        "DnoConfig": "bioconvert.organism.config",
        "DynamicNetwork": "bioconvert.organism.network",
        "GPTModel": "bioconvert.organism.gpt",
        "GrowthCallback": "bioconvert.organism.callback",
        "GrowthConfig": "bioconvert.organism.triggers",
        "GrowthEngine": "bioconvert.organism.growth_engine",
        "IdentityWrapper": "bioconvert.organism.identity_wrapper",
        "Node": "bioconvert.organism.node",
        "Organism": "bioconvert.organism.organism",
        "OrganismManager": "bioconvert.organism.manager",
        "SeedBlock": "bioconvert.organism.seed_block",
        "Survival": "bioconvert.organism.survival",
        "SurvivalEngine": "bioconvert.organism.survival_engine",
        "load_dno": "bioconvert.organism.dno_file",
        "print_organism_status": "bioconvert.organism.dashboard",
        "probe_expert_affinity": "bioconvert.organism.affinity",
        "route_by_novelty": "bioconvert.organism.novelty",
        "save_dno": "bioconvert.organism.dno_file",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
