"""Dale's principle: one sign for all synapses of a neuron, from attach on and after every step."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plastic_models import LAYERS, OPTIMIZERS, attach, bound, made, step
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError, RuleError
from bioconvert.plasticity import dale_split

ALWAYS = {"exempt": "none"}


def units(layer, axis):
    """Give the weight with a row for each unit whose synapses are to have one sign."""
    weight = layer.weight.detach()
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    if (axis == "outgoing") == transposed:
        return weight.flatten(1)
    groups = getattr(layer, "groups", 1)
    return torch.cat([part.transpose(0, 1).flatten(1) for part in weight.chunk(groups)])


def violations(layer, axis="outgoing"):
    rows = units(layer, axis)
    return int(((rows > 0).any(1) & (rows < 0).any(1)).sum())


@pytest.mark.parametrize("axis", ["outgoing", "incoming"])
@pytest.mark.parametrize("name", LAYERS)
class TestEveryLayer:
    @pytest.mark.parametrize("by", ["projection", "exponentiated"])
    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_no_synapse_ever_has_the_wrong_sign(self, name, axis, by, optimizer):
        """After attach and after each step every unit's synapses have one sign, and that of attach."""
        model, x = made(name)
        rules = attach({"dale": {"axis": axis, "by": by, **ALWAYS}})
        model, stepper, _ = bound(model, OPTIMIZERS[optimizer], rules)
        assert violations(model[0], axis) == 0
        before = units(model[0], axis).sum(1).sign()
        for _ in range(5):
            step(model, stepper, x)
            assert violations(model[0], axis) == 0
            after = units(model[0], axis).sum(1).sign()
            assert not (before * after < 0).any()
        assert model[0].weight.isfinite().all()

    def test_majority_keeps_the_larger_part(self, name, axis):
        """What a unit keeps is the larger of its two parts, unchanged, and the rest is zero."""
        model, _ = made(name)
        old = units(model[0], axis).clone()
        bc.convert(model, attach({"dale": {"axis": axis, **ALWAYS}}))
        positive, negative = old.clamp(min=0), old.clamp(max=0)
        larger = positive.sum(1, keepdim=True) >= -negative.sum(1, keepdim=True)
        assert torch.equal(units(model[0], axis), torch.where(larger, positive, negative))

    def test_revert_brings_the_weights_back(self, name, axis):
        """After training and revert the weight is what it was before attach, bit for bit."""
        model, x = made(name)
        old = model[0].weight.detach().clone()
        model, stepper, _ = bound(model, OPTIMIZERS["SGD"], attach({"dale": {"axis": axis, **ALWAYS}}))
        step(model, stepper, x)
        bc.revert(model)
        assert torch.equal(model[0].weight, old)
        assert "dale_sign" not in dict(model[0].named_buffers())


@settings(max_examples=40, deadline=None)
@given(
    weight=st.lists(st.floats(-1e3, 1e3, width=32), min_size=12, max_size=12),
    gradients=st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=12, max_size=12), min_size=1, max_size=4
    ),
    by=st.sampled_from(["projection", "exponentiated"]),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
)
def test_signs_hold_whatever_the_gradients(weight, gradients, by, optimizer):
    """No weights and no gradients make a synapse cross zero."""
    layer = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight).view(3, 4))
    layer, stepper, _ = bound(layer, OPTIMIZERS[optimizer], attach({"dale": {"by": by, **ALWAYS}}))
    for gradient in gradients:
        layer.weight.grad = torch.tensor(gradient).view(3, 4)
        stepper.step()
        assert not (layer.weight * layer.dale_sign < 0).any()


