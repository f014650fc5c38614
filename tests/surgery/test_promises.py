"""What bioconvert promises of every model, over a table of models."""

import copy
import pickle

import pytest
import torch
from small_models import AttributeReads, Branching, Cnn, Mlp, Optional, SharedLayer, Tied, Tying, seeded
from torch import nn

import bioconvert as bc

TOKENS = torch.tensor([[1, 2, 3], [4, 5, 6]])
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
ROWS = torch.linspace(-1, 1, 12).view(3, 4)


class Encoder(nn.Module):
    """Attention and a feed-forward part, with norms and dropout."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.layer(x))


MODELS = [
    pytest.param(Mlp, (ROWS,), id="Mlp"),
    pytest.param(Cnn, (IMAGES,), id="Cnn"),
    pytest.param(Branching, (ROWS,), id="Branching"),
    pytest.param(Optional, (ROWS,), id="Optional"),
    pytest.param(SharedLayer, (ROWS,), id="SharedLayer"),
    pytest.param(Tied, (TOKENS,), id="Tied"),
    pytest.param(Tying, (ROWS,), id="Tying"),
    pytest.param(AttributeReads, (ROWS,), id="AttributeReads"),
    pytest.param(Encoder, (torch.linspace(-1, 1, 48).view(2, 3, 8),), id="Encoder"),
    pytest.param(
        lambda: nn.Sequential(nn.Conv1d(4, 6, 1), nn.ReLU()), (torch.ones(2, 4, 5),), id="Sequential"
    ),
]
DROPPING = {
    "version": 1,
    "rules": [
        {
            "name": f"{family} before an activation",
            "match": {"type": family, "followed_by": ["norm?", "ReLU|GELU"]},
            "replace": {"with": layer, "activation": "drop"},
            "optional": True,
        }
        for family, layer in [("linear", "YatLinear"), ("conv", "YatConv2d")]
    ],
}
RULES = [
    pytest.param("yat-all", id="yat-all"),
    pytest.param("yat", id="yat"),
    pytest.param(DROPPING, id="dropping"),
]


def results(model, inputs, *, training: bool):
    """Give outputs and gradients, from a fixed random state."""
    model.train(training)
    torch.manual_seed(0)
    model.zero_grad()
    output = model(*inputs)
    output.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return output.detach(), gradients


def state(model):
    """Give what must not change of a model: classes, attributes, tensors, flags, hooks, order."""
    return [
        (
            name,
            id(module),
            type(module),
            module.training,
            sorted(vars(module)),
            list(module._modules),
            [(key, id(value)) for key, value in (*module._parameters.items(), *module._buffers.items())],
            [p.requires_grad for p in module._parameters.values() if p is not None],
            list(module._forward_hooks) + list(module._forward_pre_hooks),
        )
        for name, module in model.named_modules(remove_duplicate=False)
    ]


def contents(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("make", "inputs"), MODELS)
class TestIdentity:
    @pytest.mark.parametrize("training", [True, False])
    def test_changes_no_bit(self, make, inputs, training):
        """Empty rules leave outputs, gradients, state and the class of every module as they were."""
        expected = results(seeded(make), inputs, training=training)
        model = seeded(make).train(training)
        before, values = state(model), contents(model)
        assert bc.convert(model, "identity", example_inputs=inputs) is model
        assert state(model) == before
        assert equal(contents(model), values)
        output, gradients = results(model, inputs, training=training)
        assert torch.equal(output, expected[0])
        assert equal(gradients, expected[1])


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("make", "inputs"), MODELS)
class TestEveryModel:
    def test_planning_changes_nothing(self, make, inputs, rules):
        """A plan, with its trace and its run on inputs, leaves model and random state as they were."""
        model = seeded(make)
        before, values, random_state = state(model), contents(model), torch.random.get_rng_state()
        bc.plan(model, rules, example_inputs=inputs)
        assert state(model) == before
        assert equal(contents(model), values)
        assert torch.equal(torch.random.get_rng_state(), random_state)

    @pytest.mark.parametrize("with_inputs", [True, False])
    def test_revert_gives_everything_back(self, make, inputs, rules, with_inputs):
        """The same objects, classes, attributes, order and values; outputs are those of the original."""
        model = seeded(make)
        before, values = state(model), contents(model)
        bc.convert(model, rules, example_inputs=inputs if with_inputs else None)
        assert bc.revert(model) is model
        assert state(model) == before
        assert equal(contents(model), values)
        expected = results(seeded(make), inputs, training=True)
        output, gradients = results(model, inputs, training=True)
        assert torch.equal(output, expected[0])
        assert equal(gradients, expected[1])

    def test_revert_keeps_what_was_learnt(self, make, inputs, rules):
        """Trained weights stay as trained."""
        model = bc.convert(seeded(make), rules)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("weight"):
                    parameter.add_(1)
        trained = {n: p.clone() for n, p in model.named_parameters() if n.endswith("weight")}
        bc.revert(model)
        assert equal(trained, {n: p for n, p in model.named_parameters() if n.endswith("weight")})

    def test_what_is_applied_ran_and_learns(self, make, inputs, rules):
        """Every replaced layer gets a gradient in each of its own parameters."""
        model = seeded(make)
        report = bc.plan(model, rules, example_inputs=inputs).apply()
        _, gradients = results(model, inputs, training=True)
        for entry in report.applied:
            for name in dict(model.get_submodule(entry.path).named_parameters(recurse=False)):
                full = f"{entry.path}.{name}" if entry.path else name
                assert full in gradients or any(full in other for other in _tied(model, full))

    def test_a_failed_apply_leaves_no_trace(self, make, inputs, rules, monkeypatch):
        """A failure at the last layer, after all others are converted, undoes everything."""
        from bioconvert.surgery import sequence

        model = seeded(make)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        before, values, groups = state(model), contents(model), [list(g) for g in _params(optimizer)]
        plan = bc.plan(model, rules, example_inputs=inputs, optimizer=optimizer)
        if not plan.applied:
            pytest.skip("the rules apply nowhere in this model")
        real, last = sequence.carry_out, plan.applied[-1].path

        def failing(module, change, step, **kwargs):
            if kwargs["stream"].name == last:
                raise RuntimeError("out of luck")
            return real(module, change, step, **kwargs)

        monkeypatch.setattr(sequence, "carry_out", failing)
        with pytest.raises(bc.ConversionError, match="out of luck"):
            plan.apply()
        assert state(model) == before
        assert equal(contents(model), values)
        assert [list(g) for g in _params(optimizer)] == groups

    def test_copies_are_the_same_and_independent(self, make, inputs, rules):
        """deepcopy and pickle give a model of the same classes and outputs, which reverts by itself."""
        model = bc.convert(seeded(make), rules, example_inputs=inputs).eval()
        if any("<locals>" in type(m).__qualname__ or "<lambda>" in repr(make) for m in model.modules()):
            pytest.skip("a local class can't be pickled, converted or not")
        expected = model(*inputs)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(*inputs), expected)
            bc.revert(twin)
            assert torch.equal(model(*inputs), expected)
            assert torch.equal(twin(*inputs), seeded(make).eval()(*inputs))

    def test_an_old_checkpoint_loads(self, make, inputs, rules):
        """The original's state_dict loads into the converted model; additions keep their values."""
        model = bc.convert(seeded(make), rules)
        additions = {k: v for k, v in contents(model).items() if k not in seeded(make).state_dict()}
        other = seeded(make, seed=1).state_dict()
        model.load_state_dict(other)
        assert equal(additions, {k: v for k, v in contents(model).items() if k in additions})
        assert equal(dict(other), {k: v for k, v in contents(model).items() if k in other})

    def test_untouched_keys_stay(self, make, inputs, rules):
        """Conversion adds keys to state_dict and takes none away."""
        model = seeded(make)
        before = list(model.state_dict())
        bc.convert(model, rules)
        assert [key for key in model.state_dict() if key in before] == before


