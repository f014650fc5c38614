"""What has to be patched in torch while containers are traced, and that it is patched once for many of them.

Setting an attribute of ``nn.Module`` takes as long as the process has subclasses of it, milliseconds with
transformers loaded, so :func:`sweep` keeps the patches for everything that is traced inside it.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import fx, nn

from bioconvert.graph.watch import Watch

T = TypeVar("T")


class Recorder(Protocol):
    """What takes note of a forward that is being traced."""

    watch: Watch

    def attribute(self, value: Any) -> Any:
        """Give what stands for a parameter, buffer or child that a module was asked for."""
        ...

    def call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Give what stands for a module's output."""
        ...


class _Entry(nn.Module):
    """Lends its ``__call__`` to the forward that is traced, so that fx patches what that forward imported."""


class Session(fx.Tracer):
    """Sends what happens to modules in one thread to the recorder of the container that is being traced."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder: Recorder | None = None
        self._entry = _Entry()
        self._begin: Callable[[], Any] | None = None
        self._thread = threading.get_ident()

    @property
    def active(self) -> Recorder | None:
        """The recorder, in the thread that traces."""
        return self.recorder if threading.get_ident() == self._thread else None

    @property
    def watch(self) -> Watch | None:
        """The watch of the recorder, in the thread that traces."""
        recorder = self.active
        return None if recorder is None else recorder.watch

    def record(self, forward: Callable[..., Any], recorder: Recorder, begin: Callable[[], T]) -> T:
        """Do something while ``recorder`` takes note; ``forward`` is the function that it will call."""

        def recorded() -> T:
            self.recorder = recorder
            try:
                return begin()
            finally:
                self.recorder = None

        vars(self._entry)["forward"] = inspect.unwrap(forward)
        self._begin = recorded
        found: T = self._entry()
        return found

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:  # noqa: ARG002
        """Give what ``nn.Module.__getattr__`` found, or what stands for it."""
        recorder = self.active
        return attr_val if recorder is None else recorder.attribute(attr_val)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a module, or note that it is called."""
        recorder = self.active
        if recorder is not None:
            return recorder.call(m, args, kwargs)
        if m is self._entry and self._begin is not None:
            return self._begin()
        return forward(*args, **kwargs)


_lock = threading.RLock()
_sessions: list[Session] = []


def sweep(work: Callable[[], T]) -> T:
    """Do work that traces many containers, with torch patched once for all of them.

    Modules keep working meanwhile, in this thread and in others. Nothing stays patched.
    """
    with _lock:
        return work() if _sessions else _in_new_session(lambda session: work())  # noqa: ARG005


def in_session(work: Callable[[Session], T]) -> T:
    """Do work with the session of the sweep that is going on, or with one of its own."""
    with _lock:
        return work(_sessions[-1]) if _sessions else _in_new_session(work)


def _in_new_session(work: Callable[[Session], T]) -> T:
    session = Session()
    found: list[T] = []

    def everything() -> None:
        found.append(work(session))

    with contextlib.ExitStack() as stack:
        stack.callback(_sessions.remove, session)
        _sessions.append(session)
        stack.enter_context(reads_seen(lambda: session.watch))
        stack.enter_context(_refusals(session))
        # fx patches modules and wrapped functions for as long as it "traces" this function.
        session.trace(everything)
    return found[0]


@contextmanager
def reads_seen(watching: Callable[[], Watch | None]) -> Iterator[None]:
    """Show every attribute that is read of a module to a watch."""

    def read(self: nn.Module, name: str) -> Any:
        try:
            value = object.__getattribute__(self, name)
        except AttributeError:
            watch = watching()
            if watch is not None:
                watch.missing(self, name)
            raise
        watch = watching()
        if watch is not None:
            watch.read(self, name, value)
        return value

    # Attributes in __dict__ never reach __getattr__: only __getattribute__ sees them being read.
    setattr(nn.Module, "__getattribute__", read)  # noqa: B010 - mypy refuses the plain assignment
    try:
        yield
    finally:
        del nn.Module.__getattribute__


_GRAD = "asks or changes whether gradients are recorded"
_AUTOCAST = "asks or changes whether autocast is on"
_SAVED = "changes how tensors are saved for the backward pass, as checkpointing does"
_LOST: tuple[tuple[Any, str, str], ...] = (
    (torch, "is_grad_enabled", _GRAD),
    (torch._C, "_set_grad_enabled", _GRAD),
    (torch.inference_mode, "__enter__", _GRAD),
    (torch.autocast, "__enter__", _AUTOCAST),
    (torch, "is_autocast_enabled", _AUTOCAST),
    (torch.autograd.graph.saved_tensors_hooks, "__enter__", _SAVED),
    (torch.autograd.Function, "apply", "calls an autograd function, whose backward a graph can't keep"),
    (torch._C, "_set_sdp_use_math", "chooses the kernel of attention"),
    (torch, "manual_seed", "seeds random numbers"),
)
"""What a graph would lose or fix silently: where it is called, and why it is refused."""


@contextmanager
def _refusals(session: Session) -> Iterator[None]:
    """Refuse what would be lost from the graph of a forward that is traced."""
    # The compiler takes note of some of these functions when it is imported, which must not be of ours.
    importlib.import_module("torch._dynamo.variables.torch")
    with contextlib.ExitStack() as stack:
        for owner, name, reason in _LOST:
            original = inspect.getattr_static(owner, name)
            stack.callback(setattr, owner, name, original)
            setattr(owner, name, _refusing(session, original, reason))
        yield


def _refusing(session: Session, original: Any, reason: str) -> Any:
    is_method = isinstance(original, classmethod)

    def call(*args: Any, **kwargs: Any) -> Any:
        recorder = session.active
        if recorder is not None:
            recorder.watch.refuse(f"it {reason}")
        return (original.__func__ if is_method else original)(*args, **kwargs)

    return classmethod(call) if is_method else call
