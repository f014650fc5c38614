"""The composers as they are described, step by step on complex tensors, without a thought for speed."""

import math

import torch
from torch.nn import functional as F

from bioconvert.functional import backward_gradient_normalization as bgn
from bioconvert.functional import siglog


def literal_delta(context, tensors, *, rank=4, repulsion=0.3, similarity=0.1):
    """Compose as Delta does, without noise."""
    t = F.linear(context, tensors["context_transform_weight"], tensors["context_transform_bias"])
    half = t.shape[1] // 2
    t = t[:, :half] * siglog(t[:, half:])
    pairs = torch.view_as_complex(t[:, : 12 * rank].contiguous().view(-1, rank, 3, 2, 1, 1, 2))
    lerp, bias, scale = pairs[:, :, 0] + 0.5, pairs[:, :, 1], pairs[:, :, 2] + 1
    banks = torch.view_as_complex(tensors["weights"])
    mixed = banks[:, :, 0] + lerp * (banks[:, :, 1] - banks[:, :, 0])
    first, second = (mixed * scale + bias).unbind(2)
    phase = bgn(torch.view_as_real(second / second.abs()))
    projected = (torch.view_as_real(first) * phase).sum(-1)
    weights = _compressed(projected.flatten(2))
    if rank > 1:
        weights = _decorrelated(weights, repulsion, similarity)
    floored = torch.where(weights < 0, -1.0, 1.0) * weights.abs().clamp_min(1e-12)
    weights = weights + (floored - weights).detach()
    drain = torch.zeros(rank + 1, dtype=t.dtype)
    drain[-1] = rank**-0.5
    shares = bgn(torch.softmax(siglog((t[:, 12 * rank :] + drain) / tensors["extras"]), -1))
    entropy = -(shares * shares.log()).sum(-1, keepdim=True)
    shares = shares + (entropy - entropy.detach())
    weights = torch.cat([weights, torch.zeros_like(weights[:, :1])], dim=1)
    return (shares.unsqueeze(-1) * weights).sum(1).view(-1, *tensors["weights"].shape[-3:-1])


def literal_mobius(context, tensors, *, n_subspaces=16, asymmetry=1e-3):
    """Compose as Möbius does, with one latent copy."""
    t = bgn(F.linear(context, tensors["context_transform_weight"], tensors["context_transform_bias"]))
    half = t.shape[1] // 2
    latent = torch.view_as_complex((t[:, :half] * siglog(t[:, half:])).reshape(len(t), -1, 2))
    transforms = torch.complex(bgn(tensors["direct_G_Re"]), bgn(tensors["direct_G_Im"]))
    transforms = torch.einsum("bd,tcdr->btcr", latent, transforms)
    points = (transforms.shape[1] - 2) // 2
    space_i, space_j, gamma = (
        torch.view_as_complex(bgn(tensors[name])) for name in ("space_i", "space_j", "inversions")
    )
    height, width = space_i.shape[-1], space_j.shape[-1]
    space_i = (space_i + transforms[:, 0].unsqueeze(-1)) * _along(transforms[:, 2 : 2 + points], height)
    space_j = (space_j + transforms[:, 1].unsqueeze(-1)) * _along(transforms[:, 2 + points :], width)
    side_i = space_i * gamma
    side_j = gamma * space_j.conj() / (space_j.real**2 + space_j.imag**2).clamp_min(asymmetry)
    mix = (latent @ torch.view_as_complex(bgn(tensors["w_mix"]))).abs()
    shares = mix.view(len(t), n_subspaces, -1).softmax(-1).unsqueeze(-1)
    outer = torch.einsum("bch,bcw->bchw", (shares * side_i).sum(2), (shares * side_j).sum(2))
    projections = torch.view_as_complex(bgn(tensors["projections"]))
    return (outer * (projections / projections.abs()).conj()).real.sum(1)


def _compressed(x, leak=1e-3, eps=1e-12):
    x = bgn(x)
    leaked = x * leak
    x = bgn((torch.sigmoid(x) + leaked) * (siglog(x) + leaked))
    return bgn(x * torch.rsqrt(x.abs().mean(-1, keepdim=True) + eps))


def _decorrelated(weights, repulsion, similarity):
    ranks = weights.shape[1]
    alike = weights @ weights.mT
    alike = alike - torch.diag_embed(torch.diagonal(alike, dim1=1, dim2=2))
    pushed = (alike @ bgn(weights)) / (ranks - 1) * (repulsion / math.sqrt(ranks))
    penalty = similarity * alike.abs().sum(-1, keepdim=True) / (ranks - 1)
    return weights - pushed + (penalty - penalty.detach())


def _along(points, length):
    """Interpolate control points [B, Z, C, R] to [B, C, R, length]."""
    by_point = points.permute(0, 2, 3, 1).flatten(0, 1)
    parts = (
        F.interpolate(part, length, mode="linear", align_corners=False)
        for part in (by_point.real, by_point.imag)
    )
    return torch.complex(*parts).unflatten(0, points.shape[0:3:2])
