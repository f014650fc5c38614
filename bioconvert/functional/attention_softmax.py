"""A softmax over keys that come tile by tile, applied to their values."""

from __future__ import annotations

import math

import torch


class RunningSoftmax:
    r"""Sums up :math:`e^{s_j - m} v_j` and :math:`e^{s_j - m}` over keys, with the largest logit :math:`m`.

    A row in which every logit is :math:`-\infty` gives zeros.
    """

    def __init__(self) -> None:
        self._most: torch.Tensor | None = None
        self._sum: torch.Tensor
        self._values: torch.Tensor

    def add(self, logits: torch.Tensor, v: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """Add a tile, and give the exponentials that its values were summed up with.

        Args:
            logits: logits :math:`(n, l, s)`; changed in place.
            v: values :math:`(n, s, d_v)`.
            kept: what dropout multiplies the exponentials by.
        """
        most = logits.amax(-1, keepdim=True)
        if self._most is not None:
            most = torch.maximum(most, self._most)
        base = most.masked_fill(most == -math.inf, 0.0)
        powers = logits.sub_(base).exp_()
        total = powers.sum(-1, keepdim=True)
        powers = powers if kept is None else powers.mul_(kept)
        values = torch.bmm(powers, v)
        if self._most is not None:
            fading = (self._most - base).exp_()
            total.addcmul_(self._sum, fading)
            values.addcmul_(self._values, fading)
        self._most, self._sum, self._values = most, total, values
        return powers

    def finish(self, out: torch.Tensor, logarithm: torch.Tensor) -> torch.Tensor:
        r"""Write the weighted values, and the logarithm of each row's sum: :math:`\infty` for an empty row.

        Returns:
            What the exponentials of the last tile are to be divided by.
        """
        assert self._most is not None
        empty = self._sum == 0
        divisor = self._sum.masked_fill(empty, 1.0)
        torch.div(self._values, divisor, out=out)
        logarithm.copy_((self._most + divisor.log()).masked_fill_(empty, math.inf))
        return divisor
