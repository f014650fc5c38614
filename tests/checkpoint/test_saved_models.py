"""Whatever model is saved, the same model is loaded."""

import json
import os

import pytest
import torch
from checkpoint_samples import Demanding, Plain, Shared, Tied, files_in, same_state, state
from safetensors.torch import save_file
from torch import nn

from bioconvert.checkpoint import load_model, read_checkpoint, read_manifest, save_model, verify_folder
from bioconvert.core.errors import (
    ArchitectureError,
    BioconvertError,
    CheckpointError,
    CorruptFileError,
    OptionError,
    TargetError,
    UnsafeFileError,
)


class Holder(nn.Module):
    """A model of any tensors."""

    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)


class Remembering(nn.Linear):
    """A layer with state of its own beside tensors."""

    def __init__(self, memory=None):
        super().__init__(2, 2)
        self.memory = memory

    def get_extra_state(self):
        """Give the memory."""
        return self.memory

    def set_extra_state(self, state):
        """Take the memory."""
        self.memory = state


def _views():
    weight = nn.Parameter(torch.arange(12.0).view(3, 4))
    return Holder(whole=weight, part=weight.detach()[0], turned=weight.detach().t(), again=weight)


def _mixed():
    return Holder(
        brief=nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
        scalar=torch.tensor(3),
        empty=torch.zeros(0, 3),
        pair=torch.tensor([1 + 2j], dtype=torch.complex128),
        odd=torch.tensor([float("nan"), float("inf"), -0.0]),
        last=torch.randn(1, 3, 2, 2).to(memory_format=torch.channels_last),
        spread=torch.ones(1).expand(3),
    )


def _frozen():
    model = Plain()
    model.first.requires_grad_(False)
    model.norm.eval()
    return model


MODELS = [
    pytest.param(Plain, None, id="plain"),
    pytest.param(_frozen, Plain, id="frozen and partly in evaluation"),
    pytest.param(lambda: Plain().eval().half(), Plain, id="half, in evaluation"),
    pytest.param(Tied, None, id="tied"),
    pytest.param(Shared, None, id="shared"),
    pytest.param(_views, _views, id="views"),
    pytest.param(_mixed, _mixed, id="all kinds of tensors"),
    pytest.param(lambda: nn.Linear(2, 2, bias=False), lambda: nn.Linear(2, 2, bias=False), id="no bias"),
    pytest.param(nn.Identity, None, id="no tensor at all"),
    pytest.param(lambda: Remembering({"a": [1, "b"]}), Remembering, id="extra state"),
]


@pytest.mark.parametrize(("make", "factory"), MODELS)
class TestEveryModel:
    def test_comes_back_with_values_flags_and_ties(self, tmp_path, make, factory):
        """Tensors, number formats, flags, ties and extra state are those that were saved."""
        model = make()
        save_model(model, tmp_path / "out")
        found = load_model(tmp_path / "out", factory=factory)
        assert type(found) is type(model)
        assert same_state(_tensors(found), _tensors(model))
        assert _flags(found) == _flags(model)
        assert _sharing(found) == _sharing(model)

    def test_is_sound_and_the_same_bytes_every_time(self, tmp_path, make, factory):
        """Saved twice, also after loading, the files are the same, and nothing is found wrong with them."""
        model = make()
        save_model(model, tmp_path / "one")
        save_model(model, tmp_path / "two")
        save_model(load_model(tmp_path / "one", factory=factory), tmp_path / "three")
        assert files_in(tmp_path / "one") == files_in(tmp_path / "two") == files_in(tmp_path / "three")
        assert verify_folder(tmp_path / "one") == []