@pytest.mark.parametrize("by", ["projection", "exponentiated"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(by, dtype):
    """Signs hold in half precision, too, and every weight stays finite."""
    model, x = made("Linear")
    rules = attach({"dale": {"by": by, **ALWAYS}})
    model, stepper, _ = bound(model.to(dtype), OPTIMIZERS["SGD"], rules)
    before = model[0].weight.detach().clone()
    for _ in range(5):
        step(model, stepper, x.to(dtype))
        assert violations(model[0]) == 0
    assert model[0].weight.isfinite().all()
    assert not torch.equal(model[0].weight, before)


def test_exponentiated_gradient_is_the_formula():
    """Under plain SGD, w becomes w · exp(-η · sign(w) · g)."""
    torch.manual_seed(0)
    layer, stepper, _ = bound(
        nn.Linear(4, 3, bias=False),
        lambda p: torch.optim.SGD(p, lr=0.1),
        attach({"dale": {"by": "exponentiated", **ALWAYS}}),
    )
    old, gradient = layer.weight.detach().clone(), torch.randn(3, 4)
    layer.weight.grad = gradient.clone()
    stepper.step()
    assert torch.allclose(layer.weight, old * torch.exp(-0.1 * old.sign() * gradient), rtol=1e-5)


@pytest.mark.parametrize("order", [1, -1])
def test_has_the_last_word(order):
    """Signs hold whatever other mechanisms of the same weight do, in either order of attaching."""
    mechanisms = [{"dale": ALWAYS}, {"rejuvenate": {"every": 1, "law": "reference_v1"}}][::order]
    model, x = made("Linear")
    model, stepper, _ = bound(model, OPTIMIZERS["SGD"], attach(*mechanisms))
    for _ in range(5):
        step(model, stepper, x)
        assert violations(model[0]) == 0


SENDING = [
    pytest.param(lambda: nn.Linear(3, 4), "weight", 1, id="Linear"),
    pytest.param(lambda: nn.Embedding(3, 4), "weight", 0, id="Embedding"),
    pytest.param(lambda: nn.MultiheadAttention(4, 2), "in_proj_weight", 1, id="MultiheadAttention"),
    pytest.param(lambda: nn.GRU(3, 4), "weight_hh_l0", 1, id="GRU"),
]


@pytest.mark.parametrize(("make", "parameter", "axis"), SENDING)
def test_units_of_other_layers(make, parameter, axis):
    """The synapses that come from one unit lie along the dimension that the layer's kind has them along."""
    kinds = ["linear", "embedding", "attention", "recurrent"]
    model = bc.convert(nn.Sequential(make()), attach({"dale": ALWAYS}, type=kinds))
    rows = model[0].get_parameter(parameter).detach().transpose(0, axis)
    assert not ((rows > 0).any(1) & (rows < 0).any(1)).any()
    other = rows.transpose(0, 1)
    assert ((other > 0).any(1) & (other < 0).any(1)).any()


def test_transformers_linear():
    """A Conv1D of transformers has a row for each input."""
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    model = bc.convert(nn.Sequential(conv1d(4, 6)), attach({"dale": ALWAYS}))
    assert model[0].dale_sign.shape == (6,)
    assert (model[0].weight * model[0].dale_sign[:, None] >= 0).all()


def test_fresh_signs_keep_the_sizes():
    """`signs: fresh` draws the signs by the seed and keeps every size."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 8)
    old = layer.weight.detach().clone()
    rules = attach({"dale": {"signs": "fresh", "axis": "incoming", **ALWAYS}})
    other = bc.convert(copy.deepcopy(layer), rules, seed=1)
    bc.convert(layer, rules)
    assert torch.equal(layer.weight.abs(), old.abs())
    assert violations(layer, "incoming") == 0
    assert set(layer.dale_sign.tolist()) == {-1.0, 1.0}
    assert not torch.equal(layer.dale_sign, other.dale_sign)


def test_the_plan_says_what_is_lost():
    """The plan tells how much of the weights becomes zero, and warns of it."""
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 1.0], [-1.0, 1.0]]))
    plan = bc.plan(nn.Sequential(layer), attach({"dale": ALWAYS}))
    assert "majority signs, 17 % of the weights' size lost" in plan.applied[0].reason
    assert plan.warnings == ("0: 17 % of the size of its weights has the wrong sign and becomes zero",)


class TestExempt:
    def model(self):
        return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 36, 4), nn.Linear(4, 2))

    @pytest.mark.parametrize(
        ("exempt", "expected"),
        [("last", ["0", "2"]), ("none", ["0", "2", "3"]), (["0", "3"], ["2"]), (["re:[02]"], ["3"])],
    )
    def test_leaves_layers_alone(self, exempt, expected):
        """The last layer, none, or those whose names match stay as they are."""
        plan = bc.plan(self.model(), attach({"dale": {"exempt": exempt}}))
        assert [each.path for each in plan.applied] == expected

    def test_last_is_the_last_to_run(self):
        """With example inputs the last layer is the last one to run, wherever it was registered."""

        class Backwards(nn.Module):
            def __init__(self):
                super().__init__()
                self.head, self.body = nn.Linear(4, 2), nn.Linear(4, 4)

            def forward(self, x):
                return self.head(self.body(x))

        plan = bc.plan(Backwards(), attach("dale"), example_inputs=(torch.ones(1, 4),))
        assert [each.path for each in plan.applied] == ["body"]


class TestGoingOn:
    @pytest.mark.parametrize("by", ["projection", "exponentiated"])
    def test_from_a_state(self, by):
        """Model, optimizer and plasticity restored from their states go on bit for bit."""
        rules = attach({"dale": {"by": by, **ALWAYS}})
        ours = bound(made("Conv2d")[0], OPTIMIZERS["Adam"], rules)
        x = made("Conv2d")[1]
        for _ in range(3):
            step(ours[0], ours[1], x)
        other = bound(made("Conv2d", seed=7)[0], OPTIMIZERS["Adam"], rules)
        for each, source in zip(other, ours, strict=True):
            each.load_state_dict(copy.deepcopy(source.state_dict()))
        for _ in range(3):
            step(ours[0], ours[1], x)
            step(other[0], other[1], x)
        assert torch.equal(ours[0][0].weight, other[0][0].weight)

    def test_copies_and_pickles_carry_the_signs(self):
        """A deep copy and a pickle keep signs and options."""
        model, _, _ = bound(made("Linear")[0], OPTIMIZERS["SGD"], attach({"dale": ALWAYS}))
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other[0].dale_sign, model[0].dale_sign)
            assert len(bc.Plasticity(other).synapses) == 1

    def test_from_a_folder(self, tmp_path):
        """A saved model comes back with signs, and reverts to the weights before attach."""
        model = nn.Sequential(made("Linear")[0][0])
        old = model[0].weight.detach().clone()
        bc.convert(model, attach({"dale": ALWAYS}))
        bc.save(model, tmp_path / "out")
        loaded = bc.load(tmp_path / "out", factory=lambda: nn.Sequential(nn.Linear(5, 4)))
        assert torch.equal(loaded[0].dale_sign, model[0].dale_sign)
        assert torch.equal(loaded[0].weight, model[0].weight)
        assert torch.equal(bc.revert(loaded)[0].weight, old)

    def test_by_schedule(self):
        """With `every: 2` a weight may cross zero in between, and is back at every second step."""
        layer, stepper, _ = bound(
            nn.Linear(4, 3, bias=False),
            lambda p: torch.optim.SGD(p, lr=1.0),
            attach({"dale": {"every": 2, **ALWAYS}}),
        )
        seen = []
        for _ in range(4):
            layer.weight.grad = 10 * layer.dale_sign.expand(3, 4)
            stepper.step()
            seen.append(bool((layer.weight * layer.dale_sign < 0).any()))
        assert seen == [True, False, True, False]


def with_nan():
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    return layer


def tied():
    first = nn.Linear(4, 4)
    second = nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second)


SKIPPED = [
    pytest.param(lambda: nn.Sequential(with_nan()), {}, "its weight has NaNs", id="NaN"),
    pytest.param(tied, {}, "would get new values and is tied", id="tied"),
    pytest.param(
        lambda: nn.Sequential(nn.Linear(8, 8)), {"signs": "split"}, "dale_split(model) first", id="mixed"
    ),
]


@pytest.mark.parametrize(("make", "options", "reason"), SKIPPED)
def test_what_is_left_alone(make, options, reason):
    """What can't obey stays as it is, with the reason in the plan."""
    plan = bc.plan(make(), attach({"dale": {**options, **ALWAYS}}))
    assert not plan.applied
    assert reason in plan.skipped[0].reason


def test_a_glob_that_is_none():
    """A malformed glob is an error of the rule, while loading."""
    with pytest.raises(RuleError, match="nothing between two dots"):
        bc.plan(nn.Linear(2, 2), attach({"dale": {"exempt": ["a..b"]}}))


class Residual(nn.Module):
    """Its hidden units go two ways."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        x = self.a(x)
        return x + self.c(torch.tanh(self.b(x)))


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, bias=False), nn.GELU(), nn.Flatten()
    )


SPLIT = [
    pytest.param(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)),
        (5, 4),
        [("0", "2"), ("2", "4")],
        id="MLP",
    ),
    pytest.param(cnn, (2, 2, 8, 8), [("0", "2")], id="CNN"),
    pytest.param(Residual, (5, 4), [("b", "c")], id="beside a shortcut"),
]


@pytest.mark.parametrize(("make", "shape", "pairs"), SPLIT)
class TestDaleSplit:
    def test_keeps_the_function(self, make, shape, pairs):
        """Outputs are those of before, and every split unit's outgoing synapses have one sign."""
        torch.manual_seed(0)
        model = make()
        x = torch.randn(shape)
        before = model(x)
        found = dale_split(model)
        assert [(each.path, each.behind) for each in found] == pairs
        assert torch.allclose(model(x), before, atol=1e-5)
        for each in found:
            layer, behind = model.get_submodule(each.path), model.get_submodule(each.behind)
            assert each.after == len(layer.weight) == behind.weight.shape[1] > each.before
            assert violations(behind) == 0

    def test_then_attach_loses_nothing(self, make, shape, pairs):
        """`signs: split` takes the layers behind as they are, and they train under the constraint."""
        torch.manual_seed(0)
        model = make()
        dale_split(model)
        x = torch.randn(shape)
        before = model(x)
        rules = attach({"dale": {"signs": "split", **ALWAYS}}, path=[behind for _, behind in pairs])
        model, stepper, _ = bound(model, OPTIMIZERS["Adam"], rules)
        assert torch.equal(model(x), before)
        for _ in range(3):
            step(model, stepper, x)
        assert all(violations(model.get_submodule(behind)) == 0 for _, behind in pairs)

    def test_a_second_time_adds_nothing(self, make, shape, pairs):
        """Units with synapses of one sign are left as they are."""
        model = make()
        dale_split(model)
        assert all(each.before == each.after for each in dale_split(model))


def shared():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: nn.Sequential(nn.Linear(4, 4)), id="nothing hidden"),
        pytest.param(shared, id="one layer twice"),
        pytest.param(tied, id="tied weights"),
        pytest.param(
            lambda: nn.Sequential(nn.Linear(4, 4), nn.PReLU(4), nn.Linear(4, 4)),
            id="an activation with rates",
        ),
        pytest.param(
            lambda: bc.convert(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), attach("fuzzy_lr")),
            id="converted",
        ),
    ],
)
def test_dale_split_without_units(make):
    """Where no hidden units can be parted, that is an error."""
    with pytest.raises(OptionError, match="no hidden units to part"):
        dale_split(make())
