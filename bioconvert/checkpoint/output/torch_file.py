"""Tensors into one file that torch.load reads, one tensor in memory at a time.

The same tensors give the same bytes. A training dict that the weights came from is kept around them.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import IO, Any, cast

import torch

from bioconvert.checkpoint.files.dtypes import stored_form
from bioconvert.checkpoint.files.torch_table import ARCHIVE, TABLE
from bioconvert.checkpoint.folders.manifest import FileRecord, TensorRecord
from bioconvert.checkpoint.formats.nesting import check_claim
from bioconvert.checkpoint.output.journal import FinishedFile
from bioconvert.checkpoint.output.new_files import Digest, FileWriter, new_file
from bioconvert.checkpoint.output.writing import Output, Payload, Written, blocks_of, finished_file
from bioconvert.checkpoint.tensors.payloads import payloads_of
from bioconvert.checkpoint.tensors.tensor_digest import TensorDigest
from bioconvert.checkpoint.tensors.ties import Ties, leaders, same_memory
from bioconvert.checkpoint.tensors.torch_dtypes import TORCH_DTYPES

TORCH_FILE = "model.pt"
_ALIGNMENT = 64
_BEFORE_DATA = 30 + 4
"""Bytes of a zip entry before its data, beside its name: the fixed part and the head of the padding."""
_ZIP64 = 20
_PADDING = 0x4246
"""The field that torch pads its own entries with."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class TorchForm:
    """What goes into the file beside the tensors.

    Args:
        ties: groups of names that stand for one tensor, of which only the first is among the tensors.
        around: the training dict that the weights came from; ``None`` for a state dict alone.
        nesting: the keys in it under which the weights belong.
        others: what modules keep in the state dict beside tensors.
    """

    ties: Ties = ()
    around: Mapping[Any, Any] | None = None
    nesting: tuple[str, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)


def write_torch_file(output: Output, payloads: Sequence[Payload], form: TorchForm) -> Written:
    """Write ``model.pt``: a state dict, or a training dict with one in it.

    Raises:
        CheckpointError: the training dict holds a tensor that no file can hold.
    """

    def write(output: Output, name: str, payloads: Sequence[Payload]) -> FinishedFile:
        return _write(output, name, payloads, form)

    finished = finished_file(output, TORCH_FILE, payloads, write)
    return Written(dict(finished.tensors), {TORCH_FILE: finished.record})


def _write(output: Output, name: str, payloads: Sequence[Payload], form: TorchForm) -> FinishedFile:
    stored = [_Stored(payload, str(number)) for number, payload in enumerate(payloads)]
    content = _Content(stored)
    pickled = content.pickle(_whole(stored, form))
    whole = sha256()
    with new_file(output.folder / name) as file, _Archive(file, whole).opened() as archive:
        archive.put("data.pkl", pickled)
        archive.put("byteorder", b"little")
        for each in content.stored:
            archive.put_tensor(each, output)
        archive.put("version", b"3\n")
        archive.put(TABLE.removeprefix(f"{ARCHIVE}/"), _table(stored))
    return FinishedFile(
        file=name,
        record=FileRecord(size=file.size, sha256=whole.hexdigest()),
        tensors={each.payload.name: each.record(name) for each in stored},
    )


def _whole(stored: Sequence[_Stored], form: TorchForm) -> object:
    """Put the state dict where it was in what was around it."""
    state: OrderedDict[str, object] = OrderedDict((each.payload.name, each) for each in stored)
    for name, leader in leaders(form.ties).items():
        state[name] = state[leader]
    state.update(form.others)
    return state if form.around is None else _with(form.around, form.nesting, state)


def _with(around: Mapping[Any, Any], nesting: tuple[str, ...], state: object) -> object:
    if not nesting:
        return state
    key, *rest = nesting
    return {**around, key: _with(around[key], tuple(rest), state)}


