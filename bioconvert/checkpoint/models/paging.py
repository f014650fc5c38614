"""Tensors whose values lie in files and are in memory only while something computes with them.

The model's tensors are ordinary ones, on the CPU, over memory that is reserved but not used. Before an
operation of torch reads one of them, its values are read from the file; when too many are there, the ones
unused for longest are given up, after a copy to a temporary file if they were changed. So a conversion is the
same, step by step, whether the model fits into memory or not.

Only operations of torch in the same thread are seen. ``numpy`` and its like are refused; who reads such a
tensor by a raw pointer, by pickling it or from another thread must take a clone first.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from bioconvert.checkpoint.files.regular_files import blocks, open_regular, read_at
from bioconvert.checkpoint.models.page_faults import Faults, Guard
from bioconvert.checkpoint.tensors.payloads import tensor_bytes
from bioconvert.checkpoint.tensors.safetensors_reader import as_tensor
from bioconvert.checkpoint.tensors.torch_dtypes import CODES
from bioconvert.core.errors import CheckpointError, ResourceError
from bioconvert.core.new_tensors import keeping

BUDGET = 32 << 20
"""Bytes of values that stay in memory between operations; a larger tensor is there while it is used."""
_ARENA = 64 << 20
"""Bytes that are reserved at once for new tensors: little, since a process may be limited in them."""
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
_SMALL = 4096
"""Bytes up to which a new tensor stays in memory: a page of its own would save nothing."""


@dataclass(eq=False, slots=True)
class _Page:
    """The memory of one tensor.

    Args:
        arena: the reserved memory it is part of.
        start: its offset there, a multiple of the system's page size.
        nbytes: its size.
        origin: file and offset at which its values lie until they are changed, if they came from one.
        spilled: their offset in the temporary file, if they are there.
        resident: whether the values are in memory.
        changed: whether they differ from those in a file.
    """

    arena: mmap.mmap
    start: int
    nbytes: int
    origin: tuple[Path, int] | None
    spilled: int | None = None
    resident: bool = False
    changed: bool = False

    @property
    def memory(self) -> memoryview:
        return memoryview(self.arena)[self.start : self.start + self.nbytes]


class Pager:
    """Keeps the values of tensors in files, until it is left as a context; they can't be had after that.

    Args:
        folder: where a temporary file may be made; it has no name, and is gone when the process is.
        budget: bytes of values that may stay in memory between operations.
    """

    def __init__(self, folder: Path, budget: int = BUDGET):
        self._folder, self._budget = folder, budget
        self._pages: dict[int, _Page] = {}
        self._resident: OrderedDict[int, _Page] = OrderedDict()
        self._used = 0
        self._states: dict[Path, tuple[int, ...]] = {}
        self._room: tuple[mmap.mmap, int] | None = None
        self._spill: BinaryIO | None = None
        self._spill_size = 0

    def __enter__(self) -> Pager:
        return self

    def __exit__(self, *error: object) -> None:
        if self._spill is not None:
            self._spill.close()

    @property
    def resident(self) -> int:
        """Bytes of values that are in memory."""
        return self._used

    def reserve(self, nbytes: int) -> None:
        """Reserve memory, without using it, for tensors of so many bytes in all.

        Raises:
            ResourceError: the process may not have as much address space.
        """
        size = whole_pages(max(nbytes, 1))
        try:
            arena = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
        except (OSError, ValueError, OverflowError) as error:
            raise ResourceError(
                f"{size:,} bytes of address space can't be reserved ({error}); raise the limit (ulimit -v)"
            ) from error
        self._room = (arena, 0)

    def tensor(self, path: Path, start: int, dtype: str, shape: tuple[int, ...], nbytes: int) -> torch.Tensor:
        """Give a tensor whose values lie in a file.

        Args:
            path: the file.
            start: offset of their first byte.
            dtype: its number format, by its name in safetensors files.
            shape: its shape.
            nbytes: their number of bytes.
        """
        if path not in self._states:
            with open_regular(path) as handle:
                self._states[path] = _state(handle)
        return as_tensor(self._new_page(nbytes, (path, start)), dtype, shape)

    def adopt(self, tensor: torch.Tensor) -> None:
        """Take over a tensor that is in memory: the object stays, its values may leave."""
        nbytes = tensor.numel() * tensor.element_size()
        if tensor.device.type != "cpu" or nbytes <= _SMALL or self._page_of(tensor) is not None:
            return
        if tensor.layout is not torch.strided or tensor.dtype not in CODES:
            return
        if tensor.untyped_storage().nbytes() != nbytes:
            return  # it shows a part of another, or one element several times
        flat = (tensor.numel(),)
        raw = self._new_page(nbytes, None)
        page = self._pages[raw.data_ptr()]
        page.memory[:] = tensor_bytes(tensor.detach().as_strided(flat, (1,)))
        page.resident = page.changed = True
        tensor.data = as_tensor(raw, CODES[tensor.dtype], flat).as_strided(tensor.shape, tensor.stride())
        self._touch(page, raw.data_ptr())
        self._make_room()

    def blocks(self, tensor: torch.Tensor) -> Iterator[memoryview] | None:
        """Give a tensor's bytes, block by block, without having all of them in memory; else ``None``.

        Raises:
            CorruptFileError: the file that they lie in ends too early.
        """
        page = self._page_of(tensor)
        if page is None:
            return None
        whole = page.nbytes == tensor.numel() * tensor.element_size()
        return self._blocks(page) if whole and tensor.is_contiguous() else self._loaded(tensor)

    def load(self, tensor: torch.Tensor) -> None:
        """See to it that a tensor's values are in memory."""
        self.load_all([tensor], ())

    def load_all(self, read: Iterable[torch.Tensor], written: Iterable[torch.Tensor]) -> None:
        """Bring in what an operation reads; nothing of it is given up before the operation is done.

        Args:
            read: all tensors that it is given.
            written: those of them that it changes.

        Raises:
            CheckpointError: a file is too short, or isn't the one that it was.
            ResourceError: there is no room for changed values that have to leave.
        """
        used = []
        for tensor in read:
            page = self._page_of(tensor)
            if page is not None:
                self._touch(page, tensor.untyped_storage().data_ptr())
                used.append(page)
        self._make_room(keep=used)
        for page in used:
            if not page.resident:
                self._read(page)
        for tensor in written:
            page = self._page_of(tensor)
            if page is not None:
                page.changed = True

    def has(self, tensor: torch.Tensor) -> bool:
        """Say whether a tensor's values are here."""
        return self._page_of(tensor) is not None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """See to it for a while that operations find their values, and that new tensors are taken over."""
        with Faults(self), Guard(self), keeping(self.adopt):
            yield

    def _loaded(self, part: torch.Tensor) -> Iterator[memoryview]:
        self.load(part)
        yield tensor_bytes(part.clone(memory_format=torch.contiguous_format))

    def _blocks(self, page: _Page) -> Iterator[memoryview]:
        if page.resident:
            yield page.memory
        elif page.spilled is not None:
            yield from blocks(self._file(), page.spilled, page.nbytes)
        elif page.origin is not None:
            path, start = page.origin
            with self._opened(path) as handle:
                yield from blocks(handle, start, page.nbytes)

    @contextmanager
    def _opened(self, path: Path) -> Iterator[BinaryIO]:
        with open_regular(path) as handle:
            yield handle
            if _state(handle) != self._states[path]:
                raise CheckpointError(f"{path}: changed while it was converted; convert it again")

    def _page_of(self, tensor: torch.Tensor) -> _Page | None:
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            return None
        return self._pages.get(tensor.untyped_storage().data_ptr())

    def _new_page(self, nbytes: int, origin: tuple[Path, int] | None) -> torch.Tensor:
        if nbytes == 0:
            return torch.empty(0, dtype=torch.uint8)
        size = whole_pages(nbytes)
        if self._room is None or self._room[1] + size > len(self._room[0]):
            self.reserve(max(_ARENA, size))
        assert self._room is not None
        arena, start = self._room
        self._room = (arena, start + size)
        raw = torch.frombuffer(arena, dtype=torch.uint8, count=nbytes, offset=start)
        self._pages[raw.data_ptr()] = _Page(arena, start, nbytes, origin)
        return raw

    def _read(self, page: _Page) -> None:
        if page.spilled is not None:
            read_at(self._file(), page.spilled, page.memory)
        elif page.origin is not None:
            path, start = page.origin
            with self._opened(path) as handle:
                read_at(handle, start, page.memory)
        page.resident = True

    def _touch(self, page: _Page, key: int) -> None:
        if key not in self._resident:
            self._used += page.nbytes
        self._resident[key] = page
        self._resident.move_to_end(key)

    def _make_room(self, keep: Iterable[_Page] = ()) -> None:
        """Give up values, those unused for longest first, until the rest is within the budget."""
        kept = set(map(id, keep))
        while self._used > self._budget:
            unused = next((each for each in self._resident.items() if id(each[1]) not in kept), None)
            if unused is None:
                return
            key, page = unused
            self._give_up(page)
            del self._resident[key]
            self._used -= page.nbytes

    def _give_up(self, page: _Page) -> None:
        if page.changed:
            self._write_away(page)
        page.resident = False  # first, so that an interrupt in between leaves no zeros that count as values
        page.arena.madvise(mmap.MADV_DONTNEED, page.start, page.nbytes)

    def _write_away(self, page: _Page) -> None:
        if page.spilled is None:
            page.spilled, self._spill_size = self._spill_size, self._spill_size + page.nbytes
        try:
            _write_at(self._file(), page.spilled, page.memory)
        except OSError as error:
            raise ResourceError(
                f"{self._folder}: changed values can't be put into a temporary file there "
                f"({error.strerror or error}); make room, or convert in memory (--no-stream)"
            ) from error
        page.changed = False

    def _file(self) -> BinaryIO:
        if self._spill is None:
            self._spill = tempfile.TemporaryFile(buffering=0, dir=_existing(self._folder))  # noqa: SIM115 - lives with the pager
        return self._spill


def _state(handle: BinaryIO) -> tuple[int, ...]:
    """Give what changes when another file takes a file's name, or when it is written to."""
    found = os.fstat(handle.fileno())
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _write_at(handle: BinaryIO, offset: int, data: memoryview) -> None:
    while data:
        count = os.pwrite(handle.fileno(), data, offset)
        data, offset = data[count:], offset + count


def _existing(folder: Path) -> Path:
    """Give a folder, or the nearest above it that exists."""
    return next(each for each in (folder, *folder.absolute().parents) if each.is_dir())


def whole_pages(nbytes: int) -> int:
    """Round a number of bytes up to the system's pages."""
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
