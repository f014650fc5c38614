"""What a path stands for is decided by bytes, and what isn't a checkpoint is refused with advice."""

import os
import socket
import zipfile

import pytest
import safetensors.torch
import torch
from checkpoint_samples import safetensors_bytes, state

from bioconvert.checkpoint import locate, read_checkpoint
from bioconvert.checkpoint.files.sniff import sniff
from bioconvert.core.errors import CheckpointError, CorruptFileError, UnsafeFileError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def _zip(**entries):
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return buffer.getvalue()


REFUSED = [
    pytest.param(b"", CorruptFileError, "is empty", id="empty"),
    pytest.param(LFS, CorruptFileError, "git lfs pull", id="git-LFS pointer"),
    pytest.param(b"<!DOCTYPE html><html>", CorruptFileError, "web page", id="HTML"),
    pytest.param(b"\xef\xbb\xbf\n <HTML><body>", CorruptFileError, "web page", id="HTML with BOM"),
    pytest.param(b"\0" * 4096, CorruptFileError, "zeros", id="zeros"),
    pytest.param(b"\x8a\x11random bytes of no meaning", CorruptFileError, "no known", id="noise"),
    pytest.param(b"GGUF\x03\0\0\0", CheckpointError, "GGUF", id="GGUF"),
    pytest.param(b"\x89HDF\r\n\x1a\n", CheckpointError, "HDF5", id="HDF5"),
    pytest.param(b"\x93NUMPY\x01\0", CheckpointError, "NumPy", id="NumPy"),
    pytest.param(b"\x1f\x8b\x08\0", CheckpointError, "gzip", id="gzip"),
    pytest.param(b"x" * 257 + b"ustar\0", CheckpointError, "tar archive", id="tar"),
    pytest.param(b"PK\x05\x06" + b"\0" * 18, CorruptFileError, "empty or split zip", id="empty zip"),
    pytest.param(_zip(a="b"), CheckpointError, "none that torch.save wrote", id="some other zip"),
    pytest.param(
        _zip(m__constants_dot_pkl="", m__data_dot_pkl=""), CheckpointError, "TorchScript", id="TorchScript"
    ),
    pytest.param(
        _zip(m__code__x_dot_py="", m__data_dot_pkl=""), CheckpointError, "TorchScript", id="with code"
    ),
    pytest.param(_zip(m__archive_format="pt2"), CheckpointError, "exported program", id="pt2"),
    pytest.param(b'{"a": 1}', CorruptFileError, "weight_map", id="JSON that is no index"),
    pytest.param(b"{oops", CorruptFileError, "not valid JSON", id="no JSON"),
    pytest.param(b"\x80\x02", CorruptFileError, "cut short", id="two bytes of a pickle"),
]


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x"])
@pytest.mark.parametrize(("content", "error", "advice"), REFUSED)
def test_what_is_no_checkpoint_is_refused_with_advice(tmp_path, name, content, error, advice):
    """A file of another kind is an error of one line with its name and what to do, whatever its suffix."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=advice) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


class TestSpecialFiles:
    def test_a_pipe_is_refused_without_waiting_for_a_writer(self, tmp_path):
        """A FIFO is no checkpoint."""
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CheckpointError, match="regular file"):
            read_checkpoint(tmp_path / "pipe")

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
    def test_a_device_is_refused(self, device):
        """A device is no checkpoint, however many bytes it gives."""
        with pytest.raises(CheckpointError, match="regular file"):
            read_checkpoint(device)

    def test_a_socket_is_refused(self, tmp_path):
        """A socket is no checkpoint."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            with pytest.raises(CheckpointError, match="can't be opened"):
                read_checkpoint(tmp_path / "s")

    def test_a_missing_path_is_named(self, tmp_path):
        """Nothing there is an error of ours."""
        with pytest.raises(CheckpointError, match="no such file or folder"):
            read_checkpoint(tmp_path / "missing")


class TestSniffing:
    def test_bytes_decide_and_not_the_suffix(self, tmp_path):
        """Each format is known under the suffix of another."""
        safetensors.torch.save_file(state(), tmp_path / "a.pt")
        torch.save(state(), tmp_path / "b.safetensors")
        torch.save(state(), tmp_path / "c.html", _use_new_zipfile_serialization=False)
        found = [sniff(tmp_path / name) for name in ("a.pt", "b.safetensors", "c.html")]
        assert found == ["safetensors", "torch zip", "torch legacy"]
        assert [len(read_checkpoint(path).tensors) for path in sorted(tmp_path.iterdir())] == [5, 5, 5]

    def test_a_header_whose_length_looks_like_a_pickle_is_still_safetensors(self, tmp_path):
        """A header of 640 bytes begins with the bytes of a pickle of protocol 2."""
        text = "{}".ljust(0x0280)
        (tmp_path / "x").write_bytes(safetensors_bytes(text))
        assert sniff(tmp_path / "x") == "safetensors"


class TestFolders:
    def test_known_names_are_found_in_their_order(self, tmp_path):
        """model.safetensors is preferred over pytorch_model.bin."""
        torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
        assert locate(tmp_path).files == (tmp_path / "pytorch_model.bin",)
        safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
        assert locate(tmp_path).files == (tmp_path / "model.safetensors",)

    def test_a_single_checkpoint_of_any_name_is_taken(self, tmp_path):
        """One checkpoint in a folder is the one that is meant."""
        torch.save(state(), tmp_path / "last.ckpt")
        assert read_checkpoint(tmp_path).format == "torch zip"

    def test_several_checkpoints_are_not_chosen_from(self, tmp_path):
        """Two checkpoints in a folder are an error that names them."""
        for name in ("one.pt", "two.pt"):
            torch.save(state(), tmp_path / name)
        with pytest.raises(CheckpointError, match=r"2 checkpoints.*one\.pt, two\.pt"):
            read_checkpoint(tmp_path)

    def test_an_empty_folder_says_what_was_looked_for(self, tmp_path):
        """A folder without a checkpoint is an error."""
        with pytest.raises(CheckpointError, match=r"no checkpoint \(model\.safetensors"):
            read_checkpoint(tmp_path)

    def test_a_distributed_checkpoint_is_unsafe(self, tmp_path):
        """The metadata of a distributed checkpoint is a pickle, which isn't loaded."""
        (tmp_path / ".metadata").write_bytes(b"\x80\x04.")
        with pytest.raises(UnsafeFileError, match="distributed checkpoint"):
            read_checkpoint(tmp_path)
