"""Random numbers that are a function of seed, name, purpose, step and position, and of nothing else.

The same tensor arises in one process and in two, in memory and while streaming, whatever the order of calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING

from bioconvert.core.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    # Mechanisms of plasticity take CHUNK from here, and rule files are checked without torch.
    torch = LazyModule("torch")

CHUNK = 65_536
"""Elements drawn from one generator; part of the definition, since it decides every later element."""


class Stream:
    """The random numbers that belong to one name under one seed.

    Args:
        seed: the user's seed.
        name: the dotted name of the module or parameter they are for.
    """

    def __init__(self, seed: int, name: str):
        self.seed = seed
        self.name = name

    def normal(self, purpose: str, shape: tuple[int, ...], *, step: int = 0) -> torch.Tensor:
        """Draw standard normal numbers: fp32, on the CPU."""
        return self._draw(purpose, shape, step, lambda n, g: torch.randn(n, generator=g))

    def uniform(self, purpose: str, shape: tuple[int, ...], *, step: int = 0) -> torch.Tensor:
        """Draw uniform numbers in [0, 1): fp32, on the CPU."""
        return self._draw(purpose, shape, step, lambda n, g: torch.rand(n, generator=g))

    def gamma(
        self, purpose: str, shape: tuple[int, ...], concentration: float, *, step: int = 0
    ) -> torch.Tensor:
        """Draw from the gamma distribution of a concentration, with scale 1: fp32, on the CPU."""
        return self._draw(
            purpose,
            shape,
            step,
            lambda n, g: torch._standard_gamma(torch.full((n,), concentration), generator=g),
        )

    def fill(
        self, out: torch.Tensor, purpose: str, index: int, *, step: int = 0, mean: float, deviation: float
    ) -> torch.Tensor:
        """Fill a row, fp32 on the CPU, with the normal numbers of one chunk; its length counts."""
        return out.normal_(mean, deviation, generator=self._generator(purpose, step, index))

    def _draw(
        self,
        purpose: str,
        shape: tuple[int, ...],
        step: int,
        draw: Callable[[int, torch.Generator], torch.Tensor],
    ) -> torch.Tensor:
        count = prod(shape)
        chunks = [
            draw(min(CHUNK, count - start), self._generator(purpose, step, start // CHUNK))
            for start in range(0, count, CHUNK)
        ]
        return torch.cat(chunks).view(shape) if chunks else torch.empty(shape)

    def _generator(self, purpose: str, step: int, chunk: int) -> torch.Generator:
        # The parts are length-prefixed by repr, so that no two of them can run into one another.
        key = repr((self.seed, self.name, purpose, step, chunk)).encode()
        digest = hashlib.blake2b(key, digest_size=8).digest()
        # manual_seed takes 64 bits, of which torch.Generator keeps the sign: 63 are safe everywhere.
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
