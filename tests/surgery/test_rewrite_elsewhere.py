"""What a forward does by itself stays as it is when another part of the model is rewritten.

The rewritten part is one whose activation goes into a morphing layer: at step 0 the whole model must give
the original's outputs, bit for bit, whatever else is switched.
"""

import pytest
import torch
from small_models import seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc

ROWS = torch.linspace(-1, 1, 12).view(3, 4)
MORPH = {
    "version": 1,
    "rules": [
        {
            "match": {"type": "Linear", "path": "block.*", "followed_by": "ReLU"},
            "replace": {"with": "YatLinear", "activation": "drop", "morph": {"steps": 10}},
        }
    ],
}


class Block(nn.Module):
    """The part that is rewritten: its relu is a function."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return F.relu(self.fc(x))


class Model(nn.Module):
    """A part that is rewritten, and another."""

    def __init__(self):
        super().__init__()
        self.block, self.other = Block(), self.make()


class Branching(Model):
    """Looks at the values of its input."""

    make = staticmethod(lambda: nn.Linear(4, 4))

    def forward(self, x):
        y = self.block(x)
        return self.other(y) if y.sum() > 1 else -y


class Training(Model):
    """Does something else while it is trained."""

    make = staticmethod(lambda: nn.Linear(4, 4))

    def forward(self, x):
        y = self.block(x)
        return self.other(y) if self.training else y * 2


class Dropping(Model):
    """Has dropout as a module and as a function."""

    make = staticmethod(lambda: nn.Dropout(0.5))

    def forward(self, x):
        return F.dropout(self.other(self.block(x)), 0.5, training=self.training)


class Same(nn.Module):
    """Rewritten itself, with all of the above in one forward."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4))
        self.drop, self.scale, self.mode = nn.Dropout(0.5), 2.0, {"shift": 0.5}

    def forward(self, x, residual=None, *extra, double=False, **options):
        y = F.relu(self.block(x))
        y = self.drop(y) * self.scale + self.mode["shift"]
        if residual is not None:
            y = y + residual
        for each in extra:
            y = y + each
        if double or options.get("twice"):
            y = y + y
        return F.dropout(y, 0.5, self.training)


def equal(original, model, *args, **kwargs):
    """Compare outputs in training and in evaluation, each after the other."""
    for training in (True, False, True, False):
        results = []
        for each in (original, model):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                results.append(each.train(training)(*args, **kwargs))
        assert torch.equal(*results)


@pytest.mark.parametrize("make", [Branching, Training, Dropping])
def test_code_beside_the_rewritten_part(make):
    """Branches on values, on the train flag, and dropout are as before."""
    original, model = seeded(make), bc.convert(seeded(make), MORPH)
    assert type(model.block) is not Block
    for x in (ROWS, -ROWS, ROWS * 5):
        equal(original, model, x)


class TestInTheRewrittenForwardItself:
    def test_flags_arguments_and_values(self):
        """Optional, extra and keyword arguments, attributes and configured values keep their effect."""
        original, model = seeded(Same), bc.convert(seeded(Same), MORPH)
        assert type(model) is not Same
        calls = [
            ((ROWS,), {}),
            ((ROWS, ROWS), {}),
            ((ROWS,), {"residual": ROWS, "double": True}),
            ((ROWS, None, ROWS, ROWS * 2), {}),
            ((ROWS,), {"twice": True}),
            ((ROWS,), {"twice": False, "unused": ROWS}),
        ]
        for scale, shift in ((2.0, 0.5), (3.0, 0.5), (3.0, -1.0)):
            for each in (original, model):
                each.scale, each.mode["shift"] = scale, shift
            for args, kwargs in calls:
                equal(original, model, *args, **kwargs)

    def test_on_the_way_too(self):
        """Every way through the forward sees the same layer."""
        model = bc.convert(seeded(Same), MORPH).eval()
        for _ in range(4):
            bc.morph_step(model)
        hidden = (model(ROWS) - 0.5) / 2
        assert torch.allclose(model(ROWS, ROWS, double=True), 2 * (hidden * 2 + 0.5 + ROWS), atol=1e-6)


def test_a_none_default_of_dla34(timm):
    """timm's dla34 passes a list of children's outputs down an argument that is None by default."""
    make = lambda: timm.create_model("dla34", pretrained=False, num_classes=5)  # noqa: E731
    rules = {
        "version": 1,
        "rules": [
            {
                "match": {"type": "Conv2d", "followed_by": ["BatchNorm2d?", "ReLU"]},
                "replace": {
                    "with": "YatConv2d",
                    "activation": "drop",
                    "norm": "drop",
                    "morph": {"steps": 10},
                },
            }
        ],
    }
    original, model = seeded(make), seeded(make)
    report = bc.plan(model, rules).apply()
    assert len(report.applied) > 20
    rewritten = [m for m in model.modules() if type(m).__name__ in ("DlaBasic", "DlaTree", "DlaRoot")]
    assert any(vars(type(m)).get("_bioconvert_rewrite") for m in rewritten)
    equal(original, model, torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64))
    bc.revert(model)
    equal(original, model, torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64))
