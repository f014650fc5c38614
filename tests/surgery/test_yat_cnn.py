"""`yat-cnn`: Conv–BN–ReLU blocks become Yat convolutions, and their activations are gone."""

import copy

import pytest
import torch
from small_models import seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.layers import YatConv2d

IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


class Functional(nn.Module):
    """A residual network written with `F.relu`."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        y = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(y)), inplace=True)
        return self.fc(x.mean((2, 3)))


def by_hand(model, x):
    """Say what the converted `Functional` computes."""
    x = F.relu(model.stem(x))
    y = model.bn2(model.conv2(model.bn1(model.conv1(x))))
    return model.fc(F.relu(x + y).mean((2, 3)))


@pytest.mark.parametrize("inputs", [None, (IMAGES,)], ids=["without data", "with data"])
@pytest.mark.parametrize("training", [False, True])
def test_a_functional_model(inputs, training):
    """The relu behind the block's norm is gone, those of the stem and the sum stay."""
    model = bc.convert(seeded(Functional), "yat-cnn", example_inputs=inputs).train(training)
    assert [n for n, m in model.named_modules() if isinstance(m, YatConv2d)] == ["conv1"]
    assert torch.equal(copy.deepcopy(model)(IMAGES), by_hand(model, IMAGES))


class HandWrittenBlock(nn.Module):
    """torchvision's BasicBlock without the first relu, on a converted block's own layers."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        own = self.block
        out = own.bn2(own.conv2(own.bn1(own.conv1(x))))
        return torch.relu(out + (x if own.downsample is None else own.downsample(x)))


@pytest.mark.parametrize("training", [False, True])
def test_resnet18_equals_a_hand_written_model(torchvision, training):
    """Each block's ReLU, one module called twice, is left out of the call behind the first norm alone."""
    model = seeded(lambda: torchvision.models.resnet18(weights=None))
    report = bc.plan(model, "yat-cnn").apply()
    assert [entry.path for entry in report.applied] == [
        f"layer{i}.{j}.conv1" for i in range(1, 5) for j in range(2)
    ]
    twin = copy.deepcopy(model)
    for i in range(1, 5):
        layer = getattr(twin, f"layer{i}")
        for j in range(2):
            layer[j] = HandWrittenBlock(layer[j])
    assert torch.equal(model.train(training)(IMAGES), twin.train(training)(IMAGES))


def test_the_graph_of_a_block_shows_it(torchvision):
    """A trace of the converted block has one relu left, behind the sum."""
    model = bc.convert(torchvision.models.resnet18(weights=None), "yat-cnn")
    block = model.layer1[0]

    class Leaves(torch.fx.Tracer):
        def is_leaf_module(self, m, name):
            return True

    called = [str(node.target) for node in Leaves().trace(block).nodes if node.op == "call_module"]
    assert called == ["conv1", "bn1", "conv2", "bn2", "relu"]
    bc.revert(model)
    called = [str(node.target) for node in Leaves().trace(block).nodes if node.op == "call_module"]
    assert called == ["conv1", "bn1", "relu", "conv2", "bn2", "relu"]
