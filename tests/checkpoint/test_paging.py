"""Tensors whose values lie in files behave as if they were in memory."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save_file

from bioconvert.checkpoint.files.header import read_header
from bioconvert.checkpoint.models.page_faults import StreamingError
from bioconvert.checkpoint.models.paging import Pager
from bioconvert.core.errors import CheckpointError, CorruptFileError, ResourceError
from bioconvert.core.new_tensors import announce

SIZE = 4096
"""Elements of a tensor; four pages."""


@pytest.fixture
def make_pager(tmp_path):
    """Give a function that makes pagers, which end with the test."""
    with ExitStack() as stack:
        yield lambda budget=1 << 20: stack.enter_context(Pager(tmp_path, budget))


@pytest.fixture
def values() -> dict[str, torch.Tensor]:
    """Some tensors."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(64, 64, generator=generator) for name in "abcde"}


def paged(pager: Pager, values: dict[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    """Put tensors into a file, and give them as tensors of a pager."""
    path = folder / "values.safetensors"
    save_file(values, path)
    return {
        name: pager.tensor(path, entry.start, entry.dtype, entry.shape, entry.nbytes)
        for name, entry in read_header(path).tensors.items()
    }


def bytes_of(pager: Pager, tensor: torch.Tensor) -> bytes:
    """Give what would be written of a tensor."""
    return b"".join(bytes(block) for block in pager.blocks(tensor))


@pytest.mark.parametrize("budget", [0, 3 * 4 * SIZE, 1 << 20])
class TestValues:
    """However little may stay in memory, every operation finds the right values."""

    def test_operations_find_them(self, values, tmp_path, budget, make_pager):
        """Single tensors, lists of them, views and keyword arguments are read."""
        pager = make_pager(budget)
        found = paged(pager, values, tmp_path)
        with pager.at_work():
            for name in "abcdeabc":
                assert torch.equal(found[name] * 1, values[name])
            assert torch.equal(torch.cat([found[name] for name in "abcde"]), torch.cat(list(values.values())))
            assert torch.equal(found["b"].T[3:5] + 0, values["b"].T[3:5])
            assert torch.equal(torch.add(found["a"], other=found["c"]), values["a"] + values["c"])
            assert bool(found["d"].isfinite().all())

    def test_changes_last(self, values, tmp_path, budget, make_pager):
        """What is written in place is there later, and the file is as it was."""
        pager = make_pager(budget)
        found = paged(pager, values, tmp_path)
        before = (tmp_path / "values.safetensors").read_bytes()
        with pager.at_work():
            found["a"].add_(1)
            found["b"][2].zero_()
            torch.mul(found["c"], 2, out=found["c"])
            for name in "edcba":
                found[name].sum()
            expected = {**values, "a": values["a"] + 1, "b": values["b"].clone(), "c": values["c"] * 2}
            expected["b"][2] = 0
            assert all(torch.equal(found[name] + 0, expected[name]) for name in values)
        assert (tmp_path / "values.safetensors").read_bytes() == before
        assert all(bytes_of(pager, found[name]) == expected[name].numpy().tobytes() for name in values)

    def test_new_tensors_are_taken_over(self, values, tmp_path, budget, make_pager):
        """An announced tensor stays the same object with the same values, of which there may be many."""
        pager = make_pager(budget)
        given = {name: torch.nn.Parameter(value.clone()) for name, value in values.items()}
        with pager.at_work():
            announce(given.values())
            assert all(torch.equal(given[name] + 0, values[name]) for name in values)
        assert all(bytes_of(pager, given[name]) == values[name].numpy().tobytes() for name in values)

    def test_parts_can_be_written(self, values, tmp_path, budget, make_pager):
        """A view that isn't the whole, or not in the order of the file, has its own bytes."""
        pager = make_pager(budget)
        found = paged(pager, values, tmp_path)
        assert bytes_of(pager, found["a"].T) == values["a"].T.contiguous().numpy().tobytes()
        assert bytes_of(pager, found["b"][1:3]) == values["b"][1:3].numpy().tobytes()


def test_what_stays_in_memory_is_bounded(values, tmp_path, make_pager):
    """After an operation no more values stay than the budget allows."""
    pager = make_pager(2 * 4 * SIZE)
    found = paged(pager, values, tmp_path)
    with pager.at_work():
        for tensor in found.values():
            tensor.sum()
            assert pager.resident <= 2 * 4 * SIZE


def test_a_file_that_became_shorter_is_an_error(values, tmp_path, make_pager):
    """Reading past the end of a file raises, and no zeros are taken for values."""
    pager, path = make_pager(), tmp_path / "values.safetensors"
    save_file(values, path)
    last = max(read_header(path).tensors.values(), key=lambda entry: entry.start)
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size - 1)
    tensor = pager.tensor(path, last.start, last.dtype, last.shape, last.nbytes)
    with pager.at_work(), pytest.raises(CorruptFileError, match="ends 1 bytes too early"):
        tensor.sum()


def test_other_tensors_are_not_theirs(make_pager):
    """Of a tensor in memory a pager has no bytes to give."""
    assert make_pager().blocks(torch.ones(3)) is None


def test_operations_that_copy_under_the_name_of_a_view(values, tmp_path, make_pager):
    """In inference mode ``reshape``, ``to`` and their like come whole, and copy where they must."""
    pager = make_pager(0)
    found = paged(pager, values, tmp_path)
    with pager.at_work(), torch.inference_mode():
        assert torch.equal(found["a"].T.reshape(-1), values["a"].T.reshape(-1))
        assert torch.equal(found["b"].to(torch.float64), values["b"].to(torch.float64))
        assert torch.equal(found["c"].T.contiguous(), values["c"].T)
        assert torch.equal(found["d"].expand(3, 64, 64).flatten(), values["d"].expand(3, 64, 64).flatten())


def test_statistics_that_batch_norm_updates_last(values, tmp_path, make_pager):
    """What an operation changes without declaring it is there later."""
    pager = make_pager(0)
    found, batch = paged(pager, values, tmp_path), torch.ones(8, 4096) * 5
    means = values["a"].reshape(-1).clone()
    torch.nn.functional.batch_norm(batch, means, values["b"].reshape(-1).clone(), training=True)
    with pager.at_work():
        mean, variance = found["a"].view(-1), found["b"].view(-1)
        torch.nn.functional.batch_norm(batch, mean, variance, training=True)
        found["c"].sum()
        assert torch.equal(mean + 0, means)


class TestReadingPastTorch:
    """Who takes a tensor's values without an operation gets them or an error, never zeros."""

    @pytest.mark.parametrize(
        "read",
        [
            pytest.param(lambda tensor: tensor.numpy(), id="numpy"),
            pytest.param(numpy.asarray, id="asarray"),
            pytest.param(torch.from_dlpack, id="dlpack"),
        ],
    )
    @pytest.mark.parametrize("part", [slice(None), slice(1, 2)])
    def test_what_would_go_stale_is_refused(self, values, tmp_path, make_pager, read, part):
        """What is held without torch's knowledge could be given up under its holder."""
        pager = make_pager(0)
        found = paged(pager, values, tmp_path)
        with pager.at_work(), pytest.raises(StreamingError, match="outside torch's operations: take a clone"):
            read(found["a"][part])

    def test_a_clone_may_be_read(self, values, tmp_path, make_pager):
        """A clone is in memory like any other tensor."""
        pager = make_pager(0)
        found = paged(pager, values, tmp_path)
        with pager.at_work():
            assert (found["a"].clone().numpy() == values["a"].numpy()).all()

    def test_lists_and_texts_have_the_values(self, values, tmp_path, make_pager):
        """What copies at once is allowed."""
        pager = make_pager(0)
        found = paged(pager, values, tmp_path)
        with pager.at_work():
            assert found["a"][3].tolist() == values["a"][3].tolist()
            assert repr(found["b"]) == repr(values["b"])


class TestTakingOver:
    """A new tensor that is taken over behaves as before."""

    def test_its_order_in_memory_stays(self, make_pager):
        """Sums come out the same only if their terms come in the same order."""
        pager, tensor = make_pager(0), torch.randn(64, 128).T
        expected, strides = tensor.clone(), tensor.stride()
        with pager.at_work():
            announce([tensor])
            assert tensor.stride() == strides
            assert torch.equal(tensor + 0, expected)
        assert bytes_of(pager, tensor) == expected.contiguous().numpy().tobytes()

    def test_a_part_of_another_stays_that(self, make_pager):
        """A view of a larger tensor is left where it is: both are to change together."""
        pager, whole = make_pager(0), torch.randn(64, 64)
        part = whole[:32]
        with pager.at_work():
            announce([part])
            whole.zero_()
            assert not part.any()


class TestFailures:
    """What the system refuses ends in an error that says so."""

    def test_a_disk_without_room_for_changed_values(self, values, tmp_path, make_pager, monkeypatch):
        """The temporary file is named, and leaving the pager raises nothing else."""
        pager = make_pager(0)
        found = paged(pager, values, tmp_path)
        said = r"changed values can't be put into a temporary file there \(No space left on device\)"
        with Path("/dev/full").open("r+b", buffering=0) as full, pager.at_work():
            monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
            found["a"].add_(1)
            with pytest.raises(ResourceError, match=f"{tmp_path}: {said}"):
                found["b"].sum()

    @pytest.mark.parametrize("way", ["replaced", "rewritten"])
    def test_a_file_that_changes_meanwhile(self, values, tmp_path, make_pager, way):
        """Values of two versions of a file never meet in one result."""
        pager = make_pager(0)
        found = paged(pager, values, tmp_path)
        path = tmp_path / "values.safetensors"
        with pager.at_work():
            found["a"].sum()
            place = tmp_path / "new" if way == "replaced" else path
            save_file({name: value + 1 for name, value in values.items()}, place)
            os.utime(place, ns=(1, 1))
            place.replace(path)
            with pytest.raises(CheckpointError, match=r"values\.safetensors: changed while it was converted"):
                found["b"].sum()
            with pytest.raises(CheckpointError, match="changed while it was converted"):
                bytes_of(pager, found["c"])

    def test_a_limit_on_address_space(self, tmp_path, make_pager):
        """More than can be reserved is an error before anything is read."""
        with pytest.raises(ResourceError, match=r"bytes of address space can't be reserved .* \(ulimit -v\)"):
            make_pager().reserve(1 << 60)
