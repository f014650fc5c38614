"""What a Yat layer's tensors are to start from: the choice among the ways, and what each of them costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from bioconvert.core.change import Fit, SampleData, Site
from bioconvert.core.errors import Refused

Init = Literal["auto", "keep", "closed_form", "calibrate", "affine", "fresh"]
Way = Literal["keep", "closed_form", "calibrate", "affine", "fresh"]

RELATIVE_FLOOR = 1e-5
"""Floor of the denominator over ‖x‖² + ‖w‖²: the rounding of fp32 in their difference."""
DEFAULT_EPSILON = 1e-5
"""ε where ``epsilon: auto`` has no data to be relative to: the reference's."""
_AUTOMATIC: Mapping[SampleData, Way] = {
    "none": "keep",
    "example": "closed_form",
    "calibration": "calibrate",
}
_IDEMPOTENT = ("ReLU", "ReLU6", "Hardtanh")
_PLAIN = {"bias_mode": "pre", "alpha": "learnable", "epsilon": "auto", "taps": "contributing"}
_OF_NO_MATTER = ("per_unit", "offset", "drop_connect", "freeze_kernel", "mask")

KEPT = (
    "weight and bias are kept as they are and the layer computes something else: with calibration, or "
    "example inputs for a layer before an activation, it is fitted to what it gave"
)
SIGNED = (
    "no activation goes with the layer, and a Yat unit is bounded to one side: fitted to signed outputs it "
    "follows them roughly, and only where the samples are; `init: affine` or `morph` keep them"
)
STRAIGHT = (
    "`init: affine` is a linear layer in disguise: vertex and epsilon are so far out that it is straight"
)
FORGETS = "the trained weights are drawn anew: what the network has learnt there is lost"
SUMMARIES: Mapping[Way, str] = {
    "keep": "",
    "closed_form": "fitted to its old outputs",
    "calibrate": "calibrated on samples",
    "affine": "as straight as the layer was",
    "fresh": "drawn anew",
}


class Start(NamedTuple):
    """What a rule says about a layer's start.

    Args:
        init: what it starts from.
        refine: number of gradient steps after a calibration.
        hand_on: whether the fitted scale and offset go into the layer behind.
    """

    init: Init
    refine: int = 0
    hand_on: bool = False


def chosen_way(start: Start, site: Site, options: Mapping[str, Any]) -> Way:
    """Choose what a layer's tensors start from.

    Raises:
        Refused: what is asked for outright can't be done here.
    """
    automatic = start.init == "auto"
    way: Way = _AUTOMATIC[site.data] if start.init == "auto" else start.init
    obstacle = _obstacle(way, site, options)
    if obstacle is not None and not automatic:
        raise Refused(f"`init: {way}` is impossible: {obstacle}")
    chosen = way if obstacle is None else "keep"
    if start.hand_on and chosen not in ("closed_form", "calibrate"):
        raise Refused(
            f"`hand_on` is for a scale that is fitted, and nothing is fitted here: {obstacle or chosen}"
        )
    return chosen


def warnings_for(way: Way, site: Site) -> tuple[str, ...]:
    """Give what the user should know of a layer that starts so."""
    found = {"keep": (KEPT,), "affine": (STRAIGHT,), "fresh": (FORGETS,)}
    if way == "calibrate" and imitated(site).activation is None:
        return (SIGNED,)
    return found.get(way, ())


def fit_for(way: Way, site: Site, refine: int) -> Callable[[], Fit]:
    """Give what finds the tensors on sample data; ``keep`` finds ε alone."""

    def make() -> Fit:
        # Imported here, so that rule files are checked without torch.
        from bioconvert.replacements.calibrated import STRAIGHT, Calibrated
        from bioconvert.replacements.closed_form import ClosedForm, InputNorm
        from bioconvert.replacements.fresh import Fresh

        if way == "closed_form":
            return ClosedForm(site, DEFAULT_EPSILON)
        if way == "fresh":
            return Fresh(site)
        if way == "calibrate":
            return Calibrated(imitated(site), RELATIVE_FLOOR, DEFAULT_EPSILON, refine)
        if way == "affine":
            return Calibrated(_alone(site), RELATIVE_FLOOR, DEFAULT_EPSILON, grid=STRAIGHT)
        return InputNorm(DEFAULT_EPSILON)

    return make


def imitated(site: Site) -> Site:
    """Say what a calibrated layer stands for: layer and activation, or the layer alone.

    An activation that stays is imitated too, if to apply it twice is to apply it once.
    """
    if site.activation is not None and (site.activation_dropped or site.activation.name in _IDEMPOTENT):
        return site
    return _alone(site)


def _alone(site: Site) -> Site:
    norm = None if site.norm_becomes == "keep" else site.norm
    return dataclasses.replace(site, activation=None, norm=norm)


def _obstacle(way: Way, site: Site, options: Mapping[str, Any]) -> str | None:
    """Say what stands in the way of a way."""
    if way == "keep" or (way == "fresh" and not site.has_data):
        return None
    if not site.has_data:
        return "there is no sample data: give example_inputs or calibration"
    special = [
        f"`{name}: {value}`"
        for name, value in options.items()
        if name not in _OF_NO_MATTER and not _is_plain(name, value)
    ]
    if special:
        return f"it needs a plain layer with `epsilon: auto`, without {', '.join(special)}"
    return _obstacle_behind(way, site)


def _obstacle_behind(way: Way, site: Site) -> str | None:
    """Say what of that which stands behind the layer stands in the way."""
    if way == "fresh":
        return None
    if way == "affine":
        dropped = site.activation_dropped
        return "the activation goes, which a straight line can't stand for" if dropped else None
    relevant = site if way == "closed_form" else imitated(site)
    if relevant.norm is not None and getattr(relevant.norm, "running_var", None) is None:
        return f"{type(relevant.norm).__name__} between it and its activation has no running statistics"
    if way == "calibrate":
        return None
    if site.activation is None:
        return "no activation is known to follow the layer"
    if not (site.activation_dropped or site.activation.name in _IDEMPOTENT):
        return f"{site.activation.name} stays behind the layer: say `activation: drop`"
    return None


def _is_plain(name: str, value: object) -> bool:
    return value == _PLAIN[name] if name in _PLAIN else value is None or value is False
