"""The header of a safetensors file is believed only where it can't be read in two ways."""

import json
import random

import pytest
import safetensors.torch
import torch
from checkpoint_samples import entry, safetensors_bytes, state
from hypothesis import given, settings
from hypothesis import strategies as st

from bioconvert.checkpoint import read_header
from bioconvert.checkpoint.files.header import MAX_TENSORS
from bioconvert.core.errors import BioconvertError, CorruptFileError, UnsafeFileError

FOUR = b"abcd"
ONE = {"a": entry()}
BAD_FILES = [
    pytest.param(b"\0" * 7, "too few", id="seven bytes"),
    pytest.param(b"\0" * 8, "too few", id="eight bytes"),
    pytest.param((0).to_bytes(8, "little") + b"{}", "at least 2", id="length 0"),
    pytest.param((1).to_bytes(8, "little") + b"{}", "at least 2", id="length 1"),
    pytest.param((7).to_bytes(8, "little") + b"{}", "cut short", id="length 7 of 2"),
    pytest.param((2**63).to_bytes(8, "little") + b"{}", "at most", id="length 2**63"),
    pytest.param((100_000_001).to_bytes(8, "little") + b"{}", "at most", id="length over 100 MB"),
    pytest.param((99).to_bytes(8, "little") + b"{}", "cut short", id="length beyond the file"),
    pytest.param(safetensors_bytes("[]"), "begin with", id="no object"),
    pytest.param(safetensors_bytes(" {}"), "begin with", id="leading blank"),
    pytest.param(safetensors_bytes("{"), "at least 2|too few", id="one byte"),
    pytest.param(safetensors_bytes("{,}"), "not valid JSON", id="no JSON"),
    pytest.param(safetensors_bytes('{"a": NaN}'), "NaN", id="NaN"),
    pytest.param(safetensors_bytes(b'{"\xff": 1}'), "UTF-8", id="not UTF-8"),
    pytest.param(safetensors_bytes('{"a":' + "[" * 100_000), "nested too deep", id="deep"),
    pytest.param(safetensors_bytes('{"a":{"a":1},"a":{"a":1}}'), "given twice", id="duplicate tensor"),
    pytest.param(
        safetensors_bytes('{"a":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}', FOUR),
        "given twice",
        id="duplicate field",
    ),
    pytest.param(
        safetensors_bytes('{"__metadata__":{"x":"1","x":"2"}}'), "given twice", id="duplicate metadata"
    ),
    pytest.param(safetensors_bytes({"__metadata__": {"x": 1}}), "__metadata__", id="metadata is no text"),
    pytest.param(safetensors_bytes({"__metadata__": []}), "__metadata__", id="metadata is no object"),
    pytest.param(safetensors_bytes({"a": 1}, FOUR), "exactly the fields", id="entry is no object"),
    pytest.param(safetensors_bytes({"a": {"dtype": "F32"}}, FOUR), "exactly the fields", id="missing fields"),
    pytest.param(
        safetensors_bytes({"a": {**entry(), "more": 1}}, FOUR), "exactly the fields", id="additional field"
    ),
    pytest.param(safetensors_bytes({"a": entry("F33")}, FOUR), "unknown dtype", id="unknown dtype"),
    pytest.param(safetensors_bytes({"a": entry(["F32"])}, FOUR), "unknown dtype", id="dtype is no text"),
    pytest.param(safetensors_bytes({"a": entry(shape="1")}, FOUR), "must be a list", id="shape is no list"),
    pytest.param(safetensors_bytes({"a": entry(shape=[-1])}, FOUR), "whole numbers", id="negative size"),
    pytest.param(safetensors_bytes({"a": entry(shape=[1.0])}, FOUR), "whole numbers", id="size is a float"),
    pytest.param(safetensors_bytes({"a": entry(shape=[True])}, FOUR), "whole numbers", id="size is a bool"),
    pytest.param(
        safetensors_bytes({"a": entry(shape=[2**64])}, FOUR), "whole numbers", id="size over 63 bits"
    ),
    pytest.param(safetensors_bytes({"a": entry(shape=[1] * 65)}, FOUR), "no possible", id="65 dimensions"),
    pytest.param(
        safetensors_bytes({"a": entry(shape=[2**32, 2**32])}, FOUR), "no possible", id="product overflows"
    ),
    pytest.param(
        safetensors_bytes({"a": entry(shape=[0, 2**62], offsets=(0, 0))}), "no possible", id="empty, but huge"
    ),
    pytest.param(
        safetensors_bytes({"a": entry("F4", offsets=(0, 1))}, b"a"), "no possible", id="half a byte"
    ),
    pytest.param(safetensors_bytes({"a": entry(offsets=(4, 0))}, FOUR), "start and a stop", id="backwards"),
    pytest.param(safetensors_bytes({"a": entry(offsets=(0,))}, FOUR), "start and a stop", id="one offset"),
    pytest.param(
        safetensors_bytes({"a": entry(offsets=[-4, 0])}, FOUR), "whole numbers", id="before the data"
    ),
    pytest.param(
        safetensors_bytes({"a": entry(shape=(2,))}, FOUR), "takes 8 bytes", id="shape against bytes"
    ),
    pytest.param(safetensors_bytes({"a": entry("I64")}, FOUR), "takes 8 bytes", id="dtype against bytes"),
    pytest.param(safetensors_bytes(ONE, b"abc"), "missing at the end", id="data too short"),
    pytest.param(safetensors_bytes(ONE, b"abcde"), "belong to no tensor", id="tail"),
    pytest.param(
        safetensors_bytes({"a": entry(offsets=(1, 5))}, b"abcde"), "hole", id="hole before the first"
    ),
    pytest.param(
        safetensors_bytes({"a": entry(), "b": entry(offsets=(5, 9))}, b"123456789"), "hole", id="hole between"
    ),
    pytest.param(
        safetensors_bytes({"a": entry(), "b": entry(offsets=(2, 6))}, b"123456"), "overlaps", id="overlap"
    ),
    pytest.param(
        safetensors_bytes({"a": entry(), "b": entry()}, FOUR), "overlaps", id="the same bytes twice"
    ),
]


