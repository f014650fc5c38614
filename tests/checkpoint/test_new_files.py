"""Files of any size are written, hashed and brought to the disk with a few buffers of memory."""

import hashlib
import os
import random
import tracemalloc

import pytest

from bioconvert.checkpoint.output import new_files
from bioconvert.checkpoint.output.new_files import new_file, write_hashed

MIB = 1 << 20


def pieces(total, seed=0):
    """Give random bytes in blocks of very different sizes, all in one buffer that is used again."""
    random_numbers = random.Random(seed)
    buffer = bytearray(6 * MIB)
    while total:
        size = min(total, random_numbers.choice([1, 7, 4096, MIB, 4 * MIB, 4 * MIB + 1, 6 * MIB]))
        buffer[:size] = random_numbers.randbytes(size)
        yield memoryview(buffer)[:size]
        total -= size


@pytest.mark.parametrize("total", [0, 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 25 * MIB])
def test_content_and_hash_are_those_of_the_blocks(tmp_path, total):
    """Whatever the sizes of file and blocks, and though a block's memory is used again at once."""
    record = write_hashed(tmp_path / "file", pieces(total))
    expected = b"".join(bytes(piece) for piece in pieces(total))
    assert (tmp_path / "file").read_bytes() == expected
    assert (record.size, record.sha256) == (total, hashlib.sha256(expected).hexdigest())


def test_each_part_has_its_hash(tmp_path):
    """Hashes begin and end within a buffer or reach over several."""
    parts = [random.Random(seed).randbytes(size) for seed, size in enumerate([3, 9 * MIB, 0, 5, 4 * MIB])]
    digests = [hashlib.sha256() for _ in parts]
    with new_file(tmp_path / "file") as file:
        file.put(b"head")
        for part, digest in zip(parts, digests, strict=True):
            file.put(part, digest)
    assert (tmp_path / "file").read_bytes() == b"head" + b"".join(parts)
    assert [digest.digest() for digest in digests] == [hashlib.sha256(part).digest() for part in parts]


def test_memory_is_that_of_the_buffers(tmp_path):
    """A long file takes no more memory than a short one."""
    buffer = memoryview(bytearray(MIB))
    tracemalloc.start()
    try:
        write_hashed(tmp_path / "file", (buffer for _ in range(64)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * MIB


@pytest.mark.parametrize("fails", [1, 3, 6])
def test_an_error_in_a_thread_is_an_error(tmp_path, monkeypatch, fails):
    """What the system refuses while other blocks are made ends the work, and no thread is left."""
    real, calls = os.write, []

    def full(descriptor, data):
        calls.append(len(data))
        if len(calls) == fails:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(new_files.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_hashed(tmp_path / "file", pieces(40 * MIB))
    import threading

    assert [thread.name for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name] == []


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    """The system may take less than it is given."""
    real = os.write
    monkeypatch.setattr(
        new_files.os, "write", lambda descriptor, data: real(descriptor, data[: 3 * MIB // 2])
    )
    write_hashed(tmp_path / "file", pieces(9 * MIB))
    assert (tmp_path / "file").read_bytes() == b"".join(bytes(piece) for piece in pieces(9 * MIB))


def test_an_existing_file_is_not_replaced(tmp_path):
    """Only new files are written."""
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(FileExistsError):
        write_hashed(tmp_path / "file", [b"2"])
    assert (tmp_path / "file").read_bytes() == b"1"


def test_a_system_that_cannot_begin_early_waits_for_the_end(tmp_path, monkeypatch):
    """Where the C library has no sync_file_range all is synced at the end."""
    monkeypatch.setattr(new_files.ctypes, "CDLL", lambda _: object())
    assert write_hashed(tmp_path / "file", pieces(40 * MIB)).size == 40 * MIB
