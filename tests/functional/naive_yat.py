"""The Yat product by its definition: differences, not norms and dot products."""

import itertools

import torch
from torch.nn import functional as F


def naive_linear(x, weight, bias=None, *, alpha=1.0, epsilon=1e-5, offset=0.0, bias_mode="pre", floor=0.0):
    """Compute the layer from every difference of an input and a weight row."""
    inside = bias if bias is not None and bias_mode == "pre" else 0.0
    behind = bias if bias is not None and bias_mode == "post" else 0.0
    distance = (x.unsqueeze(-2) - weight).square().sum(-1)
    least = floor * (x.square().sum(-1, keepdim=True) + weight.square().sum(-1))
    quotient = (x @ weight.t() + inside).square() / (torch.maximum(distance, least) + epsilon)
    return alpha * (quotient + behind) + offset


def naive_conv(x, weight, bias=None, *, stride, padding, dilation, groups, **options):
    """Compute the layer patch by patch, each cut out by its indices; numbers are for every dimension."""
    dims, size = weight.dim() - 2, weight.shape[2:]
    if padding == "same":
        totals = [dilation * (kernel - 1) for kernel in size]
        pads = [(total // 2, total - total // 2) for total in totals]
    else:
        pads = [(0 if padding == "valid" else padding,) * 2] * dims
    x = F.pad(x, [pad for pair in reversed(pads) for pad in pair])
    spans = [dilation * (kernel - 1) + 1 for kernel in size]
    counts = [(x.shape[2 + d] - spans[d]) // stride + 1 for d in range(dims)]
    y = x.new_empty(x.shape[0], weight.shape[0], *counts)
    for place in itertools.product(*map(range, counts)):
        cut = [slice(i * stride, i * stride + span, dilation) for i, span in zip(place, spans, strict=True)]
        patch = x[(slice(None), slice(None), *cut)]
        for group, units in enumerate(torch.arange(weight.shape[0]).chunk(groups)):
            own = patch.chunk(groups, 1)[group].flatten(1)
            given = {name: _of_units(option, units) for name, option in {"bias": bias, **options}.items()}
            y[(slice(None), units, *place)] = naive_linear(own, weight[units].flatten(1), **given)
    return y


def naive_conv_transpose(
    x, weight, bias=None, *, stride, padding, output_padding, groups, dilation, taps, **options
):
    """Compute each output from the inputs and taps that meet there; numbers are for every dimension."""
    lengths, size = x.shape[2:], weight.shape[2:]
    reach = [
        (n - 1) * stride - 2 * padding + dilation * (s - 1) + output_padding + 1
        for n, s in zip(lengths, size, strict=True)
    ]
    y = x.new_empty(x.shape[0], weight.shape[1] * groups, *reach)
    for place in itertools.product(*map(range, reach)):
        seen, met = [], []
        for tap in itertools.product(*map(range, size)):
            steps = [divmod(p + padding - t * dilation, stride) for p, t in zip(place, tap, strict=True)]
            arrives = all(rest == 0 and 0 <= at < n for (at, rest), n in zip(steps, lengths, strict=True))
            if arrives or taps == "kernel":
                at = [at if arrives else 0 for at, _ in steps]
                seen.append(x[(slice(None), slice(None), *at)] * arrives)
                met.append(weight[(slice(None), slice(None), *tap)])
        for group, units in enumerate(torch.arange(y.shape[1]).chunk(groups)):
            own = [each.chunk(groups, 1)[group] for each in seen]
            rows = [each.chunk(groups, 0)[group].t() for each in met]
            given = {name: _of_units(option, units) for name, option in {"bias": bias, **options}.items()}
            inputs = torch.cat(own, 1) if own else x.new_zeros(x.shape[0], 1)
            kernels = torch.cat(rows, 1) if rows else x.new_zeros(len(units), 1)
            y[(slice(None), units, *place)] = naive_linear(inputs, kernels, **given)
    return y


def _of_units(option, units):
    return option[units] if isinstance(option, torch.Tensor) and option.numel() > 1 else option