def _table(stored: Sequence[_Stored]) -> bytes:
    fields = {}
    for each in stored:
        dtype, shape = stored_form(each.payload.dtype, each.payload.shape)
        offsets = [each.start, each.start + each.payload.nbytes]
        fields[each.payload.name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


@dataclass(slots=True, eq=False)
class _Stored:
    """A tensor that gets a record of its own in the archive.

    Args:
        payload: the tensor.
        key: name of the record.
        start: offset of its bytes in the file, once they are written.
        digest: what is put on record of its bytes.
    """

    payload: Payload
    key: str
    start: int = 0
    digest: TensorDigest = field(init=False)

    def __post_init__(self) -> None:
        self.digest = TensorDigest(self.payload.dtype, self.payload.shape)

    @property
    def storage(self) -> _Storage:
        return _Storage(self.key, TORCH_DTYPES[self.payload.dtype], self.payload.nbytes)

    def reduced(self) -> tuple[Any, ...]:
        """Give what a pickle says of it."""
        shape = self.payload.shape
        what: tuple[Any, ...] = (self.storage, 0, shape, _strides(shape), False, OrderedDict())
        if self.storage.is_typed:
            return torch._utils._rebuild_tensor_v2, what
        return torch._utils._rebuild_tensor_v3, (*what, TORCH_DTYPES[self.payload.dtype])

    def record(self, file: str) -> TensorRecord:
        """Give what the manifest says of it."""
        return self.digest.record(file)


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: torch.dtype
    nbytes: int

    @property
    def is_typed(self) -> bool:
        return self.dtype in torch.storage._dtype_to_storage_type_map()

    def reference(self) -> tuple[Any, ...]:
        """Give what stands for it in a pickle."""
        if not self.is_typed:
            return ("storage", torch.UntypedStorage, self.key, "cpu", self.nbytes)
        kind = getattr(torch, torch.storage._dtype_to_storage_type_map()[self.dtype])
        return ("storage", kind, self.key, "cpu", self.nbytes // self.dtype.itemsize)


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= max(size, 1)
    return tuple(strides)


class _Content(pickle.Pickler):
    """Pickles a state dict and what is around it; each tensor of the latter gets a record too.

    Args:
        stored: the tensors that have one already.
    """

    def __init__(self, stored: Sequence[_Stored]):
        self._stream = io.BytesIO()
        super().__init__(self._stream, protocol=2)
        self.stored = list(stored)
        self._around: dict[Any, tuple[_Stored, torch.Tensor]] = {}

    def pickle(self, value: object) -> bytes:
        """Give the pickle."""
        self.dump(value)
        return self._stream.getvalue()

    def persistent_id(self, value: object) -> object:
        """Name a storage by its record."""
        return value.reference() if isinstance(value, _Storage) else None

    def reducer_override(self, value: object) -> Any:
        """Say how a tensor is rebuilt."""
        if isinstance(value, _Stored):
            return value.reduced()
        if isinstance(value, torch.Tensor):
            return self._kept(value.detach()).reduced()
        return NotImplemented

    def _kept(self, tensor: torch.Tensor) -> _Stored:
        key = same_memory(tensor)
        if key not in self._around:
            check_claim(tensor)
            (payload,) = payloads_of({"of the training dict": tensor})
            self.stored.append(_Stored(payload, str(len(self.stored))))
            # The tensor is held so that no other can take its place in memory.
            self._around[key] = (self.stored[-1], tensor)
        return self._around[key][0]


class _Archive:
    """A zip archive that is written from beginning to end, aligned as torch does it.

    Args:
        file: takes the bytes.
        whole: hash of all of them.
    """

    def __init__(self, file: FileWriter, whole: Digest):
        self._file, self._digests = file, [whole]

    @contextmanager
    def opened(self) -> Iterator[_Archive]:
        """Begin the archive, and end it."""
        with zipfile.ZipFile(cast("IO[bytes]", self), "w") as self._zip:
            yield self

    def write(self, data: bytes | memoryview) -> int:
        """Take bytes from zipfile, which can't seek here."""
        self._file.put(data, *self._digests)
        return len(data)

    def flush(self) -> None:
        """Do nothing: the file is written through when it ends."""

    def put(self, name: str, content: bytes) -> None:
        """Write a whole entry."""
        with self._entry(name, len(content)) as entry:
            entry.write(content)

    def put_tensor(self, stored: _Stored, output: Output) -> None:
        """Write the bytes of a tensor."""
        with self._entry(f"data/{stored.key}", stored.payload.nbytes) as entry:
            stored.start = self._file.size
            self._digests.append(stored.digest)
            for block in blocks_of(stored.payload):
                entry.write(block)
                if output.transfer is not None:
                    output.transfer.add(len(block))
            self._digests.pop()

    @contextmanager
    def _entry(self, name: str, size: int) -> Iterator[Any]:
        info = zipfile.ZipInfo(f"{ARCHIVE}/{name}", _EPOCH)
        info.file_size, info.create_system, info.external_attr = size, 0, 0
        wide = size * 1.05 > zipfile.ZIP64_LIMIT
        before = self._file.size + _BEFORE_DATA + len(info.filename.encode()) + wide * _ZIP64
        padding = -before % _ALIGNMENT
        info.extra = _PADDING.to_bytes(2, "little") + padding.to_bytes(2, "little") + b"Z" * padding
        with self._zip.open(info, "w", force_zip64=wide) as entry:
            yield entry
