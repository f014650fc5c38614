"""Base models are built by name, without downloads, and unknown names come with the nearest known."""

import json
import sys

import pytest
import torch
from checkpoint_samples import Demanding, Plain
from torch import nn

from bioconvert.checkpoint import (
    Architecture,
    architecture_in,
    choose_architecture,
    load_model,
    parse_arch,
    save_model,
)
from bioconvert.core.errors import ArchitectureError, CorruptFileError, UnsafeFileError

GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_layer": 2,
    "n_embd": 16,
    "n_head": 2,
    "vocab_size": 32,
    "n_positions": 16,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
TIMM = {
    "architecture": "test_resnet",
    "num_classes": 3,
    "pretrained_cfg": {"input_size": [1, 32, 32], "url": "x"},
}

TEXTS = [
    pytest.param("timm:resnet18", ("timm", "resnet18"), id="timm"),
    pytest.param("torchvision:resnet18", ("torchvision", "resnet18"), id="torchvision"),
    pytest.param("package.module:make", ("callable", "package.module:make"), id="callable"),
    pytest.param("module:Class.method", ("callable", "module:Class.method"), id="attribute"),
]


class TestParsing:
    @pytest.mark.parametrize(("text", "expected"), TEXTS)
    def test_known_forms_are_taken_as_they_are(self, text, expected):
        """Kind and name are read off the text; nothing is imported or looked up."""
        found = parse_arch(text, {"num_classes": 3})
        assert (found.kind, found.name, found.args) == (*expected, {"num_classes": 3})

    @pytest.mark.parametrize("text", ["", "resnet18", "timm:", ":x", "a b:c", "a:b c", "a/b.py:c", "1a:b"])
    def test_other_texts_are_refused(self, text):
        """The error says which forms there are."""
        with pytest.raises(ArchitectureError, match="must be timm:NAME"):
            parse_arch(text)

    @pytest.mark.parametrize("args", [{"x": object()}, {"x": float("nan")}, {"x": {1, 2}}])
    def test_arguments_must_be_what_a_manifest_can_hold(self, args):
        """Arguments that JSON can't hold are refused at once."""
        with pytest.raises(ArchitectureError, match="JSON can hold"):
            parse_arch("timm:resnet18", args)

    def test_the_value_survives_json(self):
        """to_dict and from_dict are inverse, also through JSON."""
        value = parse_arch("torchvision:resnet18", {"num_classes": 3})
        assert Architecture.from_dict(json.loads(json.dumps(value.to_dict()))) == value

    @pytest.mark.parametrize(
        "value", [{}, {"kind": "x", "name": "y", "args": {}}, {"kind": "timm", "name": 1, "args": {}}]
    )
    def test_other_values_are_refused(self, value):
        """A dict without a known kind, a name and arguments is no architecture."""
        with pytest.raises(ArchitectureError, match="must have a kind"):
            Architecture.from_dict(value)


BAD = [
    pytest.param(
        "torchvision:resnet81",
        {},
        "no torchvision model named 'resnet81'.*Did you mean 'resnet18'",
        id="torchvision name",
    ),
    pytest.param(
        "timm:resnet81", {}, "no timm model named 'resnet81'.*Did you mean 'resnet18'", id="timm name"
    ),
    pytest.param("timm:hf-hub:timm/resnet18", {}, "no timm model named", id="download by name"),
    pytest.param(
        "timm:test_resnet", {"pretrained": True}, "'pretrained' must be left out", id="timm download"
    ),
    pytest.param(
        "timm:test_resnet", {"checkpoint_path": "x"}, "'checkpoint_path' must be left out", id="timm file"
    ),
    pytest.param(
        "torchvision:resnet18",
        {"weights": "DEFAULT"},
        "'weights' must be left out",
        id="torchvision download",
    ),
    pytest.param(
        "torchvision:resnet18", {"depth": 3}, "can't be built: TypeError.*depth", id="unknown argument"
    ),
    pytest.param("no_such_module:make", {}, "no module named 'no_such_module'.*PYTHONPATH", id="module"),
    pytest.param("checkpoint_samples:Plane", {}, "no 'Plane'. Did you mean 'Plain'", id="attribute"),
    pytest.param("checkpoint_samples:ZIP", {}, "must be a class or function.*not a bool", id="no callable"),
    pytest.param(
        "checkpoint_samples:make_nothing", {}, "must return an nn.Module, but gave a int", id="no module"
    ),
    pytest.param(
        "checkpoint_samples:Demanding", {}, "can't be built: TypeError.*width", id="missing argument"
    ),
    pytest.param(
        "checkpoint_samples:make_lacking",
        {},
        "can't be built: No module named 'lacking'",
        id="missing dependency",
    ),
    pytest.param("hf:/no/such/config", {}, "nothing is downloaded", id="no local config"),
    pytest.param("hf:gpt2", {}, "nothing is downloaded", id="name on the hub"),
]


