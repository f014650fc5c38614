"""Real models with dynamic layers: the same output, a gradient for every part, saved, loaded and reverted."""

import copy

import pytest
import torch
from small_models import seeded
from torch import nn

import bioconvert as bc
from bioconvert.checkpoint.architectures.torchvision_ops import import_torchvision

PICTURES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CONTEXT = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))


class UNet(nn.Module):
    """Two scales down and up again, with a join of both paths."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.GELU())
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.join = nn.Conv2d(16, 8, 3, padding=1, padding_mode="reflect")
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        up = self.up(self.middle(self.down(x)))
        return self.head(torch.relu(self.join(torch.cat((x, up), 1))))


def resnet18():
    import_torchvision()
    import torchvision

    return torchvision.models.resnet18(num_classes=10)


def convnext():
    import_torchvision()
    import timm

    return timm.create_model("convnext_atto", num_classes=10, depths=(1, 1, 2, 1))


MODELS = {
    "resnet18": (resnet18, "layer1", "layer2.**"),
    "convnext": (convnext, "stem", "stages.2.**"),
    "unet": (UNet, "down", "*"),
}
CONTEXTS = ["self", "model_input", "node", "argument"]
KINDS = ["Conv2d", "ConvTranspose2d", "Linear"]


def rules(model, context, *, not_path=(), **options):
    _, node, path = MODELS[model]
    source = f"node:{node}" if context == "node" else context
    return {
        "version": 1,
        "rules": [
            {
                "name": kind,
                "match": {"type": kind, "path": path, "not": ["stem", "head", *not_path]},
                "replace": {"with": f"Dynamic{kind}", "context": source, **options},
                "optional": True,
            }
            for kind in KINDS
        ],
    }


def made(model):
    return seeded(MODELS[model][0]).eval()


def given(context):
    return {"context": CONTEXT} if context == "argument" else {}


def added(model):
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[2].startswith(("gate", "composer_", "context_"))
    }


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_gives_the_same_until_its_gates_open(name, context):
    """Bit for bit the original's output in evaluation, and another one as soon as the gates have moved."""
    model = made(name)
    with torch.no_grad():
        before = model(PICTURES)
        report = bc.convert(model, rules(name, context), example_inputs=(PICTURES,))
        assert report is model
        assert torch.equal(model(PICTURES, **given(context)), before)
        for parameter_name, parameter in added(model).items():
            if parameter_name.endswith("gate"):
                parameter.fill_(0.5)
        assert not torch.allclose(model(PICTURES, **given(context)), before)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", MODELS)
def test_every_part_learns_within_two_steps(name, context):
    """The gate has a gradient at the first step, and all that makes the weights at the second."""
    model = bc.convert(made(name), rules(name, context)).train()
    assert len(added(model)) > 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(PICTURES, **given(context)).square().mean().backward()
        optimizer.step()
    idle = [n for n, p in added(model).items() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_computes_the_same_after_loading(name, context, tmp_path):
    """The wiring is saved with the weights, and reverting the loaded model gives the original."""
    original = made(name)
    model = bc.convert(copy.deepcopy(original), rules(name, context))
    with torch.no_grad():
        for parameter in added(model).values():
            parameter.add_(0.1)
        expected = model(PICTURES, **given(context))
        bc.save(model, tmp_path / "out")
        loaded = bc.load(tmp_path / "out", factory=MODELS[name][0]).eval()
        assert torch.equal(loaded(PICTURES, **given(context)), expected)
        bc.revert(loaded)
        assert torch.equal(loaded(PICTURES), original(PICTURES))
    assert not added(loaded)
    assert not loaded._forward_pre_hooks
    assert not loaded._forward_hooks


@pytest.mark.parametrize("name", MODELS)
def test_the_built_in_rules_keep_the_output(name):
    """`dynamic` converts hidden layers, and the output stays bit for bit."""
    model = made(name)
    with torch.no_grad():
        before = model(PICTURES)
        plan = bc.plan(model, "dynamic", example_inputs=(PICTURES,))
        report = plan.apply()
        assert torch.equal(model(PICTURES), before)
    assert len(report.applied) == len(plan.applied) >= 3
    assert type(next(m for m in model.modules() if isinstance(m, nn.Conv2d))) is nn.Conv2d


@pytest.mark.parametrize("context", ["model_input", "node"])
def test_an_encoder_in_the_model_is_shared_by_its_layers(context):
    """One encoder for all layers with a source, known to the optimizer, trained, saved and taken back."""
    model = made("unet")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    bc.convert(model, rules("unet", context, encoder="model"), optimizer=optimizer)
    own = [name for name, _ in model.named_parameters(recurse=False)]
    assert len(own) == 2
    assert not any(name.endswith("context_weight") and "." in name for name in added(model))
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        model(PICTURES).square().mean().backward()
        optimizer.step()
    assert all(model.get_parameter(name).grad.any() for name in own)
    bc.revert(model)
    assert not list(model.named_parameters(recurse=False))


@pytest.mark.parametrize("composer", ["delta", "mobius", "mixture"])
@pytest.mark.parametrize("context", ["self", "argument"])
def test_every_composer_can_be_had_by_a_rule(composer, context):
    """Each keeps the output, and learns within two steps."""
    model = made("unet")
    before = model(PICTURES)
    bc.convert(
        model, rules("unet", context, composer=composer, context_length=16), example_inputs=(PICTURES,)
    )
    assert torch.equal(model(PICTURES, **given(context)), before)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model(PICTURES, **given(context)).square().mean().backward()
        optimizer.step()
    assert not [n for n, p in added(model).items() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"composer": "delta", "kernels": 4}, "composer 'delta' has no option 'kernels'"),
        ({"composer": "mixture", "rank": 4}, "composer 'mixture' has no option 'rank'"),
    ],
)
def test_an_option_of_another_composer_is_an_error(options, message):
    """It isn't silently left out."""
    with pytest.raises(ValueError, match=message):
        bc.plan(made("unet"), rules("unet", "self", **options))


@pytest.mark.parametrize(
    ("context", "encoder", "reason"),
    [
        ("self", "model", "the layer encodes its own input"),
        ("model_input", "none", "`encoder: none` is for `context: argument`"),
    ],
)
def test_encoders_that_make_no_sense_are_refused(context, encoder, reason):
    """The plan says which ones do."""
    plan = bc.plan(made("unet"), rules("unet", context, encoder=encoder))
    assert not plan.applied
    assert all(reason in skipped.reason for skipped in plan.skipped)


def test_gates_are_not_decayed():
    """The optimizer takes gates in without weight decay, and matrices with that of the layer."""
    model = made("unet")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    bc.convert(model, rules("unet", "self"), optimizer=optimizer)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in added(model).items():
        assert decay[id(parameter)] == (0.1 if parameter.ndim > 1 else 0.0), name
