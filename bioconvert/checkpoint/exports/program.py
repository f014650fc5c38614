"""A model's graph as torch.export writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bioconvert.checkpoint.exports.exported import Exported, new_single_file
from bioconvert.checkpoint.exports.inference import (
    Arguments,
    Call,
    described,
    expected_outputs,
    export_error,
    for_inference,
    largest_difference,
    outputs_of,
    without_training_state,
)


def export_program(
    model: nn.Module, arguments: Arguments, path: Path, *, dynamic: bool = False, overwrite: bool = False
) -> Exported:
    """Write a model's graph and tensors by ``torch.export.save``, load the file again, and compare.

    The graph is that of eval mode. The state of mechanisms is left out.

    Args:
        model: the model.
        arguments: sample inputs.
        path: the file, to be named ``*.pt2``.
        dynamic: whether the first dimension of the inputs may have any size.
        overwrite: whether a file may be replaced.

    Raises:
        OptionError: torch can't export the model, or the file computes something else.
        TargetError: the file exists or can't be written.
    """
    given = Call.of(arguments)
    call, shapes = given.dynamic() if dynamic else (given, None)
    calls = [given, call.doubled()] if dynamic else [given]
    with without_training_state(model) as left_out, for_inference(model):
        expected = expected_outputs(model, calls)
        program = _exported(model, call, shapes)
        with new_single_file(path, overwrite=overwrite) as file:
            torch.export.save(program, file)
            loaded = torch.export.load(file)
            run = loaded.module()
            found = largest_difference(expected, [outputs_of(run, each) for each in calls], "the program")
    return Exported(
        path, path.stat().st_size, described(loaded.state_dict), left_out, found, "torch.export.load"
    )


def _exported(model: nn.Module, call: Call, shapes: Any) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(model, call.args, call.kwargs, dynamic_shapes=shapes)
    except Exception as error:
        raise export_error("pt2", error) from error
