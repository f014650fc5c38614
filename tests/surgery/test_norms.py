"""Normalisations behind a replaced layer: kept, folded into its weight, or dropped."""

import copy
import pickle
import re

import pytest
import torch
from norms import (  # noqa: F401 - a fixture
    CalledTwice,
    Functional,
    Mistaken,
    NormOfTwo,
    OnceWithout,
    SameConv2d,
    SharedNorm,
    Tail,
    TiedWeight,
    TwoNames,
    assert_same_state,
    rules,
    same_layers,
    state,
    trained,
)
from small_models import seeded
from torch import nn

import bioconvert as bc

pytestmark = pytest.mark.usefixtures("same_layers")

ROWS = torch.linspace(-1, 1, 24, dtype=torch.float64).view(6, 4)


def block(layer, norm):
    """Give layer, normalisation and ReLU, in evaluation."""
    return nn.Sequential(layer, trained(norm), nn.ReLU()).eval()


def conv1d_of_transformers():
    from transformers.pytorch_utils import Conv1D

    return Conv1D(6, 4)


BLOCKS = [
    pytest.param(lambda: block(nn.Linear(4, 6), nn.BatchNorm1d(6)), (3, 4), id="Linear"),
    pytest.param(lambda: block(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6)), (3, 4), id="Linear, no bias"),
    pytest.param(lambda: block(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)), (2, 4, 9), id="Conv1d"),
    pytest.param(lambda: block(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)), (2, 4, 7, 7), id="Conv2d"),
    pytest.param(lambda: block(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4)), (2, 2, 5, 5, 5), id="Conv3d"),
    pytest.param(
        lambda: block(nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6)),
        (2, 4, 7, 7),
        id="grouped, no bias",
    ),
    pytest.param(
        lambda: block(nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4)),
        (2, 4, 7, 7),
        id="depthwise, reflecting",
    ),
    pytest.param(
        lambda: block(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False)), (2, 4, 7, 7), id="not affine"
    ),
    pytest.param(
        lambda: block(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, eps=0.5, momentum=None)),
        (2, 4, 7, 7),
        id="large eps",
    ),
]


@pytest.mark.parametrize(("make", "shape"), BLOCKS)
class TestAFoldedNorm:
    @torch.no_grad()
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
    def test_is_exact_in_evaluation(self, make, shape, dtype, tolerance):
        """A layer that keeps the linear map gives, folded, what layer and norm gave."""
        model = seeded(make).to(dtype)
        x = torch.randn(shape, dtype=dtype)
        expected = model(x)
        bc.convert(model, rules("fold"))
        assert type(model[0]).__name__.startswith("Same")
        assert type(model[1]).__name__ == "Dropped"
        assert float((model(x) - expected).norm()) <= tolerance * float(expected.norm())

    def test_comes_back(self, make, shape):
        """Revert gives weight, bias, norm, keys and outputs as they were, though all was trained since."""
        model = seeded(make)
        before, x = state(model), torch.randn(shape)
        expected = model(x)
        objects = dict(model.named_parameters())
        bc.convert(model, rules("fold", activation="drop"))
        model(x).square().sum().backward()
        with torch.no_grad():
            for parameter in model[0].parameters():
                parameter.add_(1)
        bc.revert(model)
        assert_same_state(before, state(model))
        assert torch.equal(model(x), expected)
        assert all(parameter is objects[name] for name, parameter in model.named_parameters())

    def test_is_folded_in_files_and_copies(self, make, shape, tmp_path):
        """save and load, deepcopy and pickle keep what was folded, and what comes back on revert."""
        model = seeded(make)
        x, before = torch.randn(shape), state(model)
        bc.convert(model, rules("fold"))
        expected = model(x)
        bc.save(model, tmp_path / "out")
        loaded = bc.load(tmp_path / "out", factory=make)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
            assert torch.equal(twin(x), expected)
            assert_same_state(before, state(bc.revert(twin)))

    def test_leaves_gradients_to_the_layer(self, make, shape):
        """The layer's weight learns; the norm, which does nothing, doesn't."""
        model = bc.convert(seeded(make), rules("fold"))
        model.train()(torch.randn(shape)).square().sum().backward()
        assert model[0].weight.grad is not None
        assert model[0].bias.grad is not None
        assert all(parameter.grad is None for parameter in model[1].parameters())


def test_folds_into_the_transposed_linear_of_transformers(transformers):
    """`Conv1D` keeps its weight as [in, out]: its columns are scaled."""
    model = seeded(lambda: block(conv1d_of_transformers(), nn.BatchNorm1d(6))).double()
    expected = model(ROWS)
    bc.convert(model, rules("fold"))
    assert torch.allclose(model(ROWS), expected, rtol=1e-12, atol=1e-12)


REFUSED = [
    pytest.param(lambda: Tail(nn.GroupNorm(2, 4)), "GroupNorm.*no running statistics", id="GroupNorm"),
    pytest.param(lambda: Tail(nn.LayerNorm(8)), "LayerNorm.*no running statistics", id="LayerNorm"),
    pytest.param(
        lambda: Tail(nn.BatchNorm2d(4, track_running_stats=False)),
        "no running statistics",
        id="no statistics",
    ),
    pytest.param(SharedNorm, "BatchNorm2d is shared with another path", id="shared"),
    pytest.param(NormOfTwo, "BatchNorm2d is shared with another path", id="of two layers"),
    pytest.param(TwoNames, "BatchNorm2d goes by several names", id="two names"),
    pytest.param(TiedWeight, "tied: 'conv.weight', 'other.weight'", id="tied weight"),
    pytest.param(Functional, "isn't followed by one and the same normalisation module", id="function"),
    pytest.param(OnceWithout, "followed by", id="once without"),
    pytest.param(Mistaken, "normalises 5 features, not its outputs", id="other features"),
]


