r"""Where the gradient wants new units to lead, from sample data: the directions of GradMax.

For a new unit with incoming weights zero and outgoing weights :math:`u`, the gradient that reaches its
incoming weights is :math:`f'(b) M^T u`, with :math:`M = \sum \delta \, x^T` over the samples, where
:math:`x` goes into the layer and :math:`\delta` is the gradient at the output of the receiver. It is
largest along the left singular vectors of :math:`M`. These are found by subspace iteration with products
that both layers work out by themselves, so that :math:`M` of two convolutions is never written down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.core.errors import OptionError
from bioconvert.core.random import Stream
from bioconvert.graph.nodes import activation_of
from bioconvert.organism.refit_samples import in_evaluation
from bioconvert.organism.width_axes import (
    as_incoming_weight,
    as_outgoing_weight,
    incoming,
    is_conv,
    outgoing,
)
from bioconvert.organism.width_births import FIRST_BIAS, Directions
from bioconvert.organism.width_joints import Joint

_ROUNDS = 12
_NEGLIGIBLE = 1e-6
"""Singular values below so much of the largest are none."""


@dataclass
class _Seen:
    """What passes through the two layers of a joint, call by call: inputs, gradients at the second."""

    inputs: list[torch.Tensor] = field(default_factory=list)
    shapes: list[torch.Size] = field(default_factory=list)
    probes: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)


def directions(
    model: nn.Module, joints: Sequence[Joint], units: int, loss: Callable[[], torch.Tensor], stream: Stream
) -> list[Directions]:
    """Find, for each joint, where new units are to lead.

    Args:
        model: the model, which runs in evaluation mode.
        joints: the joints.
        units: the number of units wanted; fewer are given where the gradient has fewer directions.
        loss: runs the model on sample data and gives the loss.
        stream: the random numbers to start from.

    Raises:
        OptionError: the loss doesn't depend on a layer, or a layer has no bias and needs one.
    """
    seen = [_Seen() for _ in joints]
    with in_evaluation(model), torch.enable_grad(), _watching(joints, seen):
        value = loss()
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise OptionError("loss must give one number, a tensor")
        probes = [probe for each in seen for probe in each.probes]
        found = iter(torch.autograd.grad(value, probes, allow_unused=True) if probes else ())
        for each in seen:
            each.gradients = [torch.zeros_like(p) if g is None else g for p, g in _zip(each.probes, found)]
    return [_directions(joint, each, units, stream) for joint, each in zip(joints, seen, strict=True)]


def _zip(
    probes: list[torch.Tensor], gradients: Iterator[torch.Tensor | None]
) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    return [(probe, next(gradients)) for probe in probes]


@contextmanager
def _watching(joints: Sequence[Joint], seen: Sequence[_Seen]) -> Iterator[None]:
    handles = []
    for joint, each in zip(joints, seen, strict=True):
        handles.append(joint.layer.register_forward_pre_hook(_taking(each)))
        handles.append(joint.receiver.register_forward_hook(_probing(each)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _taking(seen: _Seen) -> Callable[..., None]:
    def take(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        del module
        seen.inputs.append(args[0].detach().clone())

    return take


def _probing(seen: _Seen) -> Callable[..., torch.Tensor]:
    def probe(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        del module
        seen.shapes.append(args[0].shape)
        seen.probes.append(torch.zeros_like(output, requires_grad=True))
        return output + seen.probes[-1]

    return probe


def _directions(joint: Joint, seen: _Seen, units: int, stream: Stream) -> Directions:
    if len(seen.inputs) != len(seen.gradients) or not any(bool(g.any()) for g in seen.gradients):
        raise OptionError(f"no gradient of the loss reaches what takes the units of {joint.path!r}")
    bias, doubled = _first_bias(joint)
    fan_in, leads = incoming(joint.layer)[0].numel(), outgoing(joint.receiver, joint.units)[:, 0].numel()
    number = min(units // 2 if doubled else units, fan_in, leads)
    return Directions(_strongest(joint, seen, number, stream), doubled, bias)


def _first_bias(joint: Joint) -> tuple[float, bool]:
    """Give the bias that lets a gradient through, and whether a unit with it gives something by itself."""
    known = [activation_of(node, container) for node, container in joint.route.nodes]
    functions = [each[1] for each in known if each is not None]
    for bias in (0.0, FIRST_BIAS):
        x = torch.tensor([bias], dtype=torch.float64, requires_grad=True)
        y = x.clone()  # an activation may work in place
        for function in functions:
            y = F.relu(y) if function is None else function.apply(y)
        (slope,) = torch.autograd.grad(y.sum(), x)
        if float(slope):
            break
    if bias and joint.layer._parameters.get("bias") is None:
        raise OptionError(
            f"{joint.path!r} has no bias, without which no gradient reaches units that take nothing: use "
            "zero or paired"
        )
    return bias, bool(float(y.detach()))


@torch.enable_grad()
def _strongest(joint: Joint, seen: _Seen, number: int, stream: Stream) -> torch.Tensor:
    """Give the leading left singular vectors as outgoing weights: (outputs, units, places)."""
    rows, lead = incoming(joint.layer), outgoing(joint.receiver, joint.units)
    dtype = torch.promote_types(rows.dtype, torch.float32)
    if not number:
        return lead[:, :0]
    start = stream.normal("width directions", (rows[0].numel(), number)).to(rows.device, dtype)
    u = torch.linalg.qr(_forward(joint, seen, start)).Q
    for _ in range(_ROUNDS):
        u = torch.linalg.qr(_forward(joint, seen, torch.linalg.qr(_backward(joint, seen, u)).Q)).Q
    _, sizes, turn = torch.linalg.svd(_backward(joint, seen, u), full_matrices=False)
    held = sizes > _NEGLIGIBLE * sizes[0]
    best = (u @ turn.T)[:, held]
    found: torch.Tensor = best.T.reshape(-1, lead.shape[0], lead.shape[2]).transpose(0, 1)
    return found


def _forward(joint: Joint, seen: _Seen, v: torch.Tensor) -> torch.Tensor:
    """Multiply M with columns over a unit's incoming weights."""
    lead = outgoing(joint.receiver, joint.units)
    columns = v.new_zeros(lead.shape[0], v.shape[1], lead.shape[2], requires_grad=True)
    (found,) = torch.autograd.grad(_form(joint, seen, v, columns), columns)
    return found.transpose(0, 1).flatten(1).T


