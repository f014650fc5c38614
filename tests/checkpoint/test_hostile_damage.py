"""Truncation anywhere is found in every format; a flipped bit is, wherever a hash or checksum exists."""

import os
import random
import re
import zipfile
from pathlib import Path

import pytest
import torch
from checkpoint_samples import Plain, same_state
from hostile_samples import FORMATS

import bioconvert as bc
from bioconvert.checkpoint import (
    read_checkpoint,
    read_header,
    save_model,
    verify_folder,
)
from bioconvert.checkpoint.formats import pickled
from bioconvert.core.errors import BioconvertError, CheckpointError, CorruptFileError

OFFSETS = 200


def boundaries(path: Path) -> set[int]:
    """Give the offsets at which something in a file begins or ends."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries, directory = archive.infolist(), archive.start_dir
        starts = {entry.header_offset for entry in entries}
        names = {start + 30 for start in starts}
        # Archives within the archive have ends of their own.
        ends = {found.start() + 22 for found in re.finditer(b"PK\x05\x06", path.read_bytes())}
        return starts | names | ends | {directory}
    if path.suffix == ".safetensors":
        header = read_header(path)
        ends = {offset for entry in header.tensors.values() for offset in (entry.start, entry.stop)}
        return {8, header.data_start} | ends
    content = path.read_bytes()
    # Where a pickle of the legacy format begins, and where one has ended.
    return {
        at
        for at in range(len(content))
        if content.startswith(b"\x80\x02", at) or content[at - 1 : at] == b"."
    }


@pytest.mark.parametrize("form", FORMATS)
def test_truncation_anywhere_is_found(tmp_path, form):
    """A file that is cut at a boundary, beside one, or at any of 200 offsets is corrupt, and is named."""
    whole = FORMATS[form](tmp_path)
    content = whole.read_bytes()
    near = {offset + by for offset in boundaries(whole) for by in (-1, 0, 1)}
    offsets = near | set(random.Random(form).choices(range(len(content)), k=OFFSETS)) | {0, len(content) - 1}
    cut = tmp_path / f"cut{whole.suffix}"
    for offset in sorted(offset for offset in offsets if 0 <= offset < len(content)):
        cut.write_bytes(content[:offset])
        with pytest.raises(CorruptFileError, match="cut") as caught:
            read_checkpoint(cut)
        assert "\n" not in str(caught.value), offset


@pytest.mark.parametrize("form", ["zip", "nested", "Lightning", "exported program"])
def test_a_flipped_bit_in_any_entry_is_found_by_its_checksum(tmp_path, form):
    """Each entry of a zip archive has a checksum: a flipped bit in it is corrupt, wherever it lies."""
    whole = FORMATS[form](tmp_path)
    content = whole.read_bytes()
    with zipfile.ZipFile(whole) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    flips = random.Random(form)
    changed = tmp_path / f"changed{whole.suffix}"
    for entry, data in entries:
        start = entry.header_offset + 30
        start += sum(int.from_bytes(content[start - 4 + 2 * i : start - 2 + 2 * i], "little") for i in (0, 1))
        assert content[start : start + len(data)] == data
        for bit in flips.choices(range(8 * len(data)), k=40):
            damaged = bytearray(content)
            damaged[start + bit // 8] ^= 1 << bit % 8
            changed.write_bytes(damaged)
            with pytest.raises(CorruptFileError, match="damaged zip archive"):
                read_checkpoint(changed)


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "legacy"])
def test_a_flipped_bit_elsewhere_is_an_error_of_ours_or_changes_nothing(tmp_path, form):
    """A flipped bit where there is no checksum ends in no other error than ours."""
    whole = FORMATS[form](tmp_path)
    content, given = whole.read_bytes(), dict(read_checkpoint(whole).tensors)
    flips = random.Random(form)
    for bit in flips.choices(range(8 * len(content)), k=150):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        whole.write_bytes(damaged)
        try:
            found = dict(read_checkpoint(whole).tensors)
        except BioconvertError:
            continue
        assert form == "safetensors" or same_state(found, given), f"bit {bit}"


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Give a folder of ours."""
    torch.manual_seed(0)
    return save_model(Plain(), tmp_path_factory.mktemp("ours") / "out", arch="checkpoint_samples:Plain")


@pytest.mark.parametrize("name", ["model.safetensors", "bioconvert.json"])
def test_a_flipped_bit_in_a_folder_of_ours_is_found_by_both_readers(ours, name):
    """Verifying finds any flipped bit, and loading never gives other tensors than were saved."""
    content, given = (ours / name).read_bytes(), bc.load(ours).state_dict()
    flips = random.Random(name)
    try:
        for bit in flips.choices(range(8 * len(content)), k=60):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            (ours / name).write_bytes(damaged)
            assert verify_folder(ours), f"bit {bit}"
            try:
                found = bc.load(ours).state_dict()
            except CheckpointError:
                continue
            assert same_state(dict(found), dict(given)), f"bit {bit}"
    finally:
        (ours / name).write_bytes(content)


# The whole of a small safetensors file is read at once; test_safetensors_files.py cuts a larger one.
@pytest.mark.parametrize("form", [form for form in FORMATS if form != "safetensors"])
def test_a_pickle_that_shrinks_while_it_is_read_is_an_error(tmp_path, monkeypatch, form):
    """A file that loses its end after it was looked at gives an error of ours, and kills no process."""
    path = FORMATS[form](tmp_path)
    name = "Metered" if form == "legacy" else "check_zip"  # what looks at the file first
    look = getattr(pickled, name)

    def look_and_cut(*given):
        found = look(*given)
        os.truncate(path, path.stat().st_size // 3)
        return found

    monkeypatch.setattr(pickled, name, look_and_cut)
    with pytest.raises(CheckpointError, match=path.name):
        read_checkpoint(path)