class TestWhatCannotBeFolded:
    @pytest.mark.parametrize(("make", "reason"), REFUSED)
    def test_is_left_with_the_reason(self, make, reason):
        """The plan says what stands in the way, and applying it changes nothing."""
        model = seeded(make)
        before = state(model)
        links = ("BatchNorm2d|BatchNorm1d|GroupNorm|LayerNorm", "ReLU")
        plan = bc.plan(model, rules("fold", links=links))
        told = {entry.path: entry.reason for entry in plan.skipped}
        first = next(iter(dict(model.named_children())))
        assert plan.applied == ()
        assert re.search(reason, told[first])
        plan.apply()
        assert_same_state(before, state(model))

    def test_is_not_what_one_layer_calls_twice(self):
        """A layer with its own norm behind each call is folded, though both are called twice."""
        model = seeded(CalledTwice).double().eval()
        x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
        expected = model(x)
        bc.convert(model, {"version": 1, "rules": [_only("conv", rules("fold"))]})
        assert type(model.conv) is SameConv2d
        assert torch.allclose(model(x), expected, rtol=1e-12, atol=1e-12)


class TestWhereTheNormStands:
    def test_it_is_found_in_another_container(self):
        """A layer and its norm may be children of different modules."""

        def make():
            return (
                nn.Sequential(
                    nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)),
                    nn.ModuleDict({"n": nn.Identity()})["n"],
                    nn.Sequential(trained(nn.BatchNorm2d(4)), nn.Sequential(nn.ReLU())),
                )
                .eval()
                .double()
            )

        model, x = seeded(make), torch.randn(2, 3, 6, 6, dtype=torch.float64)
        expected, before = model(x), state(model)
        bc.convert(model, rules("fold"))
        assert type(model[2][0]).__name__ == "Dropped"
        assert torch.allclose(model(x), expected, rtol=1e-12, atol=1e-12)
        assert_same_state(before, state(bc.revert(model)))

    def test_it_may_be_missing_where_the_rule_says_so(self):
        """Behind an optional norm that isn't there, the layer is replaced and keeps its weight."""
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        weight = model[0].weight.clone()
        report = bc.plan(model, rules("fold", links=("BatchNorm2d?", "ReLU"))).apply()
        assert "folded" not in report.applied[0].reason
        assert torch.equal(model[0].weight, weight)

    def test_it_needs_no_storage(self):
        """A model on the meta device is planned and converted without any."""
        with torch.device("meta"):
            model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        bc.convert(model, rules("fold"))
        assert model[0].bias.is_meta
        assert bc.revert(model)[0].bias is None

    def test_the_optimizer_takes_the_new_bias_and_forgets_it(self):
        """What folding adds to a layer without bias is learnt, until it is reverted."""
        model = seeded(lambda: block(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)))
        optimizer = torch.optim.Adam(model.parameters())
        bc.convert(model, rules("fold"), optimizer=optimizer)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert id(model[0].bias) in held
        bc.revert(model, optimizer=optimizer)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in model.parameters()}

    @torch.no_grad()
    def test_half_precision_stays_half(self):
        """Weight and bias keep their type, and the outputs are near."""
        model = seeded(lambda: block(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))).bfloat16()
        x = torch.randn(2, 3, 6, 6).bfloat16()
        expected = model(x)
        bc.convert(model, rules("fold"))
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        assert torch.allclose(model(x), expected, rtol=0.05, atol=0.05)


def _only(path, rule_set):
    rule = copy.deepcopy(rule_set["rules"][0])
    rule["match"]["path"] = path
    return rule


class TestAFittedYatLayer:
    @staticmethod
    def apart(norm, *, bias):
        """Give how far a fitted block is from what it was."""
        model = seeded(lambda: block(nn.Conv2d(4, 8, 3, bias=bias), nn.BatchNorm2d(8)))
        before = state(model)
        x = torch.randn(16, 4, 9, 9, generator=torch.Generator().manual_seed(0))
        old = model(x)
        wanted = rules(norm, layer="YatConv2d", links=("BatchNorm2d", "ReLU"), activation="drop")
        wanted["rules"][0]["match"]["type"] = "conv"
        report = bc.plan(model, wanted, example_inputs=(x,)).apply()
        assert "fitted" in report.applied[0].reason
        apart = (model(x) - old).norm() / old.norm()
        assert_same_state(before, state(bc.revert(model)))
        return float(apart.detach())

    @pytest.mark.parametrize("bias", [True, False])
    def test_is_as_near_with_the_norm_folded_as_kept(self, bias):
        """Before a norm, or in place of it, the fitted layer gives the block's outputs equally well."""
        kept, folded = self.apart("keep", bias=bias), self.apart("fold", bias=bias)
        assert folded < 0.1
        assert folded < 1.2 * kept
