"""Pickles of torch are read as data; what would run is refused, what is damaged is found."""

import collections
import fractions
import pickle
import random
import struct
import zipfile

import pytest
import torch
from checkpoint_samples import LEGACY, ZIP, Canary, Plain, rewrite_zip, same_state, state

from bioconvert.checkpoint import read_checkpoint
from bioconvert.checkpoint.files.zip_archive import MAX_PICKLE
from bioconvert.core.errors import BioconvertError, CheckpointError, CorruptFileError, UnsafeFileError

FORMS = [pytest.param(ZIP, id="zip"), pytest.param(LEGACY, id="legacy")]


def save(content, path, form=ZIP):
    """Save in one of torch's two forms."""
    torch.save(content, path, _use_new_zipfile_serialization=form)
    return path


@pytest.mark.parametrize("form", FORMS)
class TestEveryForm:
    def test_a_state_dict_comes_back_bit_for_bit(self, tmp_path, form):
        """Tensors of every format and shape are read as they were saved, NaN and infinity included."""
        given = {**state(), "odd": torch.tensor([float("nan"), float("inf"), -0.0])}
        found = read_checkpoint(save(given, tmp_path / "x.pt", form))
        assert same_state(dict(found.tensors), given)
        assert found.format == ("torch zip" if form else "torch legacy")

    def test_tied_tensors_stay_tied(self, tmp_path, form):
        """Names on one storage with one shape share a tensor; a part of another tensor is no tie."""
        weight = torch.arange(6.0).view(2, 3)
        given = {"a": weight, "b": weight, "part": weight[0], "turned": weight.t(), "c": weight.clone()}
        found = read_checkpoint(save(given, tmp_path / "x.pt", form))
        assert found.ties == (("a", "b"),)
        assert found.tensors["a"] is found.tensors["b"]
        assert same_state(dict(found.tensors), given)

    @pytest.mark.parametrize("place", ["inside", "alone", "key"])
    def test_a_pickle_that_would_run_a_command_runs_nothing(self, tmp_path, form, place):
        """os.system in a pickle is named and never called."""
        canary = Canary(tmp_path / "canary")
        content = {"inside": {**state(), "x": canary}, "alone": canary, "key": {canary: torch.ones(1)}}[place]
        with pytest.raises(
            UnsafeFileError, match=r"its pickle wants posix\.system\. Nothing was run"
        ) as caught:
            read_checkpoint(save(content, tmp_path / "x.pt", form))
        assert not canary.path.exists()
        assert "weights_only" not in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("content", "wanted"),
        [
            pytest.param(torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear", id="module of torch"),
            pytest.param(Plain(), r"checkpoint_samples\.Plain", id="module of one's own"),
            pytest.param(
                {"state_dict": state(), "args": fractions.Fraction(1, 2)},
                r"fractions\.Fraction",
                id="args",
            ),
            pytest.param({"a": print}, r"print", id="builtin"),
        ],
    )
    def test_the_class_that_a_pickle_wants_is_named(self, tmp_path, form, content, wanted):
        """Whole modules and objects beside the weights are refused by the name of their class."""
        with pytest.raises(UnsafeFileError, match=wanted):
            read_checkpoint(save(content, tmp_path / "x.pt", form))

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            pytest.param(torch.ones(2), "one tensor without a name", id="tensor"),
            pytest.param([1, 2], "a dict of named tensors", id="list"),
            pytest.param({"epoch": 3}, "no state dict", id="no tensors"),
            pytest.param({}, "no state dict", id="empty"),
            pytest.param({1: torch.ones(1)}, "no state dict", id="numbered"),
            pytest.param({"a": torch.ones(2, 2).to_sparse()}, "'a' must be dense", id="sparse"),
            pytest.param({"a": torch.ones(2, device="meta")}, "'a' must be dense and have values", id="meta"),
        ],
    )
    def test_what_is_no_state_dict_is_said_to_be_none(self, tmp_path, form, content, reason):
        """A file with something other than named dense tensors is refused."""
        with pytest.raises(CheckpointError, match=reason):
            read_checkpoint(save(content, tmp_path / "x.pt", form))

    def test_a_small_expanded_tensor_is_read(self, tmp_path, form):
        """A buffer that was expanded in moderation is no bomb."""
        given = {"mask": torch.ones(1).expand(1000)}
        assert same_state(dict(read_checkpoint(save(given, tmp_path / "x.pt", form)).tensors), given)

    def test_a_tensor_that_claims_more_than_the_file_is_refused(self, tmp_path, form):
        """A stride of 0 makes 10¹² elements of four bytes: refused before anything is allocated."""
        path = save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "x.pt", form)
        with pytest.raises(UnsafeFileError, match="tensors claim 4000000000000"):
            read_checkpoint(path)


