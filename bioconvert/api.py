"""The functions that users call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import nn

from bioconvert.checkpoint import load_model as load
from bioconvert.checkpoint import save_model as save
from bioconvert.organism import Organism
from bioconvert.plasticity import Plasticity
from bioconvert.surgery import Drift, Plan, Report, drift, finalize, make_plan, morph_step, revert
from bioconvert.surgery.plan import Rules
from bioconvert.surgery.samples import Inputs

__all__ = [
    "Drift",
    "Organism",
    "Plan",
    "Plasticity",
    "Report",
    "convert",
    "drift",
    "finalize",
    "load",
    "morph_step",
    "plan",
    "revert",
    "save",
]

Model = TypeVar("Model", bound=nn.Module)


def plan(
    model: nn.Module,
    rules: Rules,
    *,
    example_inputs: Inputs | None = None,
    calibration: Iterable[Inputs] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    seed: int = 0,
) -> Plan:
    """Say what a rule set would do to a model; nothing is changed.

    Args:
        model: any module; it may be on the meta device, when no inputs are given.
        rules: the name of a built-in rule set, a path, a dict of the file's shape, a ``RuleSet``, or a list
            of these.
        example_inputs: a tuple of positional or a dict of keyword arguments for the model. With them the
            order of execution is known, layers are fitted to their old outputs, and use is proven on apply.
        calibration: batches of sample data, each as ``example_inputs`` or a tensor; layers are fitted to
            them, one after another, with progress in the log. To calibrate, 1,024 samples at most are used,
            and kept in memory meanwhile.
        optimizer: kept in step with the model's parameters on apply.
        seed: every random number is a function of it, of the module's name and of the purpose.

    Returns:
        The plan: print it, or call its ``apply()``.

    Raises:
        RuleError: the rules are wrong, or one of them matches nothing; every problem is named.
        OptionError: an argument can't be used.
        ConversionError: the model is wrapped in what can't take new parameters.

    Example:
        >>> print(plan(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), "yat"))
        1 applied, 0 skipped
                 path  rule    action   how or why
        applied  0     linear  replace  Linear → YatLinear; ReLU dropped
        warning: weight and bias are kept as they are and the layer computes something else: ...
    """
    return make_plan(
        model,
        rules,
        example_inputs=example_inputs,
        calibration=calibration,
        optimizer=optimizer,
        seed=seed,
    )


def convert(
    model: Model,
    rules: Rules,
    *,
    example_inputs: Inputs | None = None,
    calibration: Iterable[Inputs] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    seed: int = 0,
    strict: bool = False,
) -> Model:
    """Convert a model in place: :func:`plan` and apply.

    Args:
        model: any module.
        rules: as for :func:`plan`, like the other arguments.
        example_inputs: see :func:`plan`.
        calibration: see :func:`plan`.
        optimizer: see :func:`plan`.
        seed: see :func:`plan`.
        strict: whether a replaced layer that isn't used on ``example_inputs`` is an error; by default it goes
            back to what it was.

    Returns:
        The same object.

    Raises:
        RuleError: see :func:`plan`.
        OptionError: see :func:`plan`.
        ConversionError: the conversion failed; the model is exactly as it was.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> type(convert(model, "yat")[0]).__name__
        'YatLinear'
    """
    planned = plan(
        model,
        rules,
        example_inputs=example_inputs,
        calibration=calibration,
        optimizer=optimizer,
        seed=seed,
    )
    planned.apply(strict=strict)
    return model
