"""Random numbers that are a function of seed, name, purpose, step and position, and of nothing else.

The same tensor arises in one process and in two, in memory and while streaming, whatever the order of calls.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

from bioconvert.core.context import holding
from bioconvert.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import torch
else:
    # Mechanisms of plasticity take CHUNK from here, and rule files are checked without torch.
    np = LazyModule("numpy")
    torch = LazyModule("torch")

CHUNK = 65_536
"""Elements drawn from one generator; part of the definition, since it decides every later element."""
_FRACTIONS, _EXPONENTS = 0x007FFFFF_007FFFFF, 0x3F800000_3F800000
"""Of two numbers in fp32."""
Draw = Callable[["torch.Tensor", int], object]
"""Fills a row with the numbers of one seed."""


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
        return self._drawn(purpose, shape, step, _normal)

    def uniform(
        self, purpose: str, shape: tuple[int, ...], *, step: int = 0, low: float = 0.0, high: float = 1.0
    ) -> torch.Tensor:
        """Draw uniform numbers in [low, high), rounded: fp32, on the CPU."""
        if _undrawn.get():
            return torch.empty(shape, dtype=torch.float32, device="meta")
        out = torch.empty(prod(shape), dtype=torch.float32, device="cpu")
        self.fill_uniform(out, purpose, start=0, total=len(out), step=step, low=low, high=high)
        return out.view(shape)

    def gamma(
        self, purpose: str, shape: tuple[int, ...], concentration: float, *, step: int = 0
    ) -> torch.Tensor:
        """Draw from the gamma distribution of a concentration, with scale 1: fp32, on the CPU."""

        def draw(row: torch.Tensor, seed: int) -> None:
            parameter = torch.full_like(row, concentration)
            row.copy_(torch._standard_gamma(parameter, generator=_generator(seed)))

        return self._drawn(purpose, shape, step, draw)

    def fill_normal(
        self,
        out: torch.Tensor,
        purpose: str,
        *,
        start: int,
        total: int,
        step: int = 0,
        mean: float = 0.0,
        deviation: float = 1.0,
    ) -> None:
        """Fill a row with the normal numbers of a part of a whole.

        Args:
            out: the row, of any floating-point type, on any device.
            purpose: what they are for.
            start: where the part begins in the whole.
            total: number of elements of the whole.
            step: the step they are for.
            mean: their mean.
            deviation: their standard deviation.
        """
        self._fill(out, purpose, step, start, total, lambda row, seed: _normal(row, seed, mean, deviation))

    def fill_uniform(
        self,
        out: torch.Tensor,
        purpose: str,
        *,
        start: int,
        total: int,
        step: int = 0,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        """Fill a row with the uniform numbers in [low, high) of a part of a whole, as :meth:`fill_normal`."""

        def draw(row: torch.Tensor, seed: int) -> None:
            _uniform(row, seed, low, high)

        # Numpy's generators hold the interpreter's lock: in threads they only get slower (measured).
        self._fill(out, purpose, step, start, total, draw, threads=1)

    def _drawn(self, purpose: str, shape: tuple[int, ...], step: int, draw: Draw) -> torch.Tensor:
        if _undrawn.get():
            return torch.empty(shape, dtype=torch.float32, device="meta")
        out = torch.empty(prod(shape), dtype=torch.float32, device="cpu")
        self._fill(out, purpose, step, 0, len(out), draw)
        return out.view(shape)

    def _fill(
        self,
        out: torch.Tensor,
        purpose: str,
        step: int,
        start: int,
        total: int,
        draw: Draw,
        *,
        threads: int = 0,
    ) -> None:
        direct = out.dtype == torch.float32 and out.device.type == "cpu"

        def fill(piece: tuple[int, int]) -> None:
            done, index = piece
            first = start + done - index * CHUNK
            # How the first numbers of a generator come out depends on how many are asked for.
            size = min(CHUNK, total - index * CHUNK)
            row = out[done : done + size - first]
            if direct and len(row) == size:
                draw(row, self._seed(purpose, step, index))
                return
            drawn = torch.empty(size, dtype=torch.float32, device="cpu")
            draw(drawn, self._seed(purpose, step, index))
            row.copy_(drawn[first : first + len(row)])

        edges = range(start - start % CHUNK, start + len(out), CHUNK)
        _side_by_side(fill, [(max(edge - start, 0), edge // CHUNK) for edge in edges], threads)

    def _seed(self, purpose: str, step: int, chunk: int) -> int:
        # The parts are length-prefixed by repr, so that no two of them can run into one another.
        key = repr((self.seed, self.name, purpose, step, chunk)).encode()
        digest = hashlib.blake2b(key, digest_size=8).digest()
        # manual_seed takes 64 bits, of which torch.Generator keeps the sign: 63 are safe everywhere.
        return int.from_bytes(digest, "little") >> 1


def undrawn() -> AbstractContextManager[None]:
    """Draw nothing for a while: random tensors are on the meta device, for who asks for shapes alone."""
    return holding(_undrawn, True)


_undrawn: ContextVar[bool] = ContextVar("undrawn", default=False)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(row: torch.Tensor, seed: int, mean: float = 0.0, deviation: float = 1.0) -> None:
    row.normal_(mean, deviation, generator=_generator(seed))


def _uniform(row: torch.Tensor, seed: int, low: float = 0.0, high: float = 1.0) -> None:
    """Fill a row by a generator much faster than torch's (measured): two numbers of 23 bits a word."""
    generator, target = np.random.Generator(np.random.SFC64(seed)), row.numpy()
    words = generator.integers(0, 2**64 - 1, -(-len(target) // 2), dtype=np.uint64, endpoint=True)
    # With this exponent, what bits the fraction may have is a number in [1, 2).
    words &= _FRACTIONS
    words |= _EXPONENTS
    np.multiply(words.view(np.float32)[: len(target)], high - low, out=target)
    target += 2 * low - high


def _side_by_side(
    work: Callable[[tuple[int, int]], None], pieces: list[tuple[int, int]], threads: int
) -> None:
    """Do independent pieces of work in so many threads; 0 for as many as torch uses, which draws in one."""
    threads = threads or torch.get_num_threads()
    if min(threads, len(pieces)) < 2:
        for piece in pieces:
            work(piece)
        return
    inference = torch.is_inference_mode_enabled()

    def in_mode(piece: tuple[int, int]) -> None:
        with torch.inference_mode(inference):
            work(piece)

    for _ in _pool(os.getpid(), threads).map(in_mode, pieces):
        pass


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Give the threads of this process: those of the one it was forked from are not there."""
    del process
    return ThreadPoolExecutor(threads, "bioconvert-random")
