"""What the composers have in common as modules: they hold the tensors that a pure function reads."""

from __future__ import annotations

import torch
from torch import nn

from bioconvert.core.random import Stream
from bioconvert.layers.composer import Composer

_LINEAR = "context_transform"


class TensorComposer(nn.Module):
    """Holds a composer's tensors, those of the context's linear map in ``context_transform``.

    Args:
        composer: the pure function.
        context_length: length :math:`L` of a context vector.
        rows: number of rows :math:`H` of a matrix.
        cols: number of columns :math:`W`.
        device: where the tensors are.
        dtype: their type.
    """

    def __init__(
        self,
        composer: Composer,
        context_length: int,
        rows: int,
        cols: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        for name, size in (("context_length", context_length), ("rows", rows), ("cols", cols)):
            if size < 1:
                raise ValueError(f"{name} must be positive, got {size}")
        super().__init__()
        self.composer = composer
        self.context_length, self.rows, self.cols = context_length, rows, cols
        described = composer.tensors(rows, cols, context_length)
        outputs = described[f"{_LINEAR}_bias"].shape[0]
        self.context_transform = nn.Linear(context_length, outputs, device="meta")
        # From torch's own generator, so that torch.manual_seed decides them as it does for every layer.
        stream = Stream(int(torch.randint(2**62, (), device="cpu")), type(self).__name__)
        for name, tensor in described.items():
            parameter = tensor.parameter(stream, name, device=device, dtype=dtype)
            self._owner(name).register_parameter(name.removeprefix(f"{_LINEAR}_"), parameter)
        self._names = tuple(described)

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        """Compose one matrix for each context."""
        tensors = {name: getattr(self._owner(name), name.removeprefix(f"{_LINEAR}_")) for name in self._names}
        return self.composer.compose(context, tensors, self.rows, self.cols, training=self.training)

    def extra_repr(self) -> str:
        """Show the sizes and the composer."""
        return f"{self.context_length} → {self.rows} x {self.cols}, {self.composer}"

    def _owner(self, name: str) -> nn.Module:
        return self.context_transform if name.startswith(_LINEAR) else self
