"""Tensors whose values lie in files behave as if they were in memory."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bioconvert.checkpoint.header import read_header
from bioconvert.checkpoint.paging import Pager
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
    from bioconvert.core.errors import CorruptFileError

    pager = make_pager()
    found = paged(pager, values, tmp_path)
    path = tmp_path / "values.safetensors"
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size - 1)
    with pager.at_work(), pytest.raises(CorruptFileError, match="ends 1 bytes too early"):
        sum(tensor.sum() for tensor in found.values())


def test_other_tensors_are_not_theirs(make_pager):
    """Of a tensor in memory a pager has no bytes to give."""
    assert make_pager().blocks(torch.ones(3)) is None