def _tensors(model):
    return {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


def _flags(model):
    modes = {path: module.training for path, module in model.named_modules(remove_duplicate=False)}
    return modes, {name: p.requires_grad for name, p in model.named_parameters(remove_duplicate=False)}


def _sharing(model):
    state = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    return {name: first.setdefault(id(value), name) for name, value in state.items()}


class TestTies:
    def test_a_tie_made_after_building_is_made_again(self, tmp_path):
        """Parameters that the base model has apart become one object where they were saved as one."""
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        save_model(model, tmp_path / "out")
        found = load_model(tmp_path / "out", factory=lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
        assert found[1].weight is found[0].weight
        assert found[1].bias is not found[0].bias
        assert torch.equal(found[0].weight, model[0].weight)

    def test_a_file_holds_one_of_the_tied_tensors(self, tmp_path):
        """The first name stands for all; the manifest names the others, and reading gives them back."""
        save_model(Tied(), tmp_path / "out")
        manifest = read_manifest(tmp_path / "out" / "bioconvert.json")
        assert manifest.ties == (("encoder.weight", "decoder.weight"),)
        assert set(manifest.tensors) == {"encoder.weight", "decoder.bias"}
        found = read_checkpoint(tmp_path / "out")
        assert found.tensors["decoder.weight"] is found.tensors["encoder.weight"]
        assert found.ties == manifest.ties


class TestWrappers:
    def test_a_data_parallel_wrapper_is_taken_off(self, tmp_path):
        """What is saved is the model, not what stands in front of it."""
        save_model(nn.DataParallel(Plain()), tmp_path / "out")
        assert type(load_model(tmp_path / "out")) is Plain

    @pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
    def test_a_compiled_model_is_saved_as_what_it_was(self, tmp_path):
        """torch.compile puts no prefix before the names."""
        save_model(torch.compile(Plain()), tmp_path / "out")
        assert "first.weight" in read_checkpoint(tmp_path / "out").tensors

    def test_a_scripted_model_is_refused(self, tmp_path):
        """A scripted module isn't the model that it was made from."""
        with pytest.warns(DeprecationWarning, match="torch.jit"):
            scripted = torch.jit.script(nn.Linear(2, 2))
        with pytest.raises(CheckpointError, match="scripted module"):
            save_model(scripted, tmp_path / "out")

    def test_what_is_no_module_is_refused(self, tmp_path):
        """A state dict is no model."""
        with pytest.raises(OptionError, match=r"torch\.nn\.Module, not dict"):
            save_model(state(), tmp_path / "out")


UNSAVABLE = [
    pytest.param(lambda: Plain().to("meta"), {}, CheckpointError, "'first.weight' is on the meta", id="meta"),
    pytest.param(lambda: nn.LazyLinear(2), {}, CheckpointError, "run the model once", id="lazy"),
    pytest.param(
        lambda: Remembering(object()), {}, CheckpointError, "extra state", id="extra state, no JSON"
    ),
    pytest.param(
        lambda: Remembering((1, 2)), {}, CheckpointError, "JSON would change", id="extra state, changed"
    ),
    pytest.param(Plain, {"arch": "nonsense"}, ArchitectureError, "must be timm:NAME", id="architecture"),
    pytest.param(Plain, {"arch_args": {"x": 1}}, OptionError, "must come with arch", id="arguments alone"),
]


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(("make", "options", "error", "reason"), UNSAVABLE)
def test_what_cannot_be_saved_leaves_nothing(tmp_path, make, options, error, reason):
    """A model that can't be saved is an error before anything is written."""
    with pytest.raises(error, match=reason):
        save_model(make(), tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


class TestArchitecture:
    def test_a_named_architecture_is_recorded_as_it_is(self, tmp_path):
        """What the user names isn't checked while saving, and builds the base while loading."""
        save_model(
            Demanding(3), tmp_path / "out", arch="checkpoint_samples:Demanding", arch_args={"width": 3}
        )
        assert load_model(tmp_path / "out").layer.in_features == 3

    def test_an_unknown_base_is_an_error_that_says_how_to_give_it(self, tmp_path):
        """Without an architecture, a factory is asked for, and taken."""
        model = Demanding(3)
        save_model(model, tmp_path / "out")
        with pytest.raises(ArchitectureError, match=r"Pass factory=.*arch= \(timm:NAME"):
            load_model(tmp_path / "out")
        assert same_state(
            load_model(tmp_path / "out", factory=lambda: Demanding(3)).state_dict(), model.state_dict()
        )

    def test_a_factory_wins_over_the_manifest(self, tmp_path):
        """A factory is called whatever the manifest says."""
        save_model(Plain(), tmp_path / "out")
        made = Plain()
        assert load_model(tmp_path / "out", factory=lambda: made) is made

    @pytest.mark.parametrize(
        ("factory", "reason"),
        [
            (lambda: 3, "factory must return an nn.Module, but gave a int"),
            (nn.Identity, "names are unknown to the model: first.bias, first.weight"),
            (lambda: Plain().to("meta"), "not on the meta device"),
        ],
    )
    def test_a_factory_of_something_else_is_refused(self, tmp_path, factory, reason):
        """The model that a factory gives must be what was saved."""
        save_model(Plain(), tmp_path / "out")
        with pytest.raises(ArchitectureError, match=reason):
            load_model(tmp_path / "out", factory=factory)

    def test_a_manifest_does_not_get_anything_called(self, tmp_path):
        """A function that makes no model isn't called because a downloaded manifest names it."""
        save_model(
            Demanding(3), tmp_path / "out", arch="os:mkdir", arch_args={"path": str(tmp_path / "made")}
        )
        with pytest.raises(ArchitectureError, match="the manifest wants os:mkdir called"):
            load_model(tmp_path / "out")
        assert not (tmp_path / "made").exists()

    def test_loading_leaves_the_random_stream_alone(self, tmp_path):
        """Building the base model draws no number from the caller's stream."""
        save_model(Plain(), tmp_path / "out")
        torch.manual_seed(0)
        expected = torch.rand(1)
        torch.manual_seed(0)
        load_model(tmp_path / "out")
        assert torch.equal(torch.rand(1), expected)


class TestFolder:
    def test_large_models_come_in_shards(self, tmp_path):
        """Above the shard size there are several files and an index, and nothing else changes."""
        model = Plain()
        save_model(model, tmp_path / "out", shard_size=100)
        names = set(files_in(tmp_path / "out"))
        assert "model.safetensors.index.json" in names
        assert "model-00001-of-00005.safetensors" in names
        assert same_state(load_model(tmp_path / "out").state_dict(), model.state_dict())
        assert verify_folder(tmp_path / "out") == []

    def test_files_beside_the_weights_are_carried_over_untouched(self, tmp_path):
        """Configuration and tokenizer follow the model; weights, indexes and hidden files don't."""
        source = tmp_path / "source"
        source.mkdir()
        torch.save(Plain().state_dict(), source / "pytorch_model.bin")
        for name in ("config.json", "merges.txt", ".hidden", "flax_model.msgpack", "old.index.json"):
            (source / name).write_bytes(b'{"a":  1}\r\n')
        save_model(Plain(), tmp_path / "out", source=source)
        out = files_in(tmp_path / "out")
        assert set(out) == {"model.safetensors", "bioconvert.json", "config.json", "merges.txt"}
        assert out["config.json"] == out["merges.txt"] == b'{"a":  1}\r\n'
        assert verify_folder(tmp_path / "out") == []

    def test_a_folder_in_use_is_kept_unless_it_may_be_overwritten(self, tmp_path):
        """Overwriting replaces the whole folder."""
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_bytes(b"")
        with pytest.raises(TargetError, match="isn't empty"):
            save_model(Plain(), tmp_path / "out")
        assert set(files_in(tmp_path / "out")) == {"mine.txt"}
        save_model(Plain(), tmp_path / "out", overwrite=True)
        assert set(files_in(tmp_path / "out")) == {"model.safetensors", "bioconvert.json"}

    def test_a_folder_can_be_overwritten_by_what_was_read_from_it(self, tmp_path):
        """Source and target may be the same folder."""
        save_model(Plain(), tmp_path / "out")
        (tmp_path / "out" / "config.json").write_text("{}")
        save_model(load_model(tmp_path / "out"), tmp_path / "out", overwrite=True, source=tmp_path / "out")
        assert verify_folder(tmp_path / "out") == []
        assert (tmp_path / "out" / "config.json").exists()

    def test_transformers_reads_the_tensors(self, tmp_path, transformers):
        """An unconverted model of transformers is a folder that from_pretrained takes."""
        config = transformers.GPT2Config(
            n_layer=1, n_embd=8, n_head=2, vocab_size=16, n_positions=8, bos_token_id=0, eos_token_id=0
        )
        model = transformers.GPT2LMHeadModel(config)
        model.save_pretrained(tmp_path / "source")
        save_model(model, tmp_path / "out", source=tmp_path / "source")
        theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out")
        ours = load_model(tmp_path / "out")
        assert same_state(theirs.state_dict(), model.state_dict())
        assert same_state(ours.state_dict(), model.state_dict())
        assert ours.lm_head.weight is ours.transformer.wte.weight


class TestSource:
    @pytest.mark.parametrize("as_path", [True, False])
    def test_name_hash_nesting_and_prefix_are_recorded(self, tmp_path, as_path):
        """The manifest says what was converted, whether the path or the checkpoint is given."""
        path = tmp_path / "x.pt"
        torch.save({"ema": {f"module.{name}": value for name, value in Plain().state_dict().items()}}, path)
        save_model(Plain(), tmp_path / "out", source=path if as_path else read_checkpoint(path))
        source = read_manifest(tmp_path / "out" / "bioconvert.json").source
        assert (source.name, source.format, source.nesting, source.prefix) == (
            "x.pt",
            "torch zip",
            ("ema",),
            "module.",
        )
        assert len(source.sha256) == 64

    def test_the_hash_is_that_of_the_content(self, tmp_path):
        """The hash of one file is its SHA-256; that of shards changes with any of them."""
        hashes = []
        for value in (1.0, 2.0):
            model = Plain()
            nn.init.constant_(model.last.bias, value)
            save_model(model, tmp_path / f"source{value}", shard_size=100)
            (tmp_path / f"source{value}" / "bioconvert.json").unlink()
            save_model(model, tmp_path / f"out{value}", source=tmp_path / f"source{value}")
            source = read_manifest(tmp_path / f"out{value}" / "bioconvert.json").source
            assert source.format == "sharded safetensors"
            hashes.append(source.sha256)
        assert hashes[0] != hashes[1]


class TestDamage:
    @pytest.mark.parametrize("bit", [0, 1, 77, 8 * 16 - 1])
    def test_a_flipped_bit_is_found_by_its_hash(self, tmp_path, bit):
        """The error names the file and the tensor; without verification the bytes are taken as they are."""
        save_model(nn.Linear(2, 2, bias=False), tmp_path / "out")
        path = tmp_path / "out" / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1 - bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)

        def factory():
            return nn.Linear(2, 2, bias=False)

        with pytest.raises(CorruptFileError, match=r"model\.safetensors: the bytes of tensor 'weight'"):
            load_model(tmp_path / "out", factory=factory)
        assert load_model(tmp_path / "out", factory=factory, verify=False).weight.shape == (2, 2)

    @pytest.mark.parametrize("name", ["model.safetensors", "bioconvert.json"])
    def test_truncation_anywhere_is_found(self, tmp_path, name):
        """A cut file is an error of ours, wherever it was cut."""
        save_model(Plain(), tmp_path / "out")
        path = tmp_path / "out" / name
        content = path.read_bytes()
        for length in range(0, len(content) - 1, 37):
            path.write_bytes(content[:length])
            with pytest.raises(CorruptFileError, match=name.replace(".", r"\.")):
                load_model(tmp_path / "out")

    def test_a_missing_file_is_named(self, tmp_path):
        """Without its tensors, a folder can't be loaded."""
        save_model(Plain(), tmp_path / "out")
        (tmp_path / "out" / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"model\.safetensors: there is no such file"):
            load_model(tmp_path / "out")

    @pytest.mark.parametrize(
        "make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("")]
    )
    def test_what_is_no_folder_of_ours_is_refused(self, tmp_path, make):
        """Only a folder with a manifest can be loaded."""
        make(tmp_path / "x")
        with pytest.raises(CheckpointError, match="a folder that bioconvert wrote"):
            load_model(tmp_path / "x")


def _set(*keys, value):
    def change(manifest):
        target = manifest
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value

    return change


BAD_MANIFESTS = [
    pytest.param(_set("format_version", value=2), "format_version must be 1, but is 2", id="newer"),
    pytest.param(_set("format_version", value="1"), "format_version must be 1", id="version as text"),
    pytest.param(_set("format_version", value=True), "format_version must be 1", id="version as bool"),
    *[
        pytest.param(lambda m, key=key: m.pop(key), f"{key}: Field required", id=f"no {key}")
        for key in ("tool", "source", "rules", "conversion", "architecture", "ties", "tensors", "files")
    ],
    pytest.param(_set("tensors", value=[]), "tensors: Input should be", id="tensors is a list"),
    pytest.param(_set("tensors", "last.bias", "shape", value=["2"]), "last.bias", id="shape of texts"),
    pytest.param(_set("tensors", "last.bias", "dtype", value="F33"), "unknown dtype 'F33'", id="dtype"),
    pytest.param(_set("tensors", "last.bias", "file", value="../x"), "own folder", id="file elsewhere"),
    pytest.param(_set("tensors", "last.bias", "file", value="other"), "isn't listed", id="file not listed"),
    pytest.param(
        _set("tensors", "last.bias", "shape", value=[3]), "the manifest lists F32 \\[3\\]", id="shape"
    ),
    pytest.param(
        _set("tensors", "last.bias", "dtype", value="I32"), "the manifest lists I32", id="other dtype"
    ),
    pytest.param(_set("ties", value=[["nothing", "last.bias"]]), "no tensor to stand for it", id="tie"),
    pytest.param(_set("conversion", value={}), "must have a list of modules", id="conversion"),
    pytest.param(
        _set("conversion", value={"modules": [{"path": "first"}]}),
        "the conversion can't be repeated",
        id="step",
    ),
    pytest.param(
        _set("conversion", value={"modules": [{"path": "first", "steps": 3}]}),
        "can't be repeated",
        id="steps",
    ),
    pytest.param(_set("files", "/etc/passwd", value={"size": 1, "sha256": ""}), "own folder", id="file name"),
    pytest.param(_set("architecture", value={"kind": "x"}), "must have a kind", id="architecture"),
]


@pytest.mark.parametrize(("change", "reason"), BAD_MANIFESTS)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path, change, reason):
    """Whatever is wrong with a manifest is an error of ours of one line."""
    save_model(Plain(), tmp_path / "out")
    path = tmp_path / "out" / "bioconvert.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(BioconvertError, match=reason) as caught:
        load_model(tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 1, "a": 2}', '{"format_version": NaN}', "[1e999]", "\0"]
)
def test_a_manifest_that_is_no_strict_json_is_corrupt(tmp_path, text):
    """A manifest must be a JSON object without duplicate keys."""
    (tmp_path / "bioconvert.json").write_text(text)
    with pytest.raises(CorruptFileError, match=r"bioconvert\.json"):
        load_model(tmp_path)