def _tied(model, name):
    """Give the sets of names that share a parameter with ``name``."""
    by_id: dict[int, set[str]] = {}
    for other, parameter in model.named_parameters(remove_duplicate=False):
        by_id.setdefault(id(parameter), set()).add(other)
    return [names for names in by_id.values() if name in names and len(names) > 1]


def _params(optimizer):
    return [group["params"] for group in optimizer.param_groups]


def test_revert_of_an_unconverted_model_does_nothing():
    """There is nothing to undo, and nothing is undone."""
    model = Mlp()
    before = state(model)
    assert bc.revert(model) is model
    assert state(model) == before


def test_the_same_object_comes_back():
    """`convert` returns what it was given."""
    model = Mlp()
    assert bc.convert(model, "yat-all") is model


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        pytest.param(
            {"match": {"type": "Conv2d"}, "replace": {"with": "YatConv2d"}}, "matches nothing", id="type"
        ),
        pytest.param(
            {"match": {"path": "fc9"}, "replace": {"with": "YatLinear"}}, "matches nothing", id="path"
        ),
    ],
)
def test_a_rule_that_matches_nothing_is_an_error(rules, message):
    """Nothing is changed, and the error names the rule; `optional: true` allows it."""
    model = Mlp()
    before = state(model)
    also = {"name": "fine", "match": {"type": "linear"}, "replace": {"with": "YatLinear"}}
    with pytest.raises(bc.RuleError, match=message):
        bc.convert(model, {"version": 1, "rules": [also, {"name": "wrong", **rules}]})
    assert state(model) == before
    bc.convert(model, {"version": 1, "rules": [also, {"name": "wrong", **rules, "optional": True}]})


