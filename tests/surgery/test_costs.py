"""What a model costs before and after: counted by hand for small models, and nothing changes by counting."""

import copy

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.surgery.costs import costs_of, planned_costs, without_values


def rules(*each):
    return {"version": 1, "rules": list(each)}


def replaced(type, name, **options):
    return rules({"match": {"type": type}, "replace": {"with": name, **options}})


BATCH, IN, OUT = 2, 8, 3
LINEAR = 2 * BATCH * IN * OUT
"""Operations of a linear layer: a multiplication and an addition for each weight and sample."""
CONV = 2 * BATCH * 6 * 4 * 9 * 25
"""Of a convolution 4 → 6 with 3×3 weights on 5×5 places."""

COUNTED = [
    pytest.param(lambda: nn.Linear(IN, OUT), (BATCH, IN), LINEAR, id="Linear"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3, padding=1), (BATCH, 4, 5, 5), CONV, id="Conv2d"),
    pytest.param(
        lambda: bc.convert(nn.Sequential(nn.Linear(IN, OUT)), replaced("Linear", "YatLinear")),
        (BATCH, IN),
        LINEAR,
        id="YatLinear",
    ),
    pytest.param(
        lambda: bc.convert(
            nn.Sequential(nn.Conv2d(4, 6, 3, padding=1)), replaced("Conv2d", "YatConv2d", epsilon=0.1)
        ),
        (BATCH, 4, 5, 5),
        CONV,
        id="YatConv2d",
    ),
    pytest.param(
        lambda: bc.convert(
            nn.Sequential(nn.Linear(IN, OUT)),
            replaced("Linear", "YatLinear", morph={"steps": 4}),
        ),
        (BATCH, IN),
        LINEAR,
        id="a morphing layer, as if it had arrived",
    ),
]


@pytest.mark.parametrize(("make", "shape", "expected"), COUNTED)
def test_operations_are_those_counted_by_hand(make, shape, expected):
    """A call is counted right on a copy without values, whatever class the layer is of."""
    costs = costs_of(make(), (torch.ones(shape),))
    assert costs.flops == expected, costs.unknown


def test_dynamic_layer_counts_its_own_work():
    """With its gate open, a mixture encodes the input, and its kernels each act on it, beside the weight."""
    length, kernels = 16, 4
    options = {"composer": "mixture", "context": "self", "context_length": length}
    model = bc.convert(nn.Sequential(nn.Linear(256, 10)), replaced("Linear", "DynamicLinear", **options))
    assert model[0].composer_kernels.shape == (kernels, 10, 256)
    weight, encoder = 256 * 10, 256 * length
    router, each_kernel, mixing = length * kernels, kernels * 256 * 10, kernels * 10
    by_hand = 2 * BATCH * (weight + encoder + router + each_kernel + mixing)
    assert costs_of(model, (torch.ones(BATCH, 256),)).flops == by_hand


def test_huge_plan_draws_no_numbers():
    """The costs of a plan that would draw ten billion numbers are known at once."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(50_000, 50_000))
    after = planned_costs(bc.plan(model, replaced("Linear", "DynamicLinear"))).after
    assert after.parameters > 4 * 50_000 * 50_000


class TiedTwice(nn.Module):
    """Two layers with one weight, and a buffer."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("mean", torch.zeros(4, dtype=torch.float64))

    def forward(self, x):
        return self.b(self.a(x)) + self.mean


class LooksAtValues(nn.Module):
    """What can't run without values."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(IN, OUT)

    def forward(self, x):
        return self.layer(x) if float(x.sum()) > -1.0 else x


class TestCosts:
    def test_tied_tensor_counts_once(self):
        """Parameters, buffers and bytes are those of distinct tensors."""
        costs = costs_of(TiedTwice())
        assert (costs.parameters, costs.buffers, costs.nbytes) == (16, 4, 16 * 4 + 4 * 8)
        assert costs.flops is None
        assert "--input-shape" in costs.unknown

    def test_subtotals_hold_what_is_inside(self):
        """A module's subtotal is its own tensors and those of all modules in it."""
        model = nn.Sequential(nn.Sequential(nn.Linear(2, 3)), nn.Linear(3, 1))
        totals = costs_of(model).subtotals()
        assert (totals[""], totals["0"], totals["0.0"], totals["1"]) == ((13, 52), (9, 36), (9, 36), (4, 16))

    def test_model_that_needs_values_runs_on_a_copy_with_them(self):
        """What fails on the meta device is counted on the CPU."""
        assert costs_of(LooksAtValues(), (torch.zeros(BATCH, IN),)).flops == LINEAR

    def test_model_that_fails_says_so(self):
        """Inputs that don't fit leave the operations unknown, with the reason."""
        costs = costs_of(nn.Linear(IN, OUT), (torch.zeros(2, 5),))
        assert costs.flops is None
        assert "the model fails on the inputs" in costs.unknown

    def test_copy_without_values_keeps_ties(self):
        """A tied weight is one tensor in the copy, too, and the model keeps its own."""
        model = TiedTwice()
        empty = without_values(model)
        assert empty.a.weight is empty.b.weight
        assert empty.a.weight.is_meta
        assert not model.a.weight.is_meta


PLANS = [
    pytest.param(replaced("Linear", "YatLinear"), id="yat"),
    pytest.param(replaced("Linear", "DynamicLinear"), id="dynamic"),
    pytest.param(replaced("Linear", "YatLinear", morph={"steps": 3}), id="morph"),
    pytest.param(rules({"match": {"type": "Linear"}, "attach": ["fuzzy_lr"]}), id="attach"),
    pytest.param(rules({"match": {"path": "1"}, "wrap": {"tag": "general"}}), id="wrap"),
    pytest.param("yat", id="with an activation dropped"),
]


@pytest.mark.parametrize("given", PLANS)
@pytest.mark.parametrize("with_inputs", [True, False], ids=["inputs", "no inputs"])
class TestEveryPlan:
    def test_is_what_conversion_makes(self, given, with_inputs):
        """The costs that a plan promises are those of the converted model."""
        model = self._model()
        inputs = (torch.randn(4, 6),) if with_inputs else None
        plan = bc.plan(model, given, example_inputs=inputs)
        promised = planned_costs(plan)
        plan.apply()
        assert promised.after == costs_of(model, inputs)

    def test_changes_nothing(self, given, with_inputs):
        """Counting leaves classes, attributes and values of the model as they were."""
        model = self._model()
        before = copy.deepcopy(model)
        inputs = (torch.randn(4, 6),) if with_inputs else None
        planned_costs(bc.plan(model, given, example_inputs=inputs))
        assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()]
        assert [sorted(vars(m)) for m in model.modules()] == [sorted(vars(m)) for m in before.modules()]
        old, new = before.state_dict(), model.state_dict()
        assert old.keys() == new.keys()
        assert all(torch.equal(old[name], new[name]) for name in old)

    def _model(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.ReLU()), nn.Linear(6, 2))
