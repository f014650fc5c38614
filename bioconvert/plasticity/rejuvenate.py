"""Replacing what a network has no use for: single synapses, or whole units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field

from bioconvert.core.change import Change, Site, TensorRecipe
from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.lazy import LazyModule
from bioconvert.plasticity.mechanism import Mechanism, attribute_name, buffer_name, plastic
from bioconvert.plasticity.schedule import Count, Period

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from bioconvert.graph.flow import Graphs
    from bioconvert.plasticity import turnover_laws
    from bioconvert.plasticity.moment import Moment
    from bioconvert.plasticity.synapses import Synapses
    from bioconvert.plasticity.unit_scores import UnitWatch
else:
    torch = LazyModule("torch")

Law = Literal["synapse", "reference", "reference_v1", "redo", "continual_backprop"]
_AVERAGES = {"redo": ("activity",), "continual_backprop": ("mean", "utility")}
"""What the laws by unit keep of each."""
_OLD = 1 << 31
"""The age of units that have been there from the start."""


_REPLACED = "rejuvenate replaced"


@plastic("rejuvenate")
@dataclass(frozen=True, kw_only=True)
class Rejuvenate(Mechanism):
    r"""Replaces synapses or units that are of little use, so that a network stays able to learn.

    Synapse by synapse, a weight is replaced with a chance :math:`p` that falls with its size; the optimizer's
    moments of replaced weights are cleared:

    - ``synapse``: :math:`p = e^{-d |w| / \operatorname{std} w}`; a log-normal magnitude of mean and deviation
      :math:`\operatorname{std} w / 2d`, half of that of the weights that go, so that magnitudes don't grow
      however often it acts, but at most those of the parameter's :math:`|w|`. Of the optimizer's moments
      those of the gradients' sizes stay: a synapse's own value hardly changes its gradients, and Adam, with
      its moments cleared, would move the new weights several times too far;
    - ``reference``: the same :math:`p`; :math:`e^{N(\mu, (\sigma / 2)^2)}`, matched to the mean (1e-8 where
      that isn't positive) and the deviation of :math:`w`, always positive, and all weights are clamped to
      [−1, 1]. It has a bias: it drags the mean up or, where the mean isn't positive, prunes;
    - ``reference_v1``: where :math:`|w| < |N(0, \max|w| / d)|`; :math:`U(-1, 1) \max|w|`. It makes small
      weights large and ruins what is learnt. These two replace NaN; ``synapse`` reports it.

    Unit by unit, for Linear and convolution layers whose output another such layer takes in; a unit gets
    fresh incoming weights and a fresh bias, its outgoing weights become 0, and the optimizer's moments of
    both are cleared:

    - ``redo``: where :math:`E|h|` is at most :math:`\tau` times the layer's mean;
    - ``continual_backprop``: those of the least utility, ``rate`` of them a step; what they gave in the mean
      goes to the next layer's bias. Utility is the average of
      :math:`|h - \bar h| \sum|w^{out}| / \overline{|w^{in}|}`. Let it act often: ``every: 1``.

    :math:`h` is what the next layer takes in, seen while training; the groups of a convolution are layers of
    their own. Adam has one count of steps for a whole parameter, with which renewed units would move too far:
    their updates are scaled to what an Adam that began with the unit would do (the reference's laws do
    without, for want of a count for each synapse).

    Args:
        law: which of these it is.
        every: number of steps between replacements.
        d_re: :math:`d`, how fast the chance falls with the size.
        signs: whether a new weight keeps the sign of the old one, or its sign is ``drawn`` by the share of
            negative weights; for ``synapse``.
        tau: :math:`\tau`, for ``redo``.
        rate: share of the units that are replaced for each step, for ``continual_backprop``.
        maturity: number of forward passes in training before a unit may be replaced.
        outgoing: name of the layer that takes the units' output; found by itself where it can be.
        norm: name of the normalisation in between, likewise; a renewed unit's slope and shift begin anew.

    Raises:
        OptionError: at a step, where weights or activities aren't finite.

    Reference:
        Sokar et al., https://arxiv.org/abs/2302.12902; Dohare et al., Nature 632 (2024).
    """

    law: Law = "synapse"
    every: Period = 1000
    d_re: Annotated[float, Field(gt=0)] = 8.0
    signs: Literal["keep", "drawn"] = "keep"
    tau: Annotated[float, Field(ge=0)] = 0.1
    rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    maturity: Count = 100
    outgoing: str = ""
    norm: str = ""

    @property
    def by_unit(self) -> bool:
        """Whether whole units are replaced."""
        return self.law in _AVERAGES

    def check(self, module: nn.Module, parameter: str) -> None:
        """Refuse what has no units, where units are replaced."""
        from bioconvert.graph.receivers import has_units

        if self.by_unit and not (parameter == "weight" and has_units(module)):
            raise Refused(
                f"{self.law} replaces units of Linear and Conv layers, not {parameter} of a "
                f"{type(module).__name__}"
            )

    def amend(self, change: Change, module: nn.Module, parameter: str, site: Site) -> Change:
        """Find the layer that takes the units' output."""
        if not self.by_unit or self.outgoing:
            return change
        from bioconvert.graph.receivers import receiver_of

        if site.graphs is None:
            raise Refused("the layer that takes its units' output isn't known: name it by `outgoing`")
        found = receiver_of(module, cast("Graphs", site.graphs))
        own = replace(self, outgoing=found.path, norm=self.norm or found.norm).options
        attributes = {**change.attributes, attribute_name(self.name, parameter): own}
        return replace(change, attributes=attributes, summary=f"units feed {found.path}")

    def tensors(self, parameter: str) -> Mapping[str, TensorRecipe]:
        """Keep averages and ages of units."""
        if not self.by_unit:
            return {}
        averages = {key: _by_unit(parameter, 0.0) for key in _AVERAGES[self.law]}
        return {**averages, "seen": _by_unit(parameter, 0), "age": _by_unit(parameter, _OLD)}

    def is_due(self, step: int) -> bool:
        """Say whether it acts at a step: ages of units are counted at each."""
        return self.by_unit or super().is_due(step)

    def watch(self, synapses: Synapses) -> Iterable[RemovableHandle]:
        """Watch what the units give to the next layer."""
        if not self.by_unit:
            return ()
        from bioconvert.plasticity.watching import on_forward

        watch = synapses.found[self.name] = self._watch_on(synapses)
        return (on_forward(watch.units.receiver, watch),)

    def prepare(self, synapses: Synapses, moment: Moment) -> None:
        """Remember the weights of young units, or see to it that the law can measure by the weights."""
        if not self.by_unit:
            if self.law == "synapse":
                self._law_at(synapses, moment)
            return
        from bioconvert.plasticity.unit_renewal import young_strands

        units = self._watching(synapses).units
        rows = units.receiver._buffers.get(buffer_name(self.name, "weight", "age"))
        age = synapses.tensor(self, "age")
        moment.notes[self.name] = young_strands(units, age, rows, moment.group)

    def change(self, synapses: Synapses, moment: Moment) -> None:
        """Replace synapses or units."""
        if not self.by_unit:
            self._change_synapses(synapses, moment)
            return
        for young in moment.notes.pop(self.name, ()):
            young.correct(moment.states.get(young.strand.parameter, {}), moment.group)
        synapses.tensor(self, "age").add_(1)
        if super().is_due(moment.step):
            self._change_units(synapses, moment)

    def _change_synapses(self, synapses: Synapses, moment: Moment) -> None:
        from bioconvert.plasticity.turnover import replace_synapses

        law = self._law_at(synapses, moment)
        if law is not None:
            self._count(synapses, replace_synapses(synapses, law, moment.state, step=moment.step))

    def _law_at(self, synapses: Synapses, moment: Moment) -> turnover_laws.Law | None:
        from bioconvert.plasticity.size_statistics import sizes_of
        from bioconvert.plasticity.turnover_laws import law_named

        keep, strength = self.signs == "keep", self.strength_at(moment.step)
        sizes = sizes_of(synapses, signs=not keep)
        return law_named(self.law, synapses, sizes, self.d_re, strength=strength, keep_signs=keep)

    def _change_units(self, synapses: Synapses, moment: Moment) -> None:
        from bioconvert.plasticity.unit_renewal import hand_on, renew

        watch = self._watching(synapses)
        chosen = self._chosen(watch, synapses, moment.step)
        if not len(chosen):
            return
        if self.law == "continual_backprop":
            hand_on(watch.units, chosen, watch.mean())
        renew(watch.units, chosen, synapses, moment)
        self._count(synapses, len(chosen))
        for key in (*_AVERAGES[self.law], "seen", "age"):
            synapses.tensor(self, key)[chosen] = 0

    def report(self, synapses: Synapses) -> Mapping[str, float]:
        """Give the number of synapses, or units, that were replaced since the process began."""
        own = synapses.weight.new_tensor(synapses.found.get(_REPLACED, 0), dtype=torch.float64)
        return {"replaced": float(synapses.total(own))}

    def _count(self, synapses: Synapses, replaced: int) -> None:
        synapses.found[_REPLACED] = synapses.found.get(_REPLACED, 0) + replaced

    def _chosen(self, watch: UnitWatch, synapses: Synapses, step: int) -> torch.Tensor:
        """Give the numbers of the units to be replaced."""
        from bioconvert.plasticity.unit_choice import dormant, least_useful

        score, ripe = watch.score(), synapses.tensor(self, "seen") >= max(self.maturity, 1)
        if not bool(score[ripe].isfinite().all()):
            raise OptionError(f"the activity of the units of {synapses.path!r} isn't finite")
        strength = self.strength_at(step)
        if self.law == "redo":
            return dormant(score, ripe, self.tau * strength)
        islands = watch.units.islands
        uniform = synapses.stream.uniform("rejuvenate units", (islands,), step=step)
        share = self.rate * self.every * strength
        return least_useful(score.view(islands, -1), ripe.view(islands, -1), share, uniform)

    def _watching(self, synapses: Synapses) -> UnitWatch:
        if self.name not in synapses.found:
            synapses.found[self.name] = self._watch_on(synapses)
        watch: UnitWatch = synapses.found[self.name]
        return watch

    def _watch_on(self, synapses: Synapses) -> UnitWatch:
        """Find the layers that the units lie between, in the model as it is.

        Raises:
            OptionError: they can't be found, or are sharded.
        """
        from bioconvert.graph.receivers import check_fit, resolve
        from bioconvert.plasticity.shards import is_distributed
        from bioconvert.plasticity.unit_scores import DormancyWatch, UtilityWatch
        from bioconvert.plasticity.units import Units

        if is_distributed(synapses.held):
            raise OptionError(f"{synapses.path!r} is sharded: its units can't be replaced")
        assert synapses.model is not None
        try:
            receiver = resolve(synapses.model, self.outgoing)
            norm = resolve(synapses.model, self.norm) if self.norm else None
            check_fit(synapses.module, receiver)
        except Refused as refusal:
            raise OptionError(f"{synapses.path!r}: {refusal.reason}") from None
        kind = DormancyWatch if self.law == "redo" else UtilityWatch
        return kind(self, synapses, Units(synapses.module, receiver, norm))


def _by_unit(parameter: str, value: Any) -> TensorRecipe:
    """Give the recipe of one number for each unit, in a type of its own."""
    return TensorRecipe(
        lambda old, stream: torch.full(old[parameter].shape[:1], value, device=old[parameter].device),  # noqa: ARG005
        reads=(parameter,),
        like=None,
        kind="buffer",
    )