class TestPlainPickles:
    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_a_pickle_that_torch_did_not_write_is_never_run(self, tmp_path, protocol):
        """A pickle of the standard library is refused in every protocol, and nothing in it is called."""
        canary = Canary(tmp_path / "canary")
        (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": canary}, protocol=protocol))
        with pytest.raises(UnsafeFileError, match=r"posix\.system"):
            read_checkpoint(tmp_path / "x.pkl")
        assert not canary.path.exists()

    def test_plain_data_is_no_checkpoint_either(self, tmp_path):
        """A pickled dict of numbers isn't what torch.save writes."""
        (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=2))
        with pytest.raises(CheckpointError, match=r"x\.pkl"):
            read_checkpoint(tmp_path / "x.pkl")


class TestZipArchives:
    @pytest.mark.parametrize("last", [True, False])
    def test_a_second_pickle_whose_name_differs_in_case_only_is_refused(self, tmp_path, last):
        """torch looks for entries whatever their case, so that it could read another than was checked."""
        save({"w": torch.ones(1)}, tmp_path / "one.pt")
        save({"other": torch.ones(1)}, tmp_path / "other.pt")
        with zipfile.ZipFile(tmp_path / "other.pt") as archive:
            second = ("one/DATA.PKL", archive.read("other/data.pkl"))
        with zipfile.ZipFile(tmp_path / "one.pt") as archive:
            entries = [(name, archive.read(name)) for name in archive.namelist()]
        with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
            for name, content in [*entries, second] if last else [second, *entries]:
                archive.writestr(name, content)
        with pytest.raises(UnsafeFileError, match="two entries of the same name"):
            read_checkpoint(tmp_path / "x.pt")

    def test_every_single_flipped_bit_is_found_or_harmless(self, tmp_path):
        """One flipped bit is an error of ours or changes no tensor, wherever in the archive it lies."""
        given = {"w": torch.arange(6.0), "b": torch.ones(2)}
        content = save(given, tmp_path / "whole").read_bytes()
        path = tmp_path / "x.pt"
        random_bits = random.Random(2)
        for _ in range(300):
            bit = random_bits.randrange(8 * len(content))
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            try:
                found = read_checkpoint(path)
            except BioconvertError:
                continue
            assert same_state(dict(found.tensors), given), f"bit {bit}"

    def test_every_flipped_bit_of_a_tensor_is_found_by_its_checksum(self, tmp_path):
        """torch itself doesn't look at the checksums; here each bit of the data counts."""
        path = save({"w": torch.arange(4.0)}, tmp_path / "x.pt")
        content = path.read_bytes()
        start = content.index(struct.pack("<4f", 0, 1, 2, 3))
        for bit in range(8 * 16):
            changed = bytearray(content)
            changed[start + bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            with pytest.raises(CorruptFileError, match="damaged zip archive"):
                read_checkpoint(path)

    def test_a_compressed_archive_that_unpacks_to_more_is_refused(self, tmp_path):
        """A zip bomb is refused by what its entries claim, before any is unpacked."""
        path = tmp_path / "bomb.pt"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x/data.pkl", b"\x80\x02}.")
            archive.writestr("x/data/0", bytes(50_000_000))
        with pytest.raises(UnsafeFileError, match="unpacks to"):
            read_checkpoint(path)

    def test_two_entries_of_one_name_are_refused(self, tmp_path):
        """Readers disagree on which of two entries counts."""
        path = save(state(), tmp_path / "x.pt")
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(archive.namelist()[0], b"\x80\x02}.")
        with pytest.raises(UnsafeFileError, match="two entries of the same name"):
            read_checkpoint(path)

    def test_an_absurd_number_of_entries_is_refused_unlisted(self, tmp_path):
        """The list of entries is measured before it is read."""
        path = save({"a": torch.ones(1)}, tmp_path / "x.pt")
        content = bytearray(path.read_bytes())
        content[-10:-6] = struct.pack("<L", 40 << 20)
        path.write_bytes(content)
        with pytest.raises(UnsafeFileError, match="absurd number of entries"):
            read_checkpoint(path)

    def test_an_absurd_pickle_is_refused_unread(self, tmp_path, monkeypatch):
        """The pickle is measured before it is interpreted."""
        monkeypatch.setattr("bioconvert.checkpoint.files.zip_archive.MAX_PICKLE", 100)
        assert MAX_PICKLE > 100
        with pytest.raises(UnsafeFileError, match="no checkpoint needs more than 100"):
            read_checkpoint(save(state(), tmp_path / "x.pt"))

    def test_a_record_shorter_than_its_tensor_is_corrupt(self, tmp_path):
        """A storage that the archive holds only in part is damage."""
        save({"a": torch.arange(4.0)}, tmp_path / "whole")
        rewrite_zip(
            tmp_path / "whole",
            tmp_path / "x",
            lambda name, content: content[:4] if name.endswith("/0") else content,
        )
        with pytest.raises(CorruptFileError, match="can't be read to its end"):
            read_checkpoint(tmp_path / "x")

    @pytest.mark.parametrize(
        ("field", "value", "error", "reason"),
        [
            pytest.param(6, b"\xff\x00", CheckpointError, "torch.save didn't write", id="version"),
            pytest.param(8, b"\x01\x08", CorruptFileError, "encrypted", id="encrypted"),
            pytest.param(10, b"\x0e\x00", CorruptFileError, "oddly compressed", id="method"),
            pytest.param(24, b"\x11\x00", CorruptFileError, "has 16 of 17 bytes", id="size"),
        ],
    )
    def test_an_entry_that_torch_never_writes_is_refused(self, tmp_path, field, value, error, reason):
        """What the list of entries says of one must be what torch writes, and true."""
        path = save({"w": torch.arange(4.0)}, tmp_path / "x.pt")
        content = bytearray(path.read_bytes())
        at = content.rindex(b"x/data/0") - 46 + field
        content[at : at + 2] = value
        path.write_bytes(content)
        with pytest.raises(error, match=reason):
            read_checkpoint(path)

    def test_a_missing_record_is_corrupt(self, tmp_path):
        """A storage that isn't in the archive is damage."""
        save({"a": torch.arange(4.0)}, tmp_path / "whole")
        rewrite_zip(
            tmp_path / "whole", tmp_path / "x", lambda name, content: None if name.endswith("/0") else content
        )
        with pytest.raises(CorruptFileError, match="can't be read to its end"):
            read_checkpoint(tmp_path / "x")