@pytest.mark.usefixtures("timm", "torchvision")
@pytest.mark.parametrize(("text", "args", "reason"), BAD)
def test_what_cannot_be_built_is_said_with_the_reason(text, args, reason):
    """Every failure on the way to a model is an ArchitectureError of one line."""
    with pytest.raises(ArchitectureError, match=reason) as caught:
        parse_arch(text, args).build()
    assert "\n" not in str(caught.value)


class TestBuilding:
    def test_torchvision(self, torchvision):
        """Arguments reach the builder of torchvision."""
        model = parse_arch("torchvision:mobilenet_v2", {"num_classes": 3}).build()
        assert type(model) is torchvision.models.MobileNetV2
        assert model.classifier[1].out_features == 3

    @pytest.mark.usefixtures("torchvision")
    def test_a_detector_is_built_without_fetching_its_backbone(self, monkeypatch):
        """No weights of any part are downloaded."""
        monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))
        model = parse_arch("torchvision:lraspp_mobilenet_v3_large").build("meta")
        assert type(model).__name__ == "LRASPP"

    @pytest.mark.usefixtures("timm")
    def test_timm(self):
        """Arguments reach the builder of timm."""
        model = parse_arch("timm:test_resnet", {"num_classes": 3, "in_chans": 1}).build()
        assert model.num_classes == 3
        assert model.conv1[0].in_channels == 1

    def test_a_callable(self):
        """A class or function of anyone's is called with the arguments."""
        model = parse_arch("checkpoint_samples:make_demanding", {"width": 5}).build()
        assert type(model) is Demanding
        assert model.layer.in_features == 5

    def test_non_persistent_buffers_have_their_values(self):
        """A model built on the CPU is right in what no checkpoint holds."""
        assert torch.equal(parse_arch("checkpoint_samples:Plain").build().mask, torch.arange(8.0))

    def test_on_the_meta_device_nothing_has_values(self):
        """For shapes alone, no memory is taken."""
        model = parse_arch("checkpoint_samples:Plain").build("meta")
        assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))

    def test_a_missing_package_is_named_with_the_command(self, monkeypatch):
        """Where timm isn't installed, the error says how to install it."""
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(ArchitectureError, match="needs the package timm: pip install timm"):
            parse_arch("timm:resnet18").build()


