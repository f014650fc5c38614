"""Everything registered, and models of other libraries, stream into the files of a conversion in memory."""

import pytest
import torch
from both_ways import check_same
from natural_layers import Natural
from torch import nn

from bioconvert.core.registry import mechanisms, replacements

REPLACEMENTS = [
    (name, of.removeprefix("torch.nn."))
    for name in replacements.names()
    for of in replacements.entries(name)
    if of.startswith("torch.nn.")
]
MECHANISMS = {
    **{name: {name: {}} for name in mechanisms.names()},
    "split signs": {"dale": {"signs": "fresh"}},
    "compact rates": {"fuzzy_lr": {"storage": "compact", "distribution": "weight_adaptive"}},
}


def rules_of(**rule):
    """Give a set of one rule."""
    return {"version": 1, "rules": [rule]}


@pytest.mark.parametrize(("name", "kind"), REPLACEMENTS, ids=[name for name, _ in REPLACEMENTS])
def test_replacements(name, kind, tmp_path):
    """Each registered replacement of a layer of torch."""
    torch.manual_seed(0)
    rules = rules_of(match={"path": "layer"}, replace={"with": name})
    report = check_same(tmp_path, Natural(kind), rules, "natural_layers:Natural", {"kind": kind})
    assert report.to_dict()["applied"]


@pytest.mark.parametrize("attached", MECHANISMS.values(), ids=MECHANISMS)
def test_mechanisms(attached, tmp_path):
    """Each registered mechanism, on whatever takes it."""
    torch.manual_seed(0)
    rules = rules_of(match={"path": "*.*"}, attach=[attached])
    report = check_same(tmp_path, Natural("Linear"), rules, "natural_layers:Natural", {"kind": "Linear"})
    assert report.to_dict()["applied"]


class Tied(nn.Module):
    """A parameter that is also a buffer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(40, 40)
        self.register_buffer("weight", self.layer.weight)


class Bare(nn.Sequential):
    """A model without tensors."""

    def __init__(self):
        super().__init__(nn.ReLU())


class Mixed(nn.Module):
    """Tensors without elements, dimensions or a gradient, of integers, complex numbers and truth values."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(40, 40)
        self.layer.bias.requires_grad_(False)
        self.none = nn.Parameter(torch.zeros(0))
        self.one = nn.Parameter(torch.tensor(2.5))
        self.whole = nn.Parameter(torch.arange(4000), requires_grad=False)
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("waves", torch.ones(40, 40, dtype=torch.complex64))
        self.register_buffer("brief", torch.ones(40, 80, dtype=torch.bfloat16))
        self.register_buffer("mask", torch.ones(5000, dtype=torch.bool))
        self.register_buffer("same", torch.arange(40.0).expand(60, 40))
        self.held = [self.layer.weight, self.mask]
        self.other = nn.utils.parametrizations.weight_norm(nn.Linear(40, 40))


@pytest.mark.parametrize("model", [Tied, Bare, Mixed])
@pytest.mark.parametrize("rules", ["yat-all", "plastic"])
def test_unusual_tensors(model, rules, tmp_path):
    """Whatever a model holds its tensors by."""
    torch.manual_seed(0)
    check_same(tmp_path, model(), rules, f"test_streamed_parts:{model.__name__}")


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["yat-all", "plastic", "dynamic", "continual"])
@pytest.mark.parametrize(
    ("arch", "arguments"),
    [
        ("torchvision:mobilenet_v3_small", {}),
        ("torchvision:resnet18", {}),
        ("timm:vit_tiny_patch16_224", {}),
        ("timm:convnext_atto", {}),
        ("library_models:gpt2", {}),
        ("library_models:bert", {}),
        ("library_models:t5", {}),
        ("library_models:llama", {}),
    ],
)
def test_models_of_other_libraries(arch, arguments, rules, tmp_path):
    """Models of torchvision, timm and transformers with random weights."""
    from bioconvert.checkpoint import parse_arch

    if arch.startswith(("timm", "library")):
        pytest.importorskip("timm" if arch.startswith("timm") else "transformers")
    torch.manual_seed(0)
    model = parse_arch(arch, arguments).build()
    check_same(tmp_path, model, rules, arch, arguments)
