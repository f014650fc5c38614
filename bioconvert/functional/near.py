"""Inputs that lie so near a weight that fp32 can't tell their distance."""

from __future__ import annotations

import torch

from bioconvert.functional.yat_formula import Terms, denominator

NEAR = 2e-3
"""A squared distance below this part of the squared norms is a difference too small for fp32.

Its rounding error is at most 6e-7 of the squared norms (measured for 16 to 4096 features), so that what is
not near is right to 3e-4.
"""


def may_be_near(least: torch.Tensor, terms: Terms) -> bool:
    """Say whether an input may lie near some weight.

    Args:
        least: for each input, no more than its least denominator.
        terms: the terms of the product.
    """
    margin = torch.sub(least, terms.input_norm, alpha=NEAR).amin().item()
    return margin < NEAR * terms.weight_norm.amax().item()


def near_inputs(score: torch.Tensor, terms: Terms, floor: float) -> torch.Tensor:
    """Give the indices in dimension 0 of inputs that lie near some weight.

    Args:
        score: the scores.
        terms: what else enters the product.
        floor: least squared distance, in units of the squared norms.
    """
    near = denominator(score, terms, floor) < NEAR * (terms.input_norm + terms.weight_norm)
    return near.flatten(1).any(1).nonzero().squeeze(1)


def no_inputs(score: torch.Tensor) -> torch.Tensor:
    """Give no index at all."""
    return score.new_empty(0, dtype=torch.long)
