"""Checkpoints with layers of dyna, from the published shapes, and what those compute, step by step."""

import math

import torch
from literal_composers import literal_delta, literal_mobius
from torch.nn import functional as F

LENGTH, RANK, SUBSPACES, POINTS = 5, 3, 2, 4
COMPOSERS = {"delta": literal_delta, "mobius": literal_mobius}


def drawn(shapes, seed=0, dtype=torch.float64):
    """Give tensors of some shapes, with values at which every term counts."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
        for name, shape in shapes.items()
    }


def composer(kind, rows, cols, *, seed=0, dtype=torch.float64):
    """Give the tensors of a composer by dyna's names."""
    if kind == "delta":
        outputs = 24 * RANK + 2 * RANK + 2
        own = {"weights": (1, RANK, 2, 2, rows, cols, 2), "extras": (1,)}
    else:
        latent = int(math.sqrt(LENGTH * SUBSPACES * 2))
        outputs = 4 * latent
        own = {
            "space_i": (1, SUBSPACES, RANK, rows, 2),
            "space_j": (1, SUBSPACES, RANK, cols, 2),
            "inversions": (1, SUBSPACES, 1, 1, 2),
            "direct_G_Re": (2 + 2 * POINTS, SUBSPACES, latent, RANK),
            "direct_G_Im": (2 + 2 * POINTS, SUBSPACES, latent, RANK),
            "w_mix": (latent, SUBSPACES * RANK, 2),
            "projections": (1, SUBSPACES, rows, cols, 2),
        }
    linear = {"context_transform.weight": (outputs, LENGTH), "context_transform.bias": (outputs,)}
    tensors = drawn({**linear, **own}, seed, dtype)
    if kind == "delta":
        tensors["extras"] = torch.full((1,), 5.0, dtype=dtype)
    return tensors


def conv(kind, rows, cols, outputs, *, seed=0, dtype=torch.float64, without=(), static=None):
    """Give the tensors of a convolution by dyna's names."""
    tensors = {
        f"weights_lib.{name}": value
        for name, value in composer(kind, rows, cols, seed=seed, dtype=dtype).items()
    }
    beside = {"padding_dynamic_value": (1,)}
    if kind == "mobius":
        beside |= {
            "offset_dynamic_value": (1,),
            "bias_dynamic_weights_lib": (1, rows, cols),
            "bias_dynamic_conv": (outputs,),
        }
    tensors |= drawn({name: shape for name, shape in beside.items() if name not in without}, seed + 1, dtype)
    if static is not None:
        tensors["bias_static_buffer"] = torch.tensor([static], dtype=dtype)
    return tensors


def at(path, tensors):
    """Put tensors under the name of a module."""
    return {f"{path}.{name}" if path else name: tensor for name, tensor in tensors.items()}


def composed(kind, tensors, context):
    """Compose as the description says."""
    own = {name.replace("context_transform.", "context_transform_"): each for name, each in tensors.items()}
    options = {"rank": RANK} if kind == "delta" else {"n_subspaces": SUBSPACES}
    return COMPOSERS[kind](context, own, **options)


def convolved(kind, tensors, x, context, kernel, *, sides, transpose=False, **window):
    """Convolve sample by sample, with kernels that are cut out one by one."""
    inner = {
        name.removeprefix("weights_lib."): each for name, each in tensors.items() if "weights_lib." in name
    }
    matrices = composed(kind, inner, context) + tensors.get("bias_dynamic_weights_lib", 0)
    offset = tensors.get("offset_dynamic_value", 0)
    bias = tensors.get("bias_dynamic_conv", torch.zeros(1, dtype=x.dtype)).view(-1, 1, 1)
    bias = bias + tensors.get("bias_static_buffer", 0)
    value = tensors.get("padding_dynamic_value", torch.zeros(1)).item()
    left, right, top, bottom = sides
    outputs = []
    for sample, matrix in zip(x + offset, matrices, strict=True):
        weight = _kernels(matrix, kernel)
        if transpose:
            y = F.conv_transpose2d(sample[None], weight, **window)
            y = y[..., top : y.shape[-2] - bottom, left : y.shape[-1] - right]
        else:
            y = F.conv2d(F.pad(sample[None], sides, value=value), weight, **window)
        outputs.append(y + bias)
    return torch.cat(outputs) - offset


def _kernels(matrix, shape):
    outer, inner, height, width = shape
    across = matrix.shape[1] // width
    kernels = torch.empty(shape, dtype=matrix.dtype)
    for number in range(outer * inner):
        row, col = divmod(number, across)
        block = matrix[row * height : (row + 1) * height, col * width : (col + 1) * width]
        kernels[divmod(number, inner)] = block
    return kernels
