"""The architecture of a model in memory is found where it rebuilds the very same, and only there."""

import json

import pytest
import torch
from checkpoint_samples import (
    Acting,
    Apart,
    Bound,
    Demanding,
    Hidden,
    Meddling,
    Mode,
    Moody,
    Plain,
    Shared,
    Tied,
)
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import __main__
from bioconvert.checkpoint import Architecture, find_architecture
from bioconvert.checkpoint.architectures.structure import difference


def gpt2(transformers, **options):
    """Give a small GPT-2."""
    small = {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 32, "n_positions": 16, "bos_token_id": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**small, eos_token_id=0, **options))


def found_for(model):
    """Find the architecture, through JSON as a manifest holds it, and check that it rebuilds the model."""
    found = find_architecture(model)
    if found is None:
        return None
    value = Architecture.from_dict(json.loads(json.dumps(found.to_dict())))
    assert difference(model, value.build("cpu")) is None
    return value


class TestTorchvision:
    @pytest.mark.parametrize(
        ("name", "args"),
        [
            ("resnet18", {"num_classes": 7}),
            ("mobilenet_v3_small", {"num_classes": 4}),
            ("vgg11_bn", {"num_classes": 1000}),
            ("swin_t", {"num_classes": 3}),
            ("lraspp_mobilenet_v3_large", {"num_classes": 5}),
        ],
    )
    def test_builders_are_found_by_what_they_build(self, torchvision, name, args):
        """The builder and its number of classes are found."""
        build = torchvision.models.get_model_builder(name)
        without = {"weights_backbone": None} if name.startswith("lraspp") else {}
        with torch.device("meta"):
            model = build(**args, **without)
        found = find_architecture(model)
        assert (found.kind, found.name, found.args) == ("torchvision", name, args)

    def test_an_exchanged_head_is_found(self, torchvision):
        """A fine-tuned network with a head of its own is the builder's with as many classes."""
        with torch.device("meta"):
            model = torchvision.models.mobilenet_v2()
            model.classifier[1] = nn.Linear(1280, 5)
        assert find_architecture(model).args == {"num_classes": 5}

    def test_another_change_is_not_guessed_over(self, torchvision):
        """A network that no builder builds has no architecture."""
        with torch.device("meta"):
            model = torchvision.models.mobilenet_v2()
            model.features[3] = nn.Identity()
        assert find_architecture(model) is None


@pytest.mark.usefixtures("timm")
class TestTimm:
    @pytest.mark.parametrize(
        ("name", "args"),
        [
            ("test_resnet", {}),
            ("test_resnet", {"num_classes": 3, "in_chans": 1}),
            ("test_vit", {"img_size": 96, "num_classes": 2}),
            ("test_convnext", {"drop_path_rate": 0.1}),
        ],
    )
    def test_arguments_are_found(self, timm, name, args):
        """Name and arguments are those that the model was made with."""
        found = found_for(timm.create_model(name, **args))
        assert found.kind == "timm"
        assert found.name.partition(".")[0] == name
        assert found.args == args

    def test_an_exchanged_head_is_found(self, timm):
        """reset_classifier is seen through."""
        model = timm.create_model("test_resnet")
        model.reset_classifier(7)
        assert found_for(model).args["num_classes"] == 7

    def test_arguments_are_read_off_a_model_that_does_not_note_them(self, timm):
        """Without timm's own note, classes and channels are read off the layers."""
        model = timm.create_model("test_resnet", num_classes=3, in_chans=2)
        vars(model).pop("_model_args", None)
        assert found_for(model).args == {"num_classes": 3, "in_chans": 2}


class TestTransformers:
    def test_the_config_is_the_architecture(self, transformers):
        """Class and configuration are recorded."""
        found = found_for(gpt2(transformers))
        assert (found.kind, found.name) == ("transformers", "GPT2LMHeadModel")
        assert found.args["n_layer"] == 2

    def test_a_model_read_from_disk_is_found_too(self, transformers, tmp_path):
        """What from_pretrained notes on a model doesn't matter."""
        gpt2(transformers).save_pretrained(tmp_path)
        model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path)
        assert found_for(model).name == "GPT2LMHeadModel"

    def test_the_kind_of_attention_is_kept(self, transformers):
        """A model that computes its attention eagerly does so when it is built again."""
        model = gpt2(transformers, attn_implementation="eager")
        assert found_for(model).build().config._attn_implementation == "eager"

    @pytest.mark.usefixtures("transformers")
    def test_a_class_of_the_users_own_is_found_by_its_full_name(self):
        """A class that transformers doesn't have is imported from where it is."""
        from transformers_samples import OwnConfig, OwnModel

        found = found_for(OwnModel(OwnConfig(width=5)))
        assert found.name == "transformers_samples.OwnModel"
        assert found.build(trusted=False).layer.in_features == 5

    @pytest.mark.usefixtures("transformers")
    def test_a_pretrained_backbone_is_not_fetched(self):
        """A configuration that asks for a backbone's weights is built without them."""
        from transformers_samples import OwnConfig, OwnModel

        value = find_architecture(OwnModel(OwnConfig(use_pretrained_backbone=True)))
        assert value.args["use_pretrained_backbone"]
        assert not value.build().config.use_pretrained_backbone

    def test_a_model_that_was_changed_by_hand_is_not_guessed_over(self, transformers):
        """A layer that the config doesn't know of makes the architecture unknown."""
        model = gpt2(transformers)
        model.transformer.drop = nn.Identity()
        assert find_architecture(model) is None


