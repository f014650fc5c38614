"""What stands behind a layer, and what a rule wants to become of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import nn

from bioconvert.core.change import NormBecomes, Site
from bioconvert.core.errors import Refused
from bioconvert.graph.activations import ACTIVATIONS
from bioconvert.graph.edits import Part
from bioconvert.graph.flow import Following
from bioconvert.graph.trace import Untraceable
from bioconvert.graph.walk import Mismatch
from bioconvert.ruleset import Attach, Link, Replace, Rule, Wrap
from bioconvert.surgery.drops import DropRequest, followers, only_norm
from bioconvert.surgery.look import Look
from bioconvert.surgery.morphing import Follower, Morph, device_of

_AFTERWARDS = (
    Link(alternatives=("norm",), optional=True),
    Link(alternatives=tuple(sorted(ACTIVATIONS)), optional=True),
)
"""What is looked for behind a layer when its rule names no pattern and sample data is at hand."""


@dataclass(frozen=True, slots=True)
class LayerChain:
    """What stands behind a layer.

    Args:
        following: what follows each of its calls; ``None`` where that isn't known or nobody asked.
        norm: the normalisation that goes, or goes into the weights.
        norm_becomes: what becomes of a normalisation.
        drops_activation: whether the activation goes.
    """

    following: Following | None = None
    norm: nn.Module | None = None
    norm_becomes: NormBecomes = "keep"
    drops_activation: bool = False

    @classmethod
    def behind(
        cls, module: nn.Module, rule: Rule, action: Replace | Attach | Wrap, look: Look, *, has_data: bool
    ) -> LayerChain:
        """Look at what stands behind a module, if the rule or the sample data make it worth knowing.

        Raises:
            Refused: it isn't what the rule asks for.
        """
        links = rule.match.followed_by
        replaces = isinstance(action, Replace)
        if not links and not (has_data and replaces):
            return cls()
        try:
            following = look.graphs.following(module, links or _AFTERWARDS)
        except (Mismatch, Untraceable) as reason:
            if links:
                raise Refused(f"`followed_by`: {reason}") from reason
            return cls()
        if not isinstance(action, Replace) or not links:
            return cls(following)
        norm = None if action.norm == "keep" else only_norm(following, look.graphs)
        return cls(following, norm, action.norm, action.activation == "drop")

    @property
    def parts(self) -> tuple[Part, ...]:
        """What goes."""
        activation: tuple[Part, ...] = ("activation",) if self.drops_activation else ()
        return activation if self.norm_becomes == "keep" else (*activation, "norm")

    @property
    def keeps_something(self) -> bool:
        """Whether an activation or a norm that follows stays where it is, or whether that isn't known."""
        if self.following is None:
            return True
        chains = self.following.chains
        activation = any(chain.activations for chain in chains) and not self.drops_activation
        return activation or (any(chain.norms for chain in chains) and self.norm_becomes == "keep")

    @property
    def _norm_stays_in_between(self) -> bool:
        if self.following is None or self.norm_becomes != "keep" or not self.drops_activation:
            return False
        return any(chain.norms for chain in self.following.chains)

    def site(self, base: Site) -> Site:
        """Say where the layer stands.

        Args:
            base: what is known of it beside what follows it.
        """
        if self.following is None:
            return base
        first = self.following.chains[0]
        told = [(chain.norm, chain.activation and chain.activation.name) for chain in self.following.chains]
        if len(set(told)) > 1:
            return base
        return dataclasses.replace(
            base,
            activation=first.activation,
            activation_dropped=self.drops_activation,
            norm=first.norm,
            norm_becomes=self.norm_becomes,
        )

    def followers(self) -> tuple[Follower, ...]:
        """Give what a morphing layer takes in: what goes with it, unless a normalisation stays in between.

        Raises:
            Refused: it can't be taken in.
        """
        if self.following is None or not self.parts or self._norm_stays_in_between:
            return ()
        return followers(self.following, self.parts)

    def request(self, layer: nn.Module, rule: str, look: Look, morph: Morph | None) -> DropRequest | None:
        """Say what has to be left out of the model."""
        if self.following is None or not self.parts:
            return None
        fading = morph.steps if morph is not None and self._norm_stays_in_between else 0
        absorbed = morph is not None and not fading
        device = device_of(layer)
        return DropRequest(rule, self.following, self.parts, fading, absorbed, device, look.tree)
