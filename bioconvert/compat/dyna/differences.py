"""In what our layers compute something else than those of dyna on the same tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch

from bioconvert.compat.dyna.kinds import DELTA, MOBIUS, PADDING_VALUE
from bioconvert.compat.dyna.layer import Layer

_RANK_NOISE = (
    "rank noise: Delta adds it in training only; the reference's does in evaluation too, so that its outputs "
    "there vary from call to call around ours"
)
_LATENT = (
    "latent of Möbius: computed once; the reference averages copies of it, which is the same up to the "
    "epsilon of that average"
)
_SIGLOG = (
    "siglog: 0 at 0, where the reference's is -3.7e-5; weights differ by that much where its input is "
    "exactly 0, as the logits of the ranks for a context and bias of zeros"
)
_BFLOAT16 = (
    "number formats: bfloat16 tensors, the reference's default, stay such; ours compose from them in fp32 "
    "and give the weights the type of the context, so results differ by rounding"
)
_INDICES = (
    "index tensor: the reference's is a plain attribute that no checkpoint has; ours cut kernels out of the "
    "folded matrix block by block along its rows. Compare one output if yours were indexed otherwise"
)
_UNUSED = (
    f"{PADDING_VALUE}: left out where nothing is padded with it; our transposed convolutions have none, as "
    "their padding cuts the output"
)


def differences(layers: Iterable[Layer], state: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Say in what the layers differ from those of dyna, as far as it concerns them.

    Args:
        layers: the layers.
        state: their tensors, by full names.
    """
    return tuple(_differences(tuple(layers), state))


def _differences(layers: tuple[Layer, ...], state: Mapping[str, torch.Tensor]) -> Iterator[str]:
    classes = {layer.becomes for layer in layers}
    if classes & {DELTA.composer, DELTA.conv}:
        yield _RANK_NOISE
    if classes & {MOBIUS.composer, MOBIUS.conv}:
        yield _LATENT
    yield _SIGLOG
    if any(_has_bfloat16(layer, state) for layer in layers):
        yield _BFLOAT16
    if classes & {DELTA.conv, MOBIUS.conv}:
        yield _INDICES
    if any(layer.unused for layer in layers):
        yield _UNUSED


def _has_bfloat16(layer: Layer, state: Mapping[str, torch.Tensor]) -> bool:
    prefix = f"{layer.path}." if layer.path else ""
    return any(tensor.dtype is torch.bfloat16 for name, tensor in state.items() if name.startswith(prefix))