class TestLegacyFiles:
    def test_an_absurd_pickle_is_not_read_to_its_end(self, tmp_path, monkeypatch):
        """The legacy format doesn't say how long its pickle is, so it is counted while it is read."""
        monkeypatch.setattr("bioconvert.checkpoint.formats.pickled._MAX_LEGACY_PICKLE", 300)
        with pytest.raises(UnsafeFileError, match="its pickle has more than 300 bytes"):
            read_checkpoint(save(state(), tmp_path / "x.pt", LEGACY))

    def test_a_storage_larger_than_any_memory_is_refused(self, tmp_path):
        """A storage that claims a petabyte isn't allocated."""
        content = save({"w": torch.arange(4.0)}, tmp_path / "x.pt", LEGACY).read_bytes()
        huge = b"\x8a\x07" + (1 << 50).to_bytes(7, "little")
        (tmp_path / "x.pt").write_bytes(content.replace(b"K\x04Nt", huge + b"Nt"))
        with pytest.raises(UnsafeFileError, match="more memory than there is"):
            read_checkpoint(tmp_path / "x.pt")

    def test_the_bytes_of_tensors_do_not_count(self, tmp_path, monkeypatch):
        """However large the tensors, only what is interpreted is limited."""
        monkeypatch.setattr("bioconvert.checkpoint.formats.pickled._MAX_LEGACY_PICKLE", 1000)
        given = {"w": torch.arange(5000.0)}
        assert same_state(dict(read_checkpoint(save(given, tmp_path / "x.pt", LEGACY)).tensors), given)

    def test_every_flipped_bit_is_an_error_of_ours_or_none(self, tmp_path):
        """Without checksums not every bit can be found, but none makes anything but our own errors."""
        content = save({"w": torch.arange(6.0)}, tmp_path / "whole", LEGACY).read_bytes()
        path = tmp_path / "x.pt"
        refused = 0
        for bit in random.Random(4).sample(range(8 * len(content)), 400):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            try:
                read_checkpoint(path)
            except BioconvertError:
                refused += 1
        assert refused > 100


def test_entries_that_are_no_tensors_are_left_out_and_said_to_be(tmp_path, caplog):
    """Extra state in a state dict doesn't stop the tensors from being read."""
    given = collections.OrderedDict({**state(), "layer._extra_state": {"a": 1}})
    found = read_checkpoint(save(given, tmp_path / "x.pt"))
    assert found.left_out == ("layer._extra_state",)
    assert set(found.tensors) == set(state())
    assert "layer._extra_state" in caplog.text
