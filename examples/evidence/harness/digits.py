"""scikit-learn's digits: 1,797 pictures of 8 × 8 pixels, nearly linearly separable."""

from __future__ import annotations

from typing import NamedTuple

import torch
from sklearn.datasets import load_digits

_TEST = 450


class Digits(NamedTuple):
    """Pictures in [0, 1], [n, 64], and labels, for training and for testing."""

    inputs: torch.Tensor
    labels: torch.Tensor
    test_inputs: torch.Tensor
    test_labels: torch.Tensor

    def as_pictures(self) -> Digits:
        """Give the pictures as [n, 1, 8, 8]."""
        return self._replace(
            inputs=self.inputs.view(-1, 1, 8, 8), test_inputs=self.test_inputs.view(-1, 1, 8, 8)
        )


def digits(seed: int) -> Digits:
    """Give the digits, split by chance."""
    data = load_digits()
    inputs, labels = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    test, train = order[:_TEST], order[_TEST:]
    return Digits(inputs[train], labels[train], inputs[test], labels[test])