@pytest.mark.usefixtures("transformers")
class TestTransformers:
    def test_a_local_config_gives_the_class_and_its_arguments(self, tmp_path):
        """hf:CONFIG builds the class that the config names, the file or its folder given."""
        (tmp_path / "config.json").write_text(json.dumps(GPT2))
        for text in (f"hf:{tmp_path}", f"hf:{tmp_path / 'config.json'}"):
            model = parse_arch(text).build()
            assert type(model).__name__ == "GPT2LMHeadModel"
            assert len(model.transformer.h) == 2

    def test_arguments_override_the_config(self, tmp_path):
        """--arch-args have the last word."""
        (tmp_path / "config.json").write_text(json.dumps(GPT2))
        assert len(parse_arch(f"hf:{tmp_path}", {"n_layer": 1}).build().transformer.h) == 1

    def test_the_value_holds_the_content_and_not_the_path(self, tmp_path):
        """The architecture can be built after the config file is gone."""
        (tmp_path / "config.json").write_text(json.dumps(GPT2))
        value = parse_arch(f"hf:{tmp_path}")
        (tmp_path / "config.json").unlink()
        assert type(value.build("meta")).__name__ == "GPT2LMHeadModel"

    def test_code_from_a_hub_is_not_fetched(self, tmp_path):
        """A config that names a hub's repository for its attention is built with that of transformers."""
        config = {**GPT2, "attn_implementation": "kernels-community/flash-attn"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        model = choose_architecture(tmp_path).build()
        assert "/" not in model.config._attn_implementation

    def test_a_config_cannot_have_a_module_imported(self, tmp_path, monkeypatch):
        """A full class name in a downloaded config is refused before anything of that name is looked for."""
        (tmp_path / "canary.py").write_text("raise SystemExit")
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({**GPT2, "architectures": ["canary.Model"]}))
        with pytest.raises(ArchitectureError, match=r"not 'canary\.Model'"):
            choose_architecture(tmp_path).build("meta")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (
                {"architectures": ["GPT2LMHeadModle"]},
                "no model class named 'GPT2LMHeadModle'.*GPT2LMHeadModel",
            ),
            ({"architectures": ["AutoConfig"]}, "no model class named 'AutoConfig'"),
            ({"architectures": ["os.system"]}, "a class of transformers, not 'os.system'"),
            ({"architectures": []}, "must name the model's class"),
            ({"architectures": None}, "must name the model's class"),
            (
                {"architectures": ["BertModel"], "model_type": "bertt"},
                "no model type 'bertt'. Did you mean 'bert'",
            ),
            ({"n_head": 3}, "can't be built: ValueError"),
        ],
    )
    def test_a_config_that_says_something_impossible_is_refused(self, tmp_path, change, reason):
        """Wrong names come with the nearest known."""
        (tmp_path / "config.json").write_text(json.dumps({**GPT2, **change}))
        with pytest.raises(ArchitectureError, match=reason):
            parse_arch(f"hf:{tmp_path}").build()


class TestLadder:
    def test_a_config_of_transformers_names_the_architecture(self, tmp_path):
        """A folder of transformers needs no --arch."""
        (tmp_path / "config.json").write_text(json.dumps(GPT2))
        found = choose_architecture(tmp_path)
        assert (found.kind, found.name) == ("transformers", "GPT2LMHeadModel")

    @pytest.mark.usefixtures("timm")
    def test_a_config_of_timm_names_the_architecture(self, tmp_path):
        """A folder of timm needs no --arch, and its input size counts."""
        (tmp_path / "config.json").write_text(json.dumps(TIMM))
        found = choose_architecture(tmp_path)
        assert (found.kind, found.name) == ("timm", "test_resnet")
        model = found.build()
        assert (model.num_classes, model.conv1[0].in_channels) == (3, 1)

    def test_a_folder_of_ours_names_its_own(self, tmp_path):
        """The manifest's architecture is that of the folder; where it names none, there is none."""
        save_model(
            Demanding(3), tmp_path / "one", arch="checkpoint_samples:Demanding", arch_args={"width": 3}
        )
        save_model(Demanding(3), tmp_path / "two")
        assert choose_architecture(tmp_path / "one") == Architecture(
            "callable", "checkpoint_samples:Demanding", {"width": 3}
        )
        assert architecture_in(tmp_path / "two") is None

    def test_arguments_alone_change_what_the_folder_names(self, tmp_path):
        """--arch-args without --arch apply to the architecture that the folder names."""
        (tmp_path / "config.json").write_text(json.dumps(GPT2))
        assert choose_architecture(tmp_path, None, {"n_layer": 1}).args["n_layer"] == 1

    def test_what_the_user_names_has_the_last_word(self, tmp_path):
        """--arch wins over a config."""
        (tmp_path / "config.json").write_text(json.dumps(GPT2))
        assert choose_architecture(tmp_path, "timm:resnet18").kind == "timm"

    def test_a_config_of_neither_is_refused_where_it_is_named(self, tmp_path):
        """hf:CONFIG must be a config of transformers or timm."""
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(ArchitectureError, match="no config of transformers or timm"):
            parse_arch(f"hf:{tmp_path}")

    @pytest.mark.parametrize("config", [None, {"hello": 1}])
    def test_nothing_is_guessed(self, tmp_path, config):
        """Where neither the user nor the folder names an architecture, that is an error that says how to."""
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        assert architecture_in(tmp_path) is None
        with pytest.raises(ArchitectureError, match="name it by --arch timm:NAME"):
            choose_architecture(tmp_path)

    def test_a_damaged_config_is_corrupt(self, tmp_path):
        """A config that is no JSON is damage, not ignorance."""
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(CorruptFileError, match=r"config\.json"):
            choose_architecture(tmp_path)