CLASSES = [
    pytest.param(Plain, "checkpoint_samples:Plain", id="own class"),
    pytest.param(Tied, "checkpoint_samples:Tied", id="with ties"),
    pytest.param(Shared, "checkpoint_samples:Shared", id="with a shared layer"),
    pytest.param(Meddling, "checkpoint_samples:Meddling", id="needs values to be built"),
    pytest.param(lambda: Plain().half(), "checkpoint_samples:Plain", id="in half precision"),
    pytest.param(lambda: Plain().eval(), "checkpoint_samples:Plain", id="in evaluation"),
    pytest.param(Acting, "checkpoint_samples:Acting", id="function as an attribute"),
    pytest.param(lambda: Acting(torch.tanh), None, id="another function"),
    pytest.param(lambda: Acting(F.gelu), None, id="a builtin function"),
    pytest.param(lambda: Apart(shared=False), "checkpoint_samples:Apart", id="two layers"),
    pytest.param(lambda: Apart(shared=True), None, id="one layer in place of two"),
    pytest.param(lambda: Moody(fails=False), None, id="fails to be built"),
    pytest.param(Bound, "checkpoint_samples:Bound", id="values in functions"),
    pytest.param(lambda: Bound(closed=0.3), None, id="value in a closure"),
    pytest.param(lambda: Bound(default=0.3), None, id="value of a default"),
    pytest.param(lambda: Bound(partly=0.3), None, id="value in a partial function"),
    pytest.param(lambda: Bound(mode=Mode.MAX), None, id="member of an enumeration"),
    pytest.param(lambda: Demanding(3), None, id="needs an argument"),
    pytest.param(lambda: Plain(width=5), None, id="other argument, same layers"),
    pytest.param(lambda: Hidden(2.0), None, id="other value in the forward"),
    pytest.param(lambda: nn.Sequential(nn.Linear(2, 2)), None, id="container"),
    pytest.param(lambda: nn.Linear(2, 2), None, id="layer"),
]


@pytest.mark.parametrize(("make", "name"), CLASSES)
def test_an_importable_class_without_arguments_is_found(make, name):
    """A class that builds the same model without arguments is the architecture."""
    found = found_for(make())
    assert (None if found is None else found.name) == name


def _changed(change):
    model = Plain()
    change(model)
    return model


def _share(model):
    model.other = model.first


CHANGES = [
    pytest.param(lambda m: setattr(m.norm, "eps", 0.1), id="option of a layer"),
    pytest.param(lambda m: setattr(m, "last", nn.Linear(8, 3)), id="shape"),
    pytest.param(lambda m: setattr(m, "last", nn.Linear(8, 2, bias=False)), id="no bias"),
    pytest.param(lambda m: setattr(m, "more", nn.Identity()), id="additional layer"),
    pytest.param(_share, id="layer under a second name"),
    pytest.param(lambda m: m.register_buffer("more", torch.ones(1)), id="additional buffer"),
    pytest.param(lambda m: m.register_buffer("mask", torch.ones(8)), id="buffer made persistent"),
    pytest.param(
        lambda m: m.register_buffer("mask", torch.ones(7), persistent=False), id="shape of a hidden buffer"
    ),
    pytest.param(lambda m: setattr(m, "forward", lambda x: x), id="forward on the instance"),
    pytest.param(lambda m: setattr(m.first, "forward", lambda x: x), id="forward on a layer"),
    pytest.param(lambda m: parametrizations.weight_norm(m.first), id="parametrization"),
    pytest.param(lambda m: setattr(m, "width", "4"), id="type of an attribute"),
    pytest.param(lambda m: delattr(m, "width"), id="missing attribute"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_differs_in_anything_is_not_guessed_over(change):
    """Any difference from what the class builds makes the architecture unknown."""
    assert find_architecture(_changed(change)) is None


def test_an_attribute_that_no_class_knows_does_not_matter():
    """A note of the user's own on a model changes nothing."""
    assert find_architecture(_changed(lambda m: setattr(m, "note", "mine"))) is not None


class TestUnreachableClasses:
    def test_a_local_class_is_not_importable(self):
        """A class inside a function can't be found again."""

        class Local(nn.Module):
            pass

        assert find_architecture(Local()) is None

    def test_a_class_of_the_main_module_is_not_importable(self, monkeypatch):
        """A class of a script is in no module that another script could import."""
        monkeypatch.setattr(Plain, "__module__", "__main__")
        monkeypatch.setattr(__main__, "Plain", Plain, raising=False)
        assert find_architecture(Plain()) is None

    def test_looking_never_fails(self):
        """A model that fails when it is looked at has no architecture."""

        class Awkward(nn.Linear):
            @property
            def pretrained_cfg(self):
                raise RuntimeError("don't look")

        assert find_architecture(Awkward(2, 2)) is None


def test_looking_leaves_the_random_stream_alone():
    """Building candidates draws no number from the caller's stream."""
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    find_architecture(Meddling())
    model = Plain()
    torch.manual_seed(0)
    find_architecture(model)
    assert torch.equal(torch.rand(1), expected)
