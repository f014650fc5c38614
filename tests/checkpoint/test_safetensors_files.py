"""What is written as safetensors, the library reads; what it writes, is read here."""

import json

import pytest
import safetensors.torch
import torch
from checkpoint_samples import same_state, state
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing._internal.two_tensor import TwoTensor

from bioconvert.checkpoint import read_checkpoint, read_header
from bioconvert.checkpoint.output.writing import write_tensors
from bioconvert.checkpoint.tensors.payloads import payloads_of
from bioconvert.checkpoint.tensors.torch_dtypes import CODES
from bioconvert.core.errors import CheckpointError

COMPLEX_AS_PAIRS = {torch.complex32, torch.complex128}


def tensor_of(dtype, *shape):
    """Give a tensor of any number format with some bits set."""
    size = torch.empty(0, dtype=dtype).element_size()
    count = torch.Size(shape).numel()
    values = torch.arange(count * size, dtype=torch.uint8) % (2 if dtype is torch.bool else 255)
    return values.view(dtype).view(shape)


@pytest.mark.parametrize("dtype", [pytest.param(d, id=str(d)) for d in CODES if d not in COMPLEX_AS_PAIRS])
def test_every_number_format_is_read_by_the_library_and_back(tmp_path, dtype):
    """A file of ours holds what safetensors itself reads, in every format that it has."""
    given_state = {"a": tensor_of(dtype, 3, 2), "b": tensor_of(dtype), "c": tensor_of(dtype, 0)}
    write_tensors(tmp_path, payloads_of(given_state))
    assert same_state(dict(read_checkpoint(tmp_path / "model.safetensors").tensors), given_state)
    if dtype is not torch.float8_e8m0fnu:  # the library writes it, but its reader has no name for it
        assert same_state(safetensors.torch.load_file(tmp_path / "model.safetensors"), given_state)


class TestWriting:
    def test_metadata_says_that_torch_wrote_it(self, tmp_path):
        """transformers refuses a file that doesn't say so."""
        write_tensors(tmp_path, payloads_of(state()))
        assert read_header(tmp_path / "model.safetensors").metadata == {"format": "pt"}

    def test_the_order_of_the_tensors_does_not_change_the_bytes(self, tmp_path):
        """The same tensors give the same file."""
        turned = dict(reversed(state().items()))
        for folder, tensors in (("one", state()), ("two", turned)):
            (tmp_path / folder).mkdir()
            write_tensors(tmp_path / folder, payloads_of(tensors))
        one, two = ((tmp_path / folder / "model.safetensors").read_bytes() for folder in ("one", "two"))
        assert one == two

    def test_tensors_are_aligned(self, tmp_path):
        """Every tensor starts at a multiple of its element size."""
        write_tensors(tmp_path, payloads_of(state()))
        header = read_header(tmp_path / "model.safetensors")
        sizes = {"F32": 4, "BF16": 2, "I64": 8, "BOOL": 1}
        assert all(entry.start % sizes[entry.dtype] == 0 for entry in header.tensors.values())

    @pytest.mark.parametrize(
        "tensor",
        [
            pytest.param(torch.arange(6.0).view(2, 3).t(), id="transposed"),
            pytest.param(torch.arange(6.0)[::2], id="strided"),
            pytest.param(torch.ones(1).expand(5), id="expanded"),
            pytest.param(torch.randn(1, 2, 4, 4).to(memory_format=torch.channels_last), id="channels last"),
            pytest.param(torch.tensor([1 + 2j]).conj(), id="conjugated"),
            pytest.param(torch.tensor([1 + 2j, 3j]).conj().imag, id="negated"),
            pytest.param(torch.nn.Parameter(torch.ones(2)), id="parameter"),
            pytest.param(torch.arange(4.0)[1::3], id="one element with a stride"),
            pytest.param(torch.tensor(3.0), id="no dimension"),
        ],
    )
    def test_any_layout_is_written_row_by_row(self, tmp_path, tensor):
        """A tensor's strides and lazy bits leave no trace in the file."""
        write_tensors(tmp_path, payloads_of({"a": tensor}))
        found = safetensors.torch.load_file(tmp_path / "model.safetensors")["a"]
        assert torch.equal(found, tensor.detach().resolve_conj())

    @settings(deadline=None)
    @given(
        sizes=st.lists(st.integers(0, 40), max_size=8),
        shard_size=st.integers(1, 200),
    )
    def test_shards_hold_everything_once_and_are_small_enough(self, tmp_path_factory, sizes, shard_size):
        """Shards stay below the limit, or hold one tensor; the library finds every tensor by the index."""
        folder = tmp_path_factory.mktemp("shards")
        given_state = {f"t{i}": torch.full((size,), float(i)) for i, size in enumerate(sizes)}
        written = write_tensors(folder, payloads_of(given_state), shard_size=shard_size)
        shards = {record.file for record in written.tensors.values()}
        for shard in shards:
            entries = read_header(folder / shard).tensors.values()
            assert sum(entry.nbytes for entry in entries) <= shard_size or len(entries) == 1
        if len(shards) > 1:
            index = json.loads((folder / "model.safetensors.index.json").read_text())
            assert index["metadata"]["total_size"] == 4 * sum(sizes)
            assert index["weight_map"] == {name: record.file for name, record in written.tensors.items()}
        assert same_state(dict(read_checkpoint(folder).tensors), given_state)