@pytest.mark.parametrize(("content", "reason"), BAD_FILES)
def test_what_two_readers_could_take_in_two_ways_is_refused(tmp_path, content, reason):
    """A malformed header is a CorruptFileError of one line that names the file."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=reason) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class TestGoodHeaders:
    def test_names_formats_shapes_and_metadata_are_those_that_the_library_wrote(self, tmp_path):
        """The header tells what safetensors wrote: names, number formats, shapes, bytes, metadata."""
        safetensors.torch.save_file(state(), tmp_path / "x", {"format": "pt"})
        header = read_header(tmp_path / "x")
        assert header.metadata == {"format": "pt"}
        assert {name: (e.dtype, e.shape, e.nbytes) for name, e in header.tensors.items()} == {
            "layer.weight": ("F32", (3, 4), 48),
            "layer.bias": ("BF16", (3,), 6),
            "count": ("I64", (), 8),
            "empty": ("F32", (0, 5), 0),
            "flags": ("BOOL", (3,), 3),
        }

    def test_offsets_are_those_of_the_bytes_in_the_file(self, tmp_path):
        """A tensor's start and stop count from the beginning of the file."""
        path = tmp_path / "x"
        path.write_bytes(safetensors_bytes({"b": entry(offsets=(4, 8)), "a": entry()}, b"AAAABBBB"))
        found = {name: path.read_bytes()[e.start : e.stop] for name, e in read_header(path).tensors.items()}
        assert found == {"a": b"AAAA", "b": b"BBBB"}

    def test_a_file_without_tensors_is_sound(self, tmp_path):
        """No tensor at all is no damage."""
        (tmp_path / "x").write_bytes(safetensors_bytes({}))
        assert read_header(tmp_path / "x").tensors == {}

    @pytest.mark.parametrize("name", ["\x1b[31m", "<script>", "é" * 10_000, "", "a.b\n"])
    def test_any_name_is_taken_as_it_is(self, tmp_path, name):
        """Names may hold any characters, and any number of them."""
        (tmp_path / "x").write_bytes(safetensors_bytes({name: entry()}, FOUR))
        assert list(read_header(tmp_path / "x").tensors) == [name]


def test_an_absurd_number_of_tensors_is_refused_unparsed(tmp_path):
    """A million entries are refused before the JSON is parsed."""
    one = '"%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = "{" + ",".join(one % number for number in range(MAX_TENSORS + 1)) + "}"
    (tmp_path / "x").write_bytes(safetensors_bytes(text))
    with pytest.raises(UnsafeFileError, match="more than 250000 tensors"):
        read_header(tmp_path / "x")


def test_truncation_anywhere_is_found(tmp_path):
    """A file that is cut short, wherever, has no valid header."""
    safetensors.torch.save_file({"a": torch.arange(64.0), "b": torch.ones(3)}, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    path = tmp_path / "x"
    for length in {*range(24), *random.Random(0).sample(range(len(content)), 200), len(content) - 1}:
        path.write_bytes(content[:length])
        with pytest.raises(CorruptFileError):
            read_header(path)


@settings(deadline=None)
@given(st.data())
def test_a_changed_header_is_refused_or_still_covers_the_data(tmp_path_factory, data):
    """Whatever bytes a header has, the parser says no by our own error or covers the file."""
    content = bytearray(
        safetensors_bytes(json.dumps({"a": entry(), "b": entry(offsets=(4, 8))}), b"12345678")
    )
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(bytes(content))
    try:
        header = read_header(path)
    except BioconvertError:
        return
    assert sum(each.nbytes for each in header.tensors.values()) == len(content) - header.data_start
