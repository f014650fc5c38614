"""A model as an ONNX file."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bioconvert.checkpoint.exports.exported import Exported, new_single_file
from bioconvert.checkpoint.exports.inference import (
    Arguments,
    Call,
    expected_outputs,
    export_error,
    for_inference,
    largest_difference,
    without_training_state,
)
from bioconvert.core.errors import OptionError, first_line

_log = logging.getLogger("bioconvert")
_PACKAGES = ("onnx", "onnxscript")
_LIMIT = (2 << 30) - (16 << 20)
"""Bytes of tensors in one file: protobuf holds less than 2 GiB, and the graph needs some."""


def check_onnx_installed() -> None:
    """Check that what writes ONNX is there.

    Raises:
        OptionError: it isn't; with what to install.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise OptionError(f"ONNX needs {' and '.join(missing)}: pip install 'torch-bioconvert[onnx]'")


def export_onnx(
    model: nn.Module, arguments: Arguments, path: Path, *, dynamic: bool = False, overwrite: bool = False
) -> Exported:
    """Write a model as an ONNX file, check it, run it where that is possible, and compare.

    The graph is that of eval mode; the state of mechanisms is left out. The file is
    run by onnxruntime where that is installed, otherwise by ONNX's reference implementation.

    Args:
        model: the model.
        arguments: sample inputs.
        path: the file.
        dynamic: whether the first dimension of the inputs may have any size.
        overwrite: whether a file may be replaced.

    Raises:
        OptionError: ONNX isn't installed, torch can't export the model, it is larger than a file can be, or
            the file computes something else.
        TargetError: the file exists or can't be written.
    """
    check_onnx_installed()
    _check_size(model)
    given = Call.of(arguments)
    call, shapes = given.dynamic() if dynamic else (given, None)
    calls = [given, call.doubled()] if dynamic else [given]
    with without_training_state(model) as left_out, for_inference(model):
        _check_size(model)
        expected = expected_outputs(model, calls)
        with new_single_file(path, overwrite=overwrite) as file:
            _write(model, call, shapes, file)
            tensors = _checked(file)
            found, by = _compare(expected, file, calls)
    return Exported(path, path.stat().st_size, tensors, left_out, found, by)


def _check_size(model: nn.Module) -> None:
    size = sum(t.nbytes for t in {*model.parameters(), *model.buffers()})
    if size > _LIMIT:
        raise OptionError(
            f"the model has {size} bytes of tensors, and an ONNX file holds less than 2 GiB; export it as pt2"
        )


def _write(model: nn.Module, call: Call, shapes: Any, file: Path) -> None:
    try:
        with _quietly():
            program: Any = torch.onnx.export(
                model, call.args, kwargs=call.kwargs, dynamo=True, dynamic_shapes=shapes, verbose=False
            )
            program.save(file)
    except OSError:
        raise
    except Exception as error:
        raise export_error(
            "ONNX", error.__cause__ if isinstance(error.__cause__, Exception) else error
        ) from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep torch's exporter from printing and from warning about its own code."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _checked(file: Path) -> int:
    """Check a file by ONNX's own rules and count its tensors."""
    import onnx

    model = onnx.load(file)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise export_error("ONNX", error) from error
    return len(model.graph.initializer)


def _compare(expected: list[list[torch.Tensor]], file: Path, calls: list[Call]) -> tuple[float | None, str]:
    try:
        run, by = _runner(file)
        theirs = [[torch.from_numpy(each) for each in run(call)] for call in calls]
    except Exception as error:  # noqa: BLE001 - what runs the file may lack an operator or a number format
        _log.warning("the ONNX file was checked, but not run: %s", first_line(error))
        return None, f"not run: {first_line(error)}"
    return largest_difference(expected, theirs, "the ONNX file"), by


def _runner(file: Path) -> tuple[Any, str]:
    """Give what runs a file on a call, and its name."""
    if find_spec("onnxruntime") is not None:
        onnxruntime: Any = importlib.import_module("onnxruntime")
        session: Any = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names, by = [each.name for each in session.get_inputs()], "onnxruntime"
    else:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(file))
        names, by = session.input_names, "ONNX's reference implementation"

    def run(call: Call) -> Any:
        values = [tensor.detach().cpu().numpy() for tensor in call.tensors]
        return session.run(None, dict(zip(names, values, strict=True)))

    return run, by