def _backward(joint: Joint, seen: _Seen, u: torch.Tensor) -> torch.Tensor:
    """Multiply the transpose of M with columns over a unit's outgoing weights."""
    lead, rows = outgoing(joint.receiver, joint.units), incoming(joint.layer)
    columns = u.T.reshape(-1, lead.shape[0], lead.shape[2]).transpose(0, 1)
    v = u.new_zeros(rows[0].numel(), u.shape[1], requires_grad=True)
    (found,) = torch.autograd.grad(_form(joint, seen, v, columns), v)
    return found


def _form(joint: Joint, seen: _Seen, v: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Give the sum over samples of the gradient times what new, linear units would add."""
    rows = v.T.reshape(-1, *incoming(joint.layer).shape[1:])
    into, out = as_incoming_weight(joint.layer, rows), as_outgoing_weight(joint.receiver, columns)
    total = v.new_zeros(())
    for x, shape, gradient in zip(seen.inputs, seen.shapes, seen.gradients, strict=True):
        h = _applied(joint.layer, into, x.to(v.dtype))
        added = _applied(joint.receiver, out, _between(joint, h, shape))
        total = total + (added * gradient.to(v.dtype)).sum()
    return total


def _applied(layer: nn.Module, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    if is_conv(layer):
        y: torch.Tensor = layer._conv_forward(x, weight, None)  # type: ignore[operator]
        return y
    return F.linear(x, weight if isinstance(layer, nn.Linear) else weight.T)


def _between(joint: Joint, h: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Let mean pooling stand for whatever makes pictures smaller on the way, and make rows of them."""
    if not is_conv(joint.layer):
        return h
    if is_conv(joint.receiver):
        return _pooled(h, list(shape[2:]))
    places = shape[-1] // joint.units
    share = (places / max(h[0, 0].numel(), 1)) ** (1 / (h.dim() - 2))
    sizes = [round(size * share) for size in h.shape[2:]]
    if prod(sizes) != places:
        raise OptionError(
            f"{joint.path!r}: a picture of {list(h.shape[2:])} is made one of {places} places in a way that "
            "gradmax doesn't know: use zero or paired"
        )
    return _pooled(h, sizes).flatten(1)


def _pooled(h: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    if list(h.shape[2:]) == sizes:
        return h
    pool: Callable[..., torch.Tensor] = getattr(F, f"adaptive_avg_pool{len(sizes)}d")
    return pool(h, sizes)
