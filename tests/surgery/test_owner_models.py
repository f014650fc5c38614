"""Whole models whose layers are owned: attention, Transformers, Swin and vision transformers."""

import pytest
import torch
from small_models import seeded
from torch import nn
from torch.utils.checkpoint import checkpoint

import bioconvert as bc
from bioconvert.layers import YatLinear

SEQUENCE = torch.linspace(-1, 1, 2 * 5 * 8).view(2, 5, 8)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


def attention():
    return nn.MultiheadAttention(8, 2, batch_first=True)


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=True)


def norm_first():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", norm_first=True)
    return nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)


def transformer():
    return nn.Transformer(8, 2, 2, 2, 16, dropout=0.0, batch_first=True)


def vision_transformer():
    from torchvision.models.vision_transformer import VisionTransformer

    model = VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=3)
    nn.init.normal_(model.heads.head.weight)  # torchvision's is zero
    return model


def swin():
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], stochastic_depth_prob=0.0, num_classes=3)


def swin_v2():
    from torchvision.models import swin_transformer as swin

    parts = {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2}
    sizes = ([4, 4], 8, [1, 1], [2, 2], [2, 2])
    return swin.SwinTransformer(*sizes, stochastic_depth_prob=0.0, num_classes=3, **parts)


MODELS = [
    pytest.param(attention, (SEQUENCE, SEQUENCE, SEQUENCE), id="attention"),
    pytest.param(encoder, (SEQUENCE,), id="encoder"),
    pytest.param(norm_first, (SEQUENCE,), id="encoder, norm first"),
    pytest.param(transformer, (SEQUENCE, SEQUENCE.flip(1)), id="Transformer"),
    pytest.param(vision_transformer, (IMAGES,), id="vision transformer"),
    pytest.param(swin, (IMAGES,), id="swin"),
    pytest.param(swin_v2, (IMAGES,), id="swin v2"),
]


def outputs(model, inputs, *, training, grad):
    with torch.set_grad_enabled(grad):
        output = model.train(training)(*inputs)
    return output[0] if isinstance(output, tuple) else output


def state(model):
    return [type(m) for m in model.modules()], list(model.state_dict())


def linears(model):
    return [m for m in model.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize(("make", "inputs"), MODELS)
class TestEveryModelWithOwners:
    @pytest.mark.parametrize("data", [False, True], ids=["plain", "with inputs"])
    def test_every_layer_is_converted_and_runs_in_every_mode(self, torchvision, make, inputs, data):
        """Training, evaluation and evaluation without gradients agree, and no layer is left out."""
        model, ran = seeded(make), []
        bc.convert(model, "yat-all", example_inputs=inputs if data else None)
        layers = linears(model)
        assert all(isinstance(layer, YatLinear) for layer in layers)
        expected = outputs(model, inputs, training=True, grad=True)
        for layer in layers:
            # What is called may be a stand-in with a computed bias, which has the layer's hooks.
            layer.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
        for grad in (True, False):
            ran.clear()
            assert torch.allclose(outputs(model, inputs, training=False, grad=grad), expected, atol=1e-4)
            assert set(ran) == set(layers)

    def test_revert_is_exact(self, torchvision, make, inputs):
        """The fused paths are back: outputs are those of the original to the bit, in every mode."""
        original, model = seeded(make), seeded(make)
        bc.revert(bc.convert(model, "yat-all", example_inputs=inputs))
        assert state(model) == state(original)
        for training, grad in ((True, True), (False, True), (False, False)):
            one, other = (outputs(m, inputs, training=training, grad=grad) for m in (original, model))
            assert torch.equal(one, other)

    @pytest.mark.parametrize("which", ["first", "last"])
    def test_one_layer_alone(self, torchvision, make, inputs, which):
        """Whichever single layer a rule names, it counts in every mode."""
        names = [name for name, m in make().named_modules() if isinstance(m, nn.Linear)]
        path = names[0 if which == "first" else -1]
        rule = {"match": {"path": path}, "replace": {"with": "YatLinear"}}
        model = bc.convert(seeded(make), {"version": 1, "rules": [rule]})
        expected = outputs(model, inputs, training=True, grad=True)
        assert not torch.allclose(expected, outputs(seeded(make), inputs, training=True, grad=True))
        for grad in (True, False):
            assert torch.allclose(outputs(model, inputs, training=False, grad=grad), expected, atol=1e-4)

    def test_files(self, torchvision, make, inputs, tmp_path):
        """Saved and loaded, the model computes the same, owners included."""
        model = bc.convert(seeded(make), "yat-all")
        bc.save(model, tmp_path / "out")
        loaded = bc.load(tmp_path / "out", factory=make)
        assert state(loaded)[1] == state(model)[1]
        for grad in (True, False):
            one, other = (outputs(m, inputs, training=False, grad=grad) for m in (model, loaded))
            assert torch.equal(one, other)

    def test_gradient_checkpointing(self, torchvision, make, inputs):
        """Running the forward twice gives the same gradients."""
        model = bc.convert(seeded(make), "yat-all")
        outputs(model, inputs, training=False, grad=True).square().sum().backward()
        plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        assert {name for name, _ in model.named_parameters()} == plain.keys()
        model.zero_grad()
        again = checkpoint(model, *inputs, use_reentrant=False)
        (again[0] if isinstance(again, tuple) else again).square().sum().backward()
        named = dict(model.named_parameters())
        assert all(torch.allclose(named[name].grad, plain[name], rtol=1e-4, atol=1e-5) for name in plain)


@pytest.mark.parametrize(
    "make", [lambda: nn.LSTM(4, 6, proj_size=3), lambda: nn.GRU(4, 6), lambda: nn.LSTMCell(4, 6)]
)
@pytest.mark.parametrize("named", [{"type": "recurrent"}, {"path": "0"}])
def test_a_recurrent_layer_is_left_with_a_reason(make, named):
    """No Yat layer stands for it: the rule is skipped and the model is as it was."""
    model = nn.Sequential(make())
    keys = list(model.state_dict())
    report = bc.plan(
        model, {"version": 1, "rules": [{"match": named, "replace": {"with": "YatLinear"}}]}
    ).apply()
    assert report.applied == ()
    assert "YatLinear can't replace a" in report.skipped[0].reason
    assert type(model[0]) is type(make())
    assert list(model.state_dict()) == keys
