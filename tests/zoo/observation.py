"""What a model does and what it is made of, in a form that tells whether a single bit has changed."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from bioconvert.surgery.samples import hooked, in_mode, preserved, run, tensors_in

MODES = ("train", "eval", "eval, no_grad")
SEED = 7


@dataclass(frozen=True)
class Snapshot:
    """What a conversion and its undoing must leave as it was.

    Args:
        classes: the class of each module, by name.
        objects: the identity of each parameter, by name.
        bits: a hash of each tensor of the state, by name and in order.
        flags: train flags and ``requires_grad``.
        attributes: names of what each module's instance holds.
    """

    classes: tuple[Any, ...]
    objects: tuple[Any, ...]
    bits: tuple[Any, ...]
    flags: tuple[Any, ...]
    attributes: tuple[Any, ...]

    @classmethod
    def of(cls, model: nn.Module) -> "Snapshot":
        """Take the snapshot of a model."""
        modules = list(model.named_modules(remove_duplicate=False))
        parameters = list(model.named_parameters(remove_duplicate=False))
        return cls(
            classes=tuple((name, type(module)) for name, module in modules),
            objects=tuple((name, id(parameter)) for name, parameter in parameters),
            bits=tuple((name, digest(value)) for name, value in model.state_dict().items()),
            flags=(
                tuple(module.training for _, module in modules),
                tuple(parameter.requires_grad for _, parameter in parameters),
            ),
            attributes=tuple((name, tuple(sorted(vars(module)))) for name, module in modules),
        )

    def differences(self, other: "Snapshot") -> list[str]:
        """Name what differs, with the first place where it does."""
        found = []
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if mine != theirs:
                pairs = zip(mine, theirs, strict=False)
                first = next((a for a, b in pairs if a != b), "one has more than the other")
                found.append(f"{each.name} ({first})"[:200])
        return found


def digest(value: Any) -> str:
    """Give a hash of a tensor's type, shape and bits."""
    if not isinstance(value, torch.Tensor):
        return repr(value)
    held = value.detach().cpu().contiguous()
    flat = held.reshape(-1).view(torch.uint8) if held.numel() else torch.empty(0, dtype=torch.uint8)
    bits = hashlib.blake2b(memoryview(flat.numpy()), digest_size=16).hexdigest()
    return f"{held.dtype} {tuple(held.shape)} {bits}"


@contextmanager
def seeded(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Let a model run in a mode from a fixed random state, so that nothing of it changes."""
    with preserved(model), in_mode(model, training=training):
        torch.manual_seed(SEED)
        yield


def outputs(model: nn.Module, inputs: Any, mode: str) -> list[torch.Tensor]:
    """Give a model's output tensors in one mode, from a fixed random state; the model is as it was."""
    gradients = torch.no_grad() if mode.endswith("no_grad") else nullcontext()
    with seeded(model, training=mode == "train"), gradients:
        return [tensor.detach().clone() for tensor in tensors_in(run(model, inputs))]


def prints(model: nn.Module, inputs: Any, mode: str) -> tuple[str, ...]:
    """Give hashes of what :func:`outputs` gives."""
    return tuple(digest(tensor) for tensor in outputs(model, inputs, mode))


def run_back(model: nn.Module, inputs: Any) -> bool:
    """Run a model and propagate the sum of squares back to ``.grad``; say whether there was a way back."""
    parts = [part for part in tensors_in(run(model, inputs)) if part.requires_grad]
    if not parts:
        return False
    real = [torch.view_as_real(part) if part.is_complex() else part for part in parts]
    torch.stack([part.float().square().sum() for part in real]).sum().backward()
    return True


def ways_back(model: nn.Module, inputs: Any) -> list[bool]:
    """Give the train flags with which a model can be run backward; some refuse to in evaluation."""
    found = []
    for training in (False, True):
        with suppress(AssertionError, RuntimeError), seeded(model, training=training):
            if run_back(model, inputs):
                found.append(training)
    return found


@dataclass(frozen=True)
class Use:
    """Which of some layers ran, and which got gradients."""

    ran: set[nn.Module]
    trained: set[nn.Module]


def use_of(model: nn.Module, inputs: Any, layers: Iterable[nn.Module], ways: Iterable[bool]) -> Use:
    """Run a model forward, and backward with the train flags given, and see which layers take part."""
    layers = list(layers)
    use = Use(set(), set())

    def noting(layer: nn.Module) -> Callable[..., None]:
        # The layer may be handed to its hook as a copy that shares everything with it.
        return lambda *_: use.ran.add(layer)

    for training in (False, True):
        with seeded(model, training=training), hooked(m.register_forward_hook(noting(m)) for m in layers):
            if training not in ways:
                run(model, inputs)
                continue
            for parameter in model.parameters():
                parameter.grad = None
            run_back(model, inputs)
            use.trained.update(layer for layer in layers if _has_gradients(layer))
    return use


def _has_gradients(layer: nn.Module) -> bool:
    return all(p.grad is not None for p in layer.parameters(recurse=False) if p.requires_grad)
