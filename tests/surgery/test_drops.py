"""Leaving out the activation behind a layer: where the rule says, and nowhere else."""

import copy
import inspect
import pickle

import pytest
import torch
from small_models import Cnn, Mlp, Optional, seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.layers import YatConv2d, YatLinear

IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
ROWS = torch.linspace(-1, 1, 12).view(3, 4)


def rules(*links, layer="YatConv2d", family="conv", **match):
    """Give a rule set that drops what follows."""
    rule = {
        "match": {"type": family, "followed_by": list(links), **match},
        "replace": {"with": layer, "activation": "drop"},
    }
    return {"version": 1, "rules": [rule]}


LINEAR = rules("ReLU", layer="YatLinear", family="linear")


def test_a_shared_module_goes_from_one_call_only():
    """The ReLU behind conv1's norm is gone; that behind the sum and the stem's, not matched, stay."""
    model = seeded(Cnn).eval()
    bc.convert(model, rules("BatchNorm2d", "ReLU"))
    assert type(model.relu) is nn.ReLU
    assert isinstance(model.conv1, YatConv2d)
    assert not isinstance(model.stem, YatConv2d)
    x = F.relu(model.stem(IMAGES))
    expected = model.fc(F.relu(x + model.conv2(model.bn1(model.conv1(x)))).mean((2, 3)))
    assert torch.equal(model(IMAGES), expected)


def test_a_module_whose_every_call_goes_changes_its_class():
    """No forward is rewritten where the activation itself can give its input back."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    relu = model[2]
    bc.convert(model, rules("BatchNorm2d?", "ReLU"))
    assert model[2] is relu
    assert isinstance(relu, nn.ReLU)
    assert torch.equal(relu(-IMAGES), -IMAGES)
    assert type(model) is nn.Sequential
    assert type(bc.revert(model)[2]) is nn.ReLU


class Functional(nn.Module):
    """Activations in each of the ways that a forward may write them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Linear(4, 4) for _ in range(5))

    def forward(self, x):
        """Use every spelling of relu."""
        x = F.relu(self.a(x))
        x = torch.relu(self.b(x))
        x = self.c(x).relu()
        x = F.relu(self.d(x), inplace=True)
        return F.relu(x + self.e(x))


def test_functions_and_methods_go():
    """Each spelling of relu behind a Linear is left out; the one behind the sum stays."""
    model = seeded(Functional)
    report = bc.plan(model, LINEAR).apply()
    assert [entry.path for entry in report.applied] == ["a", "b", "c", "d"]
    assert "followed by add" in report.skipped[0].reason
    x = model.d(model.c(model.b(model.a(ROWS))))
    assert torch.equal(model(ROWS), F.relu(x + model.e(x)))


class TestARewrittenContainer:
    def test_keeps_name_signature_and_relations(self):
        """To everyone who asks, the container is still of the user's class."""
        model = bc.convert(Optional(), LINEAR)
        assert isinstance(model, Optional)
        assert type(model).__name__ == "Optional"
        assert inspect.signature(model.forward) == inspect.signature(Optional().forward)

    def test_flags_and_arguments_are_never_baked_in(self):
        """Train flag, attributes and optional arguments keep their effect after the rewrite."""
        model = bc.convert(seeded(Optional), LINEAR)
        inner = model.fc(ROWS)
        mask = torch.tensor([0.0, 1.0, 0.0, 1.0])
        model.eval()
        assert torch.equal(model(ROWS), inner * 2)
        assert torch.equal(model(ROWS, mask), inner * mask * 2)
        assert torch.equal(model(ROWS, mask=mask, double=True), (inner * mask + inner * mask) * 2)
        model.scale = 3.0
        assert torch.equal(model(ROWS), inner * 3)
        model.train()
        torch.manual_seed(0)
        dropped = model(ROWS)
        torch.manual_seed(0)
        assert torch.equal(dropped, F.dropout(inner, 0.5) * 3)

    def test_wrong_arguments_fail_as_before(self):
        """A call that the original would refuse is refused."""
        model = bc.convert(Optional(), LINEAR)
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
            model()
        with pytest.raises(TypeError, match="unexpected keyword argument 'masc'"):
            model(ROWS, masc=None)

    def test_hooks_fire(self):
        """Hooks of the container and of its children are called as before."""
        model = Optional()
        fired = []
        model.register_forward_hook(lambda *_: fired.append("model"))
        model.fc.register_forward_hook(lambda *_: fired.append("fc"))
        bc.convert(model, LINEAR)(ROWS)
        assert fired == ["fc", "model"]

    def test_copies(self):
        """deepcopy and pickle rebuild the rewritten forward, again and again."""
        model = bc.convert(seeded(Optional), LINEAR).eval()
        expected = model(ROWS)
        twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        assert torch.equal(twin(ROWS), expected)
        assert type(bc.revert(twin)) is Optional
        assert torch.equal(model(ROWS), expected)

    def test_compiles_without_a_graph_break(self):
        """`torch.compile(fullgraph=True)` takes the rewritten forward, in training and evaluation."""
        model = bc.convert(seeded(Optional), LINEAR).eval()
        expected = model(ROWS)
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert torch.allclose(compiled(ROWS), expected)

    def test_exports(self):
        """`torch.export` takes it too."""
        model = bc.convert(seeded(Optional), LINEAR).eval()
        exported = torch.export.export(model, (ROWS,)).module()
        assert torch.allclose(exported(ROWS), model(ROWS))

    def test_later_tracing_by_the_user(self):
        """A user's own `symbolic_trace` of the converted model works."""
        model = bc.convert(seeded(Functional), LINEAR)
        traced = torch.fx.symbolic_trace(model)
        assert torch.allclose(traced(ROWS), model(ROWS))