UNWRITABLE = [
    pytest.param(lambda: torch.ones(2, device="meta"), "no values", id="meta"),
    pytest.param(lambda: torch.eye(2).to_sparse(), "sparse or quantized", id="sparse"),
    pytest.param(
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "sparse or quantized",
        id="quantized",
        marks=pytest.mark.filterwarnings("ignore"),
    ),
    pytest.param(lambda: TwoTensor(torch.ones(2), torch.ones(2)), "gather or convert", id="made of tensors"),
    pytest.param(lambda: torch.nn.LazyLinear(2).weight, "no shape yet", id="lazy"),
    pytest.param(lambda: torch.empty(2, dtype=torch.uint1), "safetensors can't hold", id="one bit"),
]


@pytest.mark.parametrize(("make", "reason"), UNWRITABLE)
def test_what_no_file_can_hold_is_named(make, reason):
    """All tensors that can't be written are named at once."""
    with pytest.raises(CheckpointError, match=f"'x.bad'.*{reason}.*'x.worse'"):
        payloads_of({"good": torch.ones(1), "x.bad": make(), "x.worse": make()})


def test_the_name_that_safetensors_keeps_for_itself_is_refused():
    """A tensor can't be called __metadata__."""
    with pytest.raises(CheckpointError, match="__metadata__"):
        payloads_of({"__metadata__": torch.ones(1)})


def test_a_format_that_torch_lacks_is_an_error(tmp_path):
    """Six-bit floats are listed by the header and refused by the reader."""
    from checkpoint_samples import entry, safetensors_bytes

    (tmp_path / "x").write_bytes(safetensors_bytes({"a": entry("F6_E2M3", (4,), (0, 3))}, b"abc"))
    assert read_header(tmp_path / "x").tensors["a"].nbytes == 3
    with pytest.raises(CheckpointError, match="F6_E2M3, which torch can't hold"):
        read_checkpoint(tmp_path / "x")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path, monkeypatch):
    """A file cut short between header and data is corrupt, and kills nothing."""
    from bioconvert.checkpoint.tensors import safetensors_reader
    from bioconvert.core.errors import CorruptFileError

    safetensors.torch.save_file({"a": torch.ones(100_000)}, tmp_path / "x")
    whole = safetensors_reader.header_of

    def shrinking(handle, path):
        header = whole(handle, path)
        with path.open("r+b") as other:
            other.truncate(header.size - 50)
        return header

    monkeypatch.setattr(safetensors_reader, "header_of", shrinking)
    with pytest.raises(CorruptFileError, match=r"x: ends 50 bytes too early"):
        read_checkpoint(tmp_path / "x")