def test_names_that_no_manifest_can_list(tmp_path):
    """A source's name that isn't UTF-8 is put down in ASCII; such a file beside its weights is refused."""
    odd = os.fsdecode(b"r\xe9sum\xe9")
    source = tmp_path / odd
    source.mkdir()
    save_file(Plain().state_dict(), source / "model.safetensors")
    save_model(Plain(), tmp_path / "out", source=source)
    assert read_manifest(tmp_path / "out" / "bioconvert.json").source.name == r"r\udce9sum\udce9"
    (source / odd).write_text("beside")
    with pytest.raises(
        CheckpointError, match=r"the name of the file b'r\\xe9sum\\xe9' must be UTF-8; rename it"
    ):
        save_model(Plain(), tmp_path / "other", source=source)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_of_ours_that_is_a_link_out_of_the_folder_is_refused(tmp_path, name):
    """A folder's files lie in it, or in the blob store of a model cache."""
    source = tmp_path / "source"
    source.mkdir()
    save_file(Plain().state_dict(), source / "model.safetensors")
    (source / "tokenizer.json").write_text("{}")
    save_model(Plain(), tmp_path / "out", source=source)
    (tmp_path / "out" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFileError, match=f"{name}: is a link out of its folder"):
        load_model(tmp_path / "out")


def test_a_link_beside_the_weights_is_not_followed_out_of_the_folder(tmp_path):
    """What a downloaded folder only points at, as a key of the user's own, doesn't get into the output."""
    source = tmp_path / "source"
    source.mkdir()
    save_file(Plain().state_dict(), source / "model.safetensors")
    (tmp_path / "secret").write_text("secret")
    (source / "tokenizer.json").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeFileError, match=r"tokenizer\.json: is a link out of its folder"):
        save_model(Plain(), tmp_path / "out", source=source)
    assert not (tmp_path / "out").exists()
