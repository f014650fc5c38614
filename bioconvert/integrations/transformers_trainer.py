"""Plasticity and growth of a converted model in transformers' ``Trainer``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bioconvert.checkpoint.architectures.torchvision_ops import import_with_torchvision
from bioconvert.core.errors import OptionError
from bioconvert.organism import Organism
from bioconvert.plasticity import Plasticity

_transformers: Any = import_with_torchvision("transformers")


class BioCallback(_transformers.TrainerCallback):  # type: ignore[misc]
    """Binds a model's mechanisms of plasticity and its evolvable nodes to the trainer's optimizer.

    The trainer makes its optimizer when training begins; from then on every step of it drives them. When
    training ends they are let go, and both stay at hand for growth, history and their state.

    Args:
        seed: every random number of the mechanisms is a function of it.
        state: what :meth:`state_dict` gave, to go on from there.

    Example:
        >>> callback = BioCallback(seed=1)
        >>> callback.plasticity is None  # until training begins
        True
    """

    def __init__(self, *, seed: int = 0, state: Mapping[str, Any] | None = None):
        self.seed = seed
        self.plasticity: Plasticity | None = None
        self.organism: Organism | None = None
        self._state = state

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Bind.

        Raises:
            OptionError: there is neither a mechanism nor a node in the model, or the optimizer doesn't hold
                their weights.
        """
        model, optimizer = given["model"], given["optimizer"]
        self.plasticity, self.organism = _found(Plasticity, model, seed=self.seed), _found(Organism, model)
        if self.plasticity is None and self.organism is None:
            raise OptionError(
                "the model has neither mechanisms of plasticity nor evolvable nodes: convert it by rules "
                "with `attach:` or `wrap:` before training"
            )
        if self.plasticity is not None:
            if self._state is not None:
                self.plasticity.load_state_dict(dict(self._state))
            self.plasticity.bind(optimizer)
        if self.organism is not None:
            self.organism.bind(optimizer)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Let the optimizer step alone again."""
        for each in (self.plasticity, self.organism):
            if each is not None:
                each.unbind()

    def state_dict(self) -> dict[str, Any]:
        """Give what isn't in the model's tensors, for ``state=`` of another callback.

        Raises:
            OptionError: training hasn't begun, or no mechanism is attached.
        """
        if self.plasticity is None:
            raise OptionError(
                "there is no state before training begins, or without a mechanism of plasticity"
            )
        return self.plasticity.state_dict()


def _found(kind: Any, model: Any, **options: Any) -> Any:
    """Make one of a model's systems; ``None`` where it says that the model has nothing for it."""
    try:
        return kind(model, **options)
    except OptionError:
        return None
