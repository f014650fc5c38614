"""Sample inputs from files of every kind, or at random."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bioconvert.cli.inputs import samples
from bioconvert.core.errors import CorruptFileError, OptionError, UnsafeFileError


class TwoInputs(nn.Module):
    """Takes images and a mask."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, dtype=dtype))

    def forward(self, images, mask=None):
        """Scale the images."""
        return self.scale * images


class AnyInputs(nn.Module):
    """Takes whatever there is."""

    def forward(self, **inputs):
        """Give the inputs back."""
        return inputs


X = torch.arange(6.0).view(2, 3)
IDS = torch.tensor([[1, 2]])


def safetensors(**tensors):
    """Make what writes tensors by name."""
    return lambda file: save_file(tensors, file)


def numpy(save, *arrays, **named):
    """Make what writes arrays; into an open file, so that numpy adds no suffix."""

    def write(file):
        with file.open("wb") as stream:
            save(stream, *arrays, **named)

    return write


def pickled(value, **how):
    """Make what writes with torch.save."""
    return lambda file: torch.save(value, file, **how)


def raw(content):
    """Make what writes some bytes."""
    return lambda file: file.write_bytes(content)


FILES = [
    pytest.param(safetensors(images=X), {"images": X}, id="safetensors by name"),
    pytest.param(safetensors(**{"1": IDS, "0": X}), (X, IDS), id="safetensors by position"),
    pytest.param(
        safetensors(**{str(i): X + i for i in range(11)}), tuple(X + i for i in range(11)), id="eleven"
    ),
    pytest.param(safetensors(anything=X), (X,), id="one tensor of any name"),
    pytest.param(safetensors(images=X.double()), {"images": X}, id="cast to the model's type"),
    pytest.param(numpy(np.save, X.numpy()), (X,), id="npy"),
    pytest.param(numpy(np.savez, X.numpy(), IDS.numpy()), (X, IDS), id="npz by position"),
    pytest.param(numpy(np.savez_compressed, images=X.numpy()), {"images": X}, id="npz by name"),
    pytest.param(pickled(X), (X,), id="a tensor"),
    pytest.param(pickled((X, IDS)), (X, IDS), id="a tuple"),
    pytest.param(pickled({"images": X, "mask": IDS}), {"images": X, "mask": IDS}, id="a dict"),
    pytest.param(pickled(X, _use_new_zipfile_serialization=False), (X,), id="torch's old format"),
]


@pytest.mark.parametrize(("write", "expected"), FILES)
def test_file_gives_arguments(tmp_path, write, expected):
    """Numbered tensors are positional, named ones keywords; the bytes say the format, not the suffix."""
    write(tmp_path / "inputs")
    given = samples(tmp_path / "inputs", None, seed=0).arguments(TwoInputs())
    torch.testing.assert_close(given, expected, rtol=0, atol=0)


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self):
        return print, ("ran",)


BROKEN = [
    pytest.param(safetensors(image=X, masks=IDS), OptionError, "images, mask", id="unknown names"),
    pytest.param(pickled({"images": "x"}), OptionError, "tensor", id="no tensors"),
    pytest.param(numpy(np.save, np.array(["x"])), OptionError, "numbers", id="texts"),
    pytest.param(pickled(Evil()), UnsafeFileError, "its pickle wants", id="code"),
    pytest.param(numpy(np.save, np.array([Evil()])), UnsafeFileError, "plain numbers", id="code in numpy"),
    pytest.param(raw(b""), CorruptFileError, "inputs", id="empty"),
    pytest.param(raw(b"PK\x03\x04 and then nothing"), CorruptFileError, "has no end", id="half a zip"),
    pytest.param(raw(b"\x93NUMPY and then nothing"), CorruptFileError, "inputs", id="half an array"),
    pytest.param(raw(b"<html>not found</html>"), CorruptFileError, "inputs", id="a web page"),
]


@pytest.mark.parametrize(("write", "error", "text"), BROKEN)
def test_file_that_is_no_input(tmp_path, capfd, write, error, text):
    """A file that holds something else is named and refused, and nothing in it is run."""
    write(tmp_path / "inputs")
    with pytest.raises(error, match=re.escape(text)) as caught:
        samples(tmp_path / "inputs", None, seed=0).arguments(TwoInputs())
    assert "weights_only" not in str(caught.value)
    assert capfd.readouterr().out == ""


def test_model_with_any_keywords_takes_any_names(tmp_path):
    """Where forward takes **kwargs, names are keywords whatever they are."""
    safetensors(pixels=X)(tmp_path / "inputs")
    assert list(samples(tmp_path / "inputs", None, seed=0).arguments(AnyInputs())) == ["pixels"]


def test_random_inputs_are_a_function_of_shape_and_seed():
    """The same shape and seed give the same numbers, in the data type of the model."""
    half = TwoInputs(torch.float16)
    (one,), (same,) = (samples(None, "2, 3", seed=1).arguments(half) for _ in range(2))
    (other,) = samples(None, "2,3", seed=2).arguments(half)
    assert one.shape == (2, 3)
    assert one.dtype == torch.float16
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


REQUESTS = [
    pytest.param(None, "1,x", OptionError, "1,3,224,224", id="no numbers"),
    pytest.param(None, "", OptionError, "1,3,224,224", id="empty"),
    pytest.param(None, "1,-3", OptionError, "1,3,224,224", id="negative"),
    pytest.param("inputs", "1,3", OptionError, "not both", id="both"),
    pytest.param("absent", None, FileNotFoundError, "absent", id="no such file"),
]


@pytest.mark.parametrize(("file", "shape", "error", "text"), REQUESTS)
def test_request_is_checked_before_anything_is_read(tmp_path, file, shape, error, text):
    """What can't be meant is refused without a model."""
    (tmp_path / "inputs").touch()
    with pytest.raises(error, match=text):
        samples(None if file is None else tmp_path / file, shape, seed=0)


def test_no_inputs_are_no_request():
    """Without a file or a shape there is nothing to run the model on."""
    assert samples(None, None, seed=0) is None
