"""What is put on record of a tensor while its bytes pass."""

import hashlib

import pytest
import torch

from bioconvert.checkpoint import load_model, save_model
from bioconvert.checkpoint.folders.manifest import read_manifest
from bioconvert.checkpoint.tensors.payloads import tensor_bytes
from bioconvert.checkpoint.tensors.tensor_digest import TensorDigest
from bioconvert.checkpoint.tensors.torch_dtypes import CODES

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]
EIGHT_BITS = [
    torch.float8_e5m2,
    torch.float8_e4m3fn,
    torch.float8_e8m0fnu,
    torch.float8_e5m2fnuz,
    torch.float8_e4m3fnuz,
]


def odd_values(dtype: torch.dtype) -> torch.Tensor:
    """Give 1,000 values, some of them NaN, infinite, the largest, the smallest."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(1)).to(dtype)
    numbers = torch.view_as_real(values).view(-1) if values.is_complex() else values
    info = torch.finfo(numbers.dtype)
    odd = [float("nan"), float("inf"), -float("inf"), info.max, info.min, info.tiny / 2, -0.0]
    numbers[:7] = torch.tensor(odd, dtype=numbers.dtype)
    return values


@pytest.mark.parametrize("size", [1, 3, 8, 1000, 1 << 20])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_however_the_bytes_are_cut_all_are_counted(dtype, size):
    """Hash and number of values that aren't finite are those of the whole."""
    values = odd_values(dtype)
    raw = tensor_bytes(values)
    digest = TensorDigest(CODES[dtype], tuple(values.shape))
    for start in range(0, len(raw), size):
        digest.update(raw[start : start + size])
    record = digest.record("file")
    assert record.non_finite == 3
    assert record.sha256 == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool], ids=str)
def test_of_other_formats_nothing_is_counted(dtype):
    """All bits set are no NaN in whole numbers."""
    raw = memoryview(b"\xff" * 64)
    digest = TensorDigest(CODES[dtype], (64,))
    digest.update(raw)
    assert digest.record("file").non_finite == 0


@pytest.mark.parametrize("dtype", EIGHT_BITS, ids=str)
def test_every_value_of_eight_bits_is_told_apart(dtype):
    """Those that torch reads as NaN or infinite are counted, and no others."""
    values = torch.arange(256, dtype=torch.uint8).view(dtype)
    digest = TensorDigest(CODES[dtype], (256,))
    digest.update(tensor_bytes(values))
    assert digest.record("file").non_finite == int((~values.float().isfinite()).sum()) > 0


def test_the_manifest_tells_of_them_and_of_no_others(tmp_path):
    """A saved model names its tensors with NaN, and loads with each bit of them."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    with torch.no_grad():
        model[1].bias[:2] = torch.tensor([float("nan"), float("inf")])
    save_model(model, tmp_path / "out")
    assert read_manifest(tmp_path / "out" / "bioconvert.json").non_finite == {"1.bias": 2}
    assert (tmp_path / "out" / "bioconvert.json").read_text().count("non_finite") == 1
    loaded = load_model(tmp_path / "out", factory=lambda: torch.nn.Sequential(*model))
    assert loaded[1].bias.view(torch.int32).equal(model[1].bias.view(torch.int32))
