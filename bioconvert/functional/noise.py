"""Noise in the units of the signal itself, which the gradient doesn't see."""

from __future__ import annotations

import torch

from bioconvert.functional.precision import score_dtype


def noisein(x: torch.Tensor, rate: float, *, generator: torch.Generator | None = None) -> torch.Tensor:
    r"""Replace some features of each sample, chosen by chance, with noise of the sample's mean and deviation.

    .. math::
        y_i = x_i + (-x_i + \eta_i) \text{ for } \lfloor r n \rfloor \text{ of the } n \text{ features}, \quad
        \eta_i \sim \mathcal N(\operatorname{mean}(x), \operatorname{std}(x)^2)

    What is in parentheses counts as a constant: the gradient passes straight through.

    Args:
        x: samples :math:`x` along the first dimension; what has fewer than two dimensions is one sample.
        rate: :math:`r`, from 0 to 1.
        generator: draws the places and the noise, on the device of ``x``; ``None`` for the default one.

    Shape:
        - Output: that of ``x``.

    Raises:
        ValueError: ``rate`` is out of its bounds.

    Example:
        >>> (noisein(torch.arange(10.0), 0.3) != torch.arange(10.0)).sum()
        tensor(3)
    """
    check_rate(rate)
    rows = _rows(x)
    count = int(rate * rows.shape[1])
    if count == 0 or rows.numel() == 0:
        return x
    keys = torch.rand(rows.shape, device=x.device, generator=generator)
    places = keys.topk(count, dim=1, sorted=False).indices
    noise = _noise_like(rows, places.shape, generator)
    change = torch.zeros_like(rows).scatter(1, places, (noise - rows.gather(1, places)).to(rows.dtype))
    return x + change.view_as(x)


def noiseover(x: torch.Tensor, rate: float, *, generator: torch.Generator | None = None) -> torch.Tensor:
    r"""Add noise of each sample's mean and deviation to every feature.

    .. math::
        y_i = x_i + r \, \eta_i, \quad \eta_i \sim \mathcal N(\operatorname{mean}(x), \operatorname{std}(x)^2)

    The noise counts as a constant: the gradient passes straight through.

    Args:
        x: samples :math:`x` along the first dimension; what has fewer than two dimensions is one sample.
        rate: :math:`r`, from 0 to 1.
        generator: draws the noise, on the device of ``x``; ``None`` for the default one.

    Shape:
        - Output: that of ``x``.

    Raises:
        ValueError: ``rate`` is out of its bounds.

    Example:
        >>> noiseover(torch.zeros(2, 3), 0.5)
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """
    check_rate(rate)
    rows = _rows(x)
    if rate == 0 or rows.numel() == 0:
        return x
    noise = _noise_like(rows, rows.shape, generator)
    return x + (rate * noise).to(x.dtype).view_as(x)


def check_rate(rate: float) -> None:
    """Refuse a rate that isn't from 0 to 1.

    Raises:
        ValueError: ``rate`` is out of its bounds.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be from 0 to 1, got {rate!r}")


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Give the samples as rows, without a graph."""
    x = x.detach()
    return x.reshape(1, -1) if x.dim() < 2 else x.flatten(1)


def _noise_like(rows: torch.Tensor, shape: torch.Size, generator: torch.Generator | None) -> torch.Tensor:
    """Draw noise with the mean and deviation of each row; a row of one element has no deviation."""
    wide = rows.to(score_dtype(rows))
    deviation, mean = torch.std_mean(wide, 1, correction=min(1, wide.shape[1] - 1), keepdim=True)
    drawn = torch.randn(shape, dtype=wide.dtype, device=wide.device, generator=generator)
    return drawn * deviation + mean
