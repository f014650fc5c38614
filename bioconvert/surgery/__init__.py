"""Surgery on a model: look, plan, apply, revert, prove, drift."""

from bioconvert.surgery.drift import Difference, Drift, drift
from bioconvert.surgery.finalize import finalize, morph_step
from bioconvert.surgery.plan import Plan, Report, make_plan
from bioconvert.surgery.records import (
    added_tensors,
    describe,
    kept_originals,
    replay,
    restore_originals,
)
from bioconvert.surgery.revert import as_original, revert

__all__ = [
    "Difference",
    "Drift",
    "Plan",
    "Report",
    "added_tensors",
    "as_original",
    "describe",
    "drift",
    "finalize",
    "kept_originals",
    "make_plan",
    "morph_step",
    "replay",
    "restore_originals",
    "revert",
]
