"""Tracing one container with its children as leaves, and noting what the trace depends on.

A trace is true only for the Python values that were seen while it was made: flags such as ``self.training``,
and arguments that were left at their defaults. Those are recorded as guards.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from bioconvert.core.errors import first_line
from bioconvert.graph.arguments import NO_EXTRA, Extra, Layout, default_arguments, forward_signature
from bioconvert.graph.blame import users_line
from bioconvert.graph.grown import without_grown
from bioconvert.graph.guards import PLAIN, Guard
from bioconvert.graph.session import Session, in_session, reads_seen
from bioconvert.graph.symbols import GraphRecorder, Recording
from bioconvert.graph.watch import Untraceable, Watch

__all__ = [
    "PLAIN",
    "Extra",
    "Guard",
    "Trace",
    "Untraceable",
    "default_arguments",
    "recorded_reads",
    "set_training",
    "trace",
]


@dataclass(frozen=True, slots=True)
class Trace:
    """The graph of one container's forward, and what it is true for.

    Args:
        graph: the graph; its placeholders are ``inputs``.
        inputs: names of the arguments that were symbolic.
        fixed: the other arguments, with the values that were given to them.
        guards: the attributes that were read.
        extra: how many arguments went into ``*args``, and which into ``**kwargs``.
        types: the inputs whose type the forward asked for, with the type they had.
    """

    graph: fx.Graph
    inputs: tuple[str, ...]
    fixed: Mapping[str, object]
    guards: tuple[Guard, ...]
    extra: Extra = NO_EXTRA
    types: Mapping[str, type] = field(default_factory=dict)


def trace(
    container: nn.Module,
    fixed: Mapping[str, object] | None = None,
    extra: Extra = NO_EXTRA,
    types: Mapping[str, type] | None = None,
) -> Trace:
    """Trace a container's forward with every child as a leaf, in the state that it is in, but for what grew.

    Args:
        container: the module; it is the same afterwards.
        fixed: arguments that keep a Python value; by default those that have a default, at that default.
        extra: how many arguments go into ``*args``, and which into ``**kwargs``; none by default.
        types: types of arguments that are symbolic, for a forward that asks; tensors by default.

    Raises:
        Untraceable: the forward looks at the values or types of tensors, changes the module, or does what
            fx can't follow; the reason names the line.
    """
    if "forward" in vars(container):
        raise Untraceable("its forward is set on the instance")
    if isinstance(container, torch.jit.ScriptModule):
        raise Untraceable("it is scripted")
    layout = Layout.of(forward_signature(type(container)), extra)
    fixed = default_arguments(container) if fixed is None else fixed
    inputs = tuple(name for name in layout.names if name not in fixed)
    with without_grown(container):
        watch = Watch(container)
        recorder = GraphRecorder(watch, types or {})
        in_session(lambda session: _record(session, recorder, layout, inputs, fixed))
    return Trace(recorder.graph, inputs, dict(fixed), watch.guards, extra, recorder.asked)


def set_training(module: nn.Module, mode: bool) -> None:
    """Set one module's train flag, past any ``__setattr__`` of its own."""
    if "training" in vars(module):
        vars(module)["training"] = mode
    else:  # a scripted module keeps it elsewhere
        module.training = mode


@contextmanager
def recorded_reads(container: nn.Module) -> Iterator[list[Guard]]:
    """Collect what is read of a container and what it holds; the list is filled when the block ends."""
    watch = Watch(container)
    guards: list[Guard] = []
    try:
        with reads_seen(lambda: watch):
            yield guards
    finally:
        watch.close()
        guards.extend(watch.guards)


def _record(
    session: Session,
    recorder: GraphRecorder,
    layout: Layout,
    inputs: tuple[str, ...],
    fixed: Mapping[str, object],
) -> None:
    """Run the forward on symbols; see :func:`trace`."""
    container, watch = recorder.watch.container, recorder.watch
    forward = type(container).forward

    def run() -> None:
        symbols = {name: recorder.create_proxy("placeholder", name, (), {}) for name in inputs}
        args, kwargs = layout.spread({**fixed, **symbols})
        with Recording(recorder):
            output = forward(container, *args, **kwargs)
        recorder.create_node("output", "output", (recorder.create_arg(output),), {})

    drawn = _random_states()
    try:
        session.record(forward, recorder, run)
    except Exception as error:  # the user's code: whatever it raises means "can't be traced"
        raise Untraceable(_reason(error)) from error
    finally:
        changed = watch.close()
        draws = _restore_random(drawn)
    if watch.refusal is not None:
        raise watch.refusal
    if changed:
        raise Untraceable(f"its forward sets {', '.join(changed)}")
    if draws:
        raise Untraceable(f"its forward draws random numbers from {draws}")


def _reason(error: Exception) -> str:
    place = users_line(error)
    at = f" at {place}" if place else ""
    if isinstance(error, Untraceable):
        return f"{error}{at}"
    # torch goes on with advice on how to write forwards.
    told = first_line(error).partition(". ")[0].rstrip(".")
    return f"torch.fx can't trace its forward{at} ({told})"


def _random_states() -> tuple[Any, ...]:
    numpy = sys.modules.get("numpy")
    return (random.getstate(), None if numpy is None else _numpy_state(numpy))


def _numpy_state(numpy: Any) -> Any:
    name, keys, *rest = numpy.random.get_state()
    return (name, keys.tobytes(), *rest)


def _restore_random(before: tuple[Any, ...]) -> str:
    """Put back the states of Python's and numpy's random numbers; name whose has changed."""
    after = _random_states()
    if after[0] != before[0]:
        random.setstate(before[0])
        return "Python's random"
    if before[1] is not None and after[1] != before[1]:
        numpy = sys.modules["numpy"]
        name, keys, *rest = before[1]
        numpy.random.set_state((name, numpy.frombuffer(keys, dtype=numpy.uint32), *rest))
        return "numpy.random"
    return ""