UNTRUSTED = [
    pytest.param("os:system", False, id="os.system"),
    pytest.param("builtins:eval", False, id="eval"),
    pytest.param("subprocess:Popen", False, id="a class of the standard library"),
    pytest.param("runpy:run_path", False, id="a function of the standard library"),
    pytest.param("torch:load", False, id="torch.load"),
    pytest.param("torch.hub:load", False, id="torch.hub.load"),
    pytest.param("bioconvert.checkpoint:revert_folder", False, id="a function of ours"),
    pytest.param("checkpoint_samples:Plain", True, id="a model class"),
    pytest.param("torch.nn:Identity", True, id="a model class of torch"),
    pytest.param("checkpoint_samples:make_demanding", True, id="a function of the user's"),
    pytest.param("torchvision.models:resnet18", True, id="an installed function that returns a model"),
]


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize(("name", "allowed"), UNTRUSTED)
def test_a_file_may_name_models_only(name, allowed):
    """What a manifest wants called is a model class, the user's function, or says that it makes a model."""
    value = Architecture("callable", name)
    if allowed:
        assert isinstance(value.build("meta", trusted=False), nn.Module)
    else:
        with pytest.raises(ArchitectureError, match="pass it as factory="):
            value.build(trusted=False)


def test_code_that_came_with_a_folder_is_not_even_imported(tmp_path, monkeypatch):
    """A manifest that names a module of its own folder is refused, though the working directory is there."""
    save_model(Plain(), tmp_path / "out", arch="came_along:Plain")
    (tmp_path / "out" / "came_along.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path / "out")
    with pytest.raises(
        ArchitectureError, match=r"whose code lies in .* itself; what comes with a checkpoint isn't"
    ):
        load_model(tmp_path / "out")


def test_a_function_whose_annotations_mean_nothing_is_not_called(monkeypatch):
    """An annotation that can't be resolved doesn't say that a model is made."""
    monkeypatch.setattr("bioconvert.checkpoint.architectures.callables._is_users", lambda function: False)
    with pytest.raises(ArchitectureError, match="pass it as factory="):
        Architecture("callable", "checkpoint_samples:make_unclear").build(trusted=False)


def test_an_absurdly_long_config_is_not_read(tmp_path):
    """The size of a config is bounded."""
    with (tmp_path / "config.json").open("wb") as handle:
        handle.truncate(17 << 20)
    with pytest.raises(UnsafeFileError, match="must be at most 16777216 bytes"):
        choose_architecture(tmp_path)


def test_building_does_not_swallow_what_a_constructor_says(monkeypatch):
    """The cause of a failed build is kept for a debugger."""

    def broken(self):
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(Plain, "__init__", broken)
    with pytest.raises(ArchitectureError, match=r"ZeroDivisionError: first line$") as caught:
        parse_arch("checkpoint_samples:Plain").build()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
