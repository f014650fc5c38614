"""The Yat layers by their definition: what each unit sees at each place, and its distance to the weight."""

import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvTransposeNd


def by_formula(layer, x):
    """Compute the layer from its definition, patch by patch."""
    weight = _rows(layer)
    patches, reached, back = _patches(layer, x)  # [batch, positions, units, features]
    dot, distance = (patches * weight).sum(-1), ((patches - weight) * reached).square().sum(-1)
    if layer.spherical:
        seen = (weight * reached).expand_as(patches)
        dot = F.cosine_similarity(patches, seen, dim=-1)
        distance = 2 - 2 * dot
    epsilon = F.softplus(layer.raw_epsilon) if layer.learnable_epsilon else layer.epsilon
    bias = _bias(layer)
    if layer.bias_mode == "pre":
        y = _alpha(layer) * (dot + bias) ** 2 / (distance + epsilon)
    else:
        y = _alpha(layer) * (dot**2 / (distance + epsilon) + bias)
    return back(y + layer._parameters.get("offset", 0) if "offset" in layer._parameters else y)


def units_of(layer):
    """Give the number of a layer's units."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _bias(layer):
    if layer.constant_bias is not None:
        return layer.constant_bias
    bias = torch.zeros(1, dtype=layer.weight.dtype) if layer.bias is None else layer.bias
    bias = bias.sum() / bias.numel() if layer.scalar_bias else bias
    return torch.log1p(torch.exp(bias)) if layer.softplus_bias else bias


def _alpha(layer):
    if layer.alpha_mode == "exponent":
        return (math.sqrt(units_of(layer)) / math.log(1 + units_of(layer))) ** layer.alpha
    return 1.0 if layer.alpha_mode == "none" else layer.alpha


def _rows(layer):
    """Give each unit's weight as a row: masked, then normalised."""
    units, weight = units_of(layer), layer.weight
    if isinstance(layer, _ConvTransposeNd):
        mask = layer.mask if "mask" in layer._buffers else 1
        weight = weight[:, : units // layer.groups] * mask
        weight = torch.cat([part.transpose(0, 1).flatten(1) for part in weight.chunk(layer.groups)])
    else:
        weight = (weight[:units] * (layer.mask if "mask" in layer._buffers else 1)).flatten(1)
    return weight / weight.norm(dim=1, keepdim=True) if layer.weight_normalized else weight


def _patches(layer, x):
    """Give each unit's view of the input, which weights it meets, and what makes the output of the result."""
    units = units_of(layer)
    if isinstance(layer, nn.Linear):
        seen = x.unsqueeze(-2).expand(*x.shape[:-1], units, x.shape[-1])
        return seen, torch.ones_like(seen), lambda y: y
    cut = _laid_down if isinstance(layer, _ConvTransposeNd) else _cut_out
    taps, reached, space = cut(layer, x)  # [batch, channels, positions, taps], [positions, taps]
    inputs = x.shape[1] // layer.groups
    seen = taps.unflatten(1, (layer.groups, inputs)).permute(0, 3, 1, 2, 4).flatten(3)
    seen = seen.repeat_interleave(units // layer.groups, dim=2)
    return seen, reached.repeat(1, inputs).unsqueeze(1), lambda y: y.movedim(1, -1).unflatten(-1, space)


def _cut_out(layer, x):
    """Give what a convolution sees at each place; outside of the input there are zeros."""
    one_hot = torch.eye(math.prod(layer.kernel_size), dtype=x.dtype).view(-1, 1, *layer.kernel_size)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[x.dim() - 3]
    channels = x.flatten(0, 1).unsqueeze(1)
    taps = convolve(channels, one_hot, None, layer.stride, layer.padding, layer.dilation)
    taps = taps.unflatten(0, x.shape[:2])
    flat = taps.flatten(3).transpose(2, 3)
    return flat, torch.ones(flat.shape[2:], dtype=x.dtype), taps.shape[3:]


def _laid_down(layer, x):
    """Give what reaches each place of a transposed convolution's output by each tap; nothing is a zero."""
    lengths = x.shape[2:]
    sizes = zip(lengths, *_geometry(layer), strict=True)
    space = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in sizes]
    places = list(itertools.product(*map(range, space)))
    offsets = list(itertools.product(*map(range, layer.kernel_size)))
    taps = x.new_zeros(*x.shape[:2], len(places), len(offsets))
    reached = x.new_zeros(len(places), len(offsets))
    for (i, place), (j, tap) in itertools.product(enumerate(places), enumerate(offsets)):
        each = zip(place, tap, layer.stride, layer.padding, layer.dilation, strict=True)
        steps = [divmod(at + pad - t * dilation, stride) for at, t, stride, pad, dilation in each]
        if all(rest == 0 and 0 <= at < n for (at, rest), n in zip(steps, lengths, strict=True)):
            taps[:, :, i, j] = x[(slice(None), slice(None), *(at for at, _ in steps))]
            reached[i, j] = 1
    return taps, torch.ones_like(reached) if layer.taps == "kernel" else reached, space


def _geometry(layer):
    return layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.output_padding