NO_MODELS = [
    pytest.param(nn.Linear, "not Linear", id="a class"),
    pytest.param("resnet18", "not str", id="a name"),
]


@pytest.mark.parametrize(("model", "message"), NO_MODELS)
def test_what_is_no_model_is_refused(model, message):
    """The error says what a model must be."""
    with pytest.raises(bc.BioconvertError, match=message):
        bc.convert(model, "yat-all")


def test_inputs_that_the_model_cannot_take():
    """The error comes before anything is changed, and blames the inputs."""
    model = Mlp()
    before = state(model)
    with pytest.raises(bc.BioconvertError, match="the model itself fails on the example inputs"):
        bc.convert(model, "yat-all", example_inputs=(torch.ones(2, 5),))
    assert state(model) == before


def test_a_plan_is_applied_once():
    """What was planned on another state of the model isn't applied blindly."""
    model = Mlp()
    plan = bc.plan(model, "yat-all")
    plan.apply()
    with pytest.raises(bc.ConversionError, match="plan again"):
        plan.apply()


def test_sealed_attributes_are_no_obstacle():
    """A model whose `__setattr__` refuses everything is converted and reverted."""

    class Sealed(nn.Linear):
        def __setattr__(self, name, value):
            if vars(self).get("_is_full_backward_hook", 0) != 0 and "bias" in vars(self).get(
                "_parameters", {}
            ):
                raise AttributeError(f"{name} is sealed")
            super().__setattr__(name, value)

    model = nn.Sequential(Sealed(4, 4))
    rule = {"match": {"type": "linear"}, "replace": {"with": "YatLinear"}}
    bc.convert(model, {"version": 1, "rules": [rule]}, example_inputs=(ROWS,))
    assert type(model[0]).__name__ == "YatLinear"
    assert type(bc.revert(model)[0]) is Sealed


def test_a_child_name_with_dots_is_no_path():
    """Modules are reached by walking, so a name that holds dots is just a name."""
    model = nn.Sequential()
    model._modules["a.b"] = nn.Linear(4, 4)
    bc.convert(model, "yat-all", example_inputs=(ROWS,))
    assert type(model._modules["a.b"]).__name__ == "YatLinear"
    bc.revert(model)
    assert type(model._modules["a.b"]) is nn.Linear
