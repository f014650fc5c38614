"""How unsure a model is: the entropy of what it gives, never of what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any

import torch

from bioconvert.core.errors import OptionError
from bioconvert.organism.merging import first_floating

_ROWS = 1024
"""Distributions of a batch that are looked at: those of a language model would fill the memory again."""
_PICTURE = 4
"""From this many dimensions on, classes lie in the second one, as convolutions have them."""


@torch.no_grad()
def output_entropy(outputs: Any) -> torch.Tensor:
    r"""Measure the mean entropy of softmaxed outputs, as a share of the largest there could be.

    .. math::
        H = -\frac{1}{N \log K} \sum_{n=1}^N \sum_{k=1}^K p_{nk} \log p_{nk},
        \qquad p_n = \operatorname{softmax}(y_n)

    Args:
        outputs: logits, or what holds them: under ``logits`` in a mapping, or else as the first tensor of
            floating numbers with two dimensions or more. Of more than 1,024 rows, evenly spread ones count.

    Shape:
        - Logits: :math:`(N, K)` or :math:`(N, *, K)`, and :math:`(N, K, *, *)` of four dimensions or more.
        - Output: a scalar in [0, 1], on the device of the outputs; fp32.

    Raises:
        OptionError: there are no logits of at least two classes.

    Example:
        >>> output_entropy(torch.zeros(2, 3)).item()
        1.0
    """
    logits = _logits(outputs)
    if logits is None:
        raise OptionError("outputs must hold logits: a tensor of floating numbers, [batch, …, classes]")
    rows = logits.movedim(1, -1) if logits.ndim >= _PICTURE else logits
    classes = rows.shape[-1]
    if classes < 2:
        raise OptionError("a single output has no entropy: let a plateau of the loss be the trigger")
    rows = rows.reshape(-1, classes)
    rows = rows[:: -(-len(rows) // _ROWS) or 1].detach().float()
    entropy: torch.Tensor = torch.special.entr(rows.softmax(-1)).sum(-1).mean()
    return entropy / log(classes)


def _logits(outputs: Any) -> torch.Tensor | None:
    if isinstance(outputs, Mapping) and "logits" in outputs:
        return _logits(outputs["logits"])
    if isinstance(outputs, (Mapping, tuple, list)):
        parts = outputs.values() if isinstance(outputs, Mapping) else outputs
        return next((found for found in map(_logits, parts) if found is not None), None)
    found = first_floating(outputs)
    return None if found is None or found.ndim < 2 else found