def test_an_output_that_goes_elsewhere_too_is_left_alone():
    """A layer whose output feeds two consumers keeps its activation, with the reason."""

    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            y = self.fc(x)
            return F.relu(y) + y

    plan = bc.plan(Fork(), LINEAR)
    assert plan.applied == ()
    assert "goes to 2 places (relu, add)" in plan.skipped[0].reason


def test_optional_links():
    """`BatchNorm2d?` may be there or not, and an identity in between is looked through."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Identity(), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
    )
    report = bc.plan(model, rules("BatchNorm2d?", "ReLU")).apply()
    assert [entry.path for entry in report.applied] == ["0", "3"]
    x = model[3](model[0](IMAGES))
    assert torch.equal(model(IMAGES), model[4](x))


def test_the_end_of_the_model_is_no_activation():
    """Where nothing follows, the reason says so."""
    plan = bc.plan(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3))), rules("ReLU"))
    assert "followed by the model's end" in plan.skipped[0].reason


def test_without_drop_the_activation_stays():
    """`followed_by` selects; `activation: keep` is the default."""
    model = seeded(Mlp)
    rule = {"match": {"type": "linear", "followed_by": ["GELU"]}, "replace": {"with": "YatLinear"}}
    bc.convert(model, {"version": 1, "rules": [rule]})
    assert isinstance(model.fc2, YatLinear)
    assert type(model.fc1) is nn.Linear
    assert type(model.act) is nn.GELU


class TestResnet:
    """Conv–BN–ReLU in torchvision's resnet18, whose blocks call one ReLU module twice."""

    @pytest.fixture
    def resnet(self, torchvision):
        return seeded(lambda: torchvision.models.resnet18(num_classes=4)).eval()

    def test_activations_are_gone_where_the_rule_says_and_nowhere_else(self, resnet):
        """Each block's first ReLU call goes, its second stays; the stem's goes with its module."""
        report = bc.plan(resnet, rules("BatchNorm2d?", "ReLU")).apply()
        names = [entry.path for entry in report.applied]
        blocks = [f"layer{i}.{j}.conv1" for i in range(1, 5) for j in range(2)]
        assert names == ["conv1", *blocks]
        for i in range(1, 5):
            for j in range(2):
                block = resnet.get_submodule(f"layer{i}.{j}")
                assert type(block.relu) is nn.ReLU
        assert type(resnet.relu).__name__ == "Dropped"
        x = torch.randn(2, 3, 64, 64)
        assert torch.equal(resnet(x), self._by_hand(resnet, x))

    @staticmethod
    def _by_hand(model, x):
        """Run resnet18 with the first activation of each block left out."""
        x = model.maxpool(model.bn1(model.conv1(x)))
        for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
            for block in stage:
                y = block.bn2(block.conv2(block.bn1(block.conv1(x))))
                x = F.relu(y + (x if block.downsample is None else block.downsample(x)))
        return model.fc(torch.flatten(model.avgpool(x), 1))

    def test_revert_is_exact(self, resnet):
        """Afterwards every class is as before and the outputs are the same bits."""
        x = torch.randn(2, 3, 64, 64)
        expected, classes = resnet(x), [type(m) for m in resnet.modules()]
        bc.revert(bc.convert(resnet, rules("BatchNorm2d?", "ReLU"), example_inputs=(x,)))
        assert [type(m) for m in resnet.modules()] == classes
        assert torch.equal(resnet(x), expected)
