"""What an error says of which known model a checkpoint may be."""

import json
import subprocess
import sys
from importlib.util import find_spec

import make_known_models
import pytest
import torch
from torch import nn

from bioconvert.checkpoint import Checkpoint, import_torchvision, load_into
from bioconvert.checkpoint.architectures.fingerprints import Fingerprint, fingerprint
from bioconvert.checkpoint.architectures.guessing import known_models, looks_like
from bioconvert.checkpoint.architectures.torchvision_ops import import_with_torchvision
from bioconvert.core.errors import ArchitectureError

for library in ("torchvision", "timm", "transformers"):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed", allow_module_level=True)

models = import_torchvision().models
timm = import_with_torchvision("timm")
transformers = import_with_torchvision("transformers")


def _with_head(model, head):
    model.fc = head
    return model


def _inside():
    whole = nn.Module()
    whole.backbone, whole.head = models.mobilenet_v2(), nn.Linear(3, 3)
    return whole


def _gpt2():
    config = transformers.GPT2Config(n_layer=3, n_embd=16, n_head=2, bos_token_id=0, eos_token_id=0)
    return transformers.GPT2LMHeadModel(config)


GUESSES = [
    pytest.param(
        models.resnet18,
        "It looks like torchvision:resnet18 or timm:resnet18 (all 102 names and shapes agree); "
        "try --arch torchvision:resnet18",
        id="the very model",
    ),
    pytest.param(
        lambda: models.resnet50(num_classes=10),
        "It looks like torchvision:resnet50 or timm:resnet50 with 10 classes (all else agrees); "
        "try --arch torchvision:resnet50 --arch-args '{\"num_classes\": 10}'",
        id="another number of classes",
    ),
    pytest.param(
        lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0),
        "It looks like timm:vit_tiny_patch16_224 without its head (all else agrees); "
        "try --arch timm:vit_tiny_patch16_224 --arch-args '{\"num_classes\": 0}'",
        id="no head",
    ),
    pytest.param(
        lambda: _with_head(models.resnet18(), nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 2))),
        "It looks like torchvision:resnet18 or timm:resnet18 with another head (all names and shapes agree "
        "but for those that begin with fc.); --arch must name what builds it with that head",
        id="a head of one's own",
    ),
    pytest.param(
        _inside,
        "What lies under 'backbone' looks like torchvision:mobilenet_v2: --arch must name the class or "
        "function that builds the whole model, as package.module:callable",
        id="a part of one's own model",
    ),
    pytest.param(
        lambda: timm.create_model("vit_tiny_patch16_224", embed_dim=96),
        "The names are those of timm:vit_tiny_patch16_224 or timm:vit_small_patch16_224 or",
        id="other sizes",
    ),
    pytest.param(
        _gpt2,
        "The names are those of transformers' GPT2LMHeadModel; put the model's config.json beside the "
        "weights, or try --arch hf:CONFIG with the path of one",
        id="transformers",
    ),
    pytest.param(lambda: nn.Linear(3, 3), "", id="nothing known"),
    pytest.param(nn.Identity, "", id="no tensors"),
]


def shapes_of(make):
    """The names and shapes of a model's tensors."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in make().state_dict().items()}


@pytest.mark.parametrize(("make", "expected"), GUESSES)
def test_guess_says_how_much_agrees_and_what_to_try(make, expected):
    """Each degree of agreement has its sentence, down to none."""
    found = looks_like(shapes_of(make))
    assert found.startswith(expected)
    assert bool(found) is bool(expected)


def test_counters_do_not_matter():
    """Old files without the counters of batch normalization are known too."""
    shapes = shapes_of(models.resnet18)
    without = {name: shape for name, shape in shapes.items() if "num_batches" not in name}
    assert looks_like(without) == looks_like(shapes)


def test_guessing_needs_no_library():
    """Neither torch nor a library of models is imported."""
    code = (
        "import sys; from bioconvert.checkpoint.architectures.guessing import looks_like; "
        "looks_like({'a.weight': (1,)}); "
        "print({'torch', 'timm', 'torchvision', 'transformers'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_architecture_that_does_not_fit_is_contradicted(tmp_path):
    """Where the named architecture doesn't fit, the error names the better guess, which isn't taken."""
    with torch.device("meta"):
        tensors = {name: torch.zeros(value.shape) for name, value in models.resnet34().state_dict().items()}
    with pytest.raises(
        ArchitectureError, match=r"names are unknown to the model.*try --arch torchvision:resnet34"
    ):
        load_into(models.resnet18(), Checkpoint(tensors, tmp_path / "x.pt", "torch zip"))


class TestTable:
    @pytest.mark.parametrize("name", ["torchvision:vit_b_16", "timm:convnext_atto"])
    def test_rows_are_what_the_libraries_build(self, name):
        """A row written anew is the row in the table."""
        row = make_known_models.row_of(*name.split(":"))
        assert Fingerprint.of_row(row) in known_models().models

    def test_models_are_named_once(self):
        """No model has two rows."""
        names = [each.model for each in known_models().models]
        assert len(names) == len(set(names)) > 200

    def test_row_is_read_back(self):
        """A fingerprint written as JSON is the same when read."""
        made = fingerprint("timm:x", {"body.weight": [3], "fc.bias": [2]}, heads=["fc."], classes="fc.bias")
        assert Fingerprint.of_row(json.loads(json.dumps(made.row()))) == made
