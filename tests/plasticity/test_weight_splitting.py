"""Weight splitting: several synapses that add up to a weight, and the outputs that the reference adds up."""

import copy
import pickle

import pytest
import torch
from plastic_models import LAYERS, OPTIMIZERS, attach, bound, made, step
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.layers.split_synapses import SplitSynapses
from bioconvert.surgery import as_original


@pytest.mark.parametrize("name", LAYERS)
class TestEveryLayer:
    @pytest.mark.parametrize("count", [2, 3])
    def test_keeps_the_function(self, name, count):
        """Outputs are those of before, and the synapses of a weight differ and add up to it."""
        model, x = made(name)
        before, weight = model(x), model[0].weight.detach().clone()
        bc.convert(model, attach({"weight_splitting": {"synapses": count}}))
        layer = model[0]
        assert isinstance(layer, SplitSynapses)
        assert torch.allclose(model(x), before, atol=1e-6, rtol=1e-5)
        assert layer.synapses.shape == (count, *weight.shape)
        assert torch.allclose(layer.synapses.sum(0), weight, atol=1e-6)
        assert not torch.allclose(layer.synapses[0], layer.synapses[1])

    def test_trains_as_the_weight_would(self, name):
        """Under plain SGD the sum goes the way of the weight that isn't split."""
        model, x = made(name)
        twin = copy.deepcopy(model)
        rule = attach({"weight_splitting": {"synapses": 3}})
        model, stepper, _ = bound(model, OPTIMIZERS["SGD"], rule)
        alone = OPTIMIZERS["SGD"](twin.parameters())
        for _ in range(4):
            step(model, stepper, x)
            step(twin, alone, x)
        assert torch.allclose(model[0].weight, twin[0].weight, atol=1e-5)
        assert not torch.allclose(twin[0].weight, made(name)[0][0].weight, atol=1e-3)

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_revert_leaves_the_trained_sum(self, name, optimizer):
        """After revert the very same weight is there, with the sum's value, and is trained again."""
        model, x = made(name)
        weight, cls = model[0].weight, type(model[0])
        model, stepper, _ = bound(model, OPTIMIZERS[optimizer], attach("weight_splitting"))
        step(model, stepper, x)
        y, total = model(x), model[0].synapses.detach().sum(0)
        bc.revert(model)
        assert type(model[0]) is cls
        assert model[0].weight is weight
        assert weight.requires_grad
        assert torch.equal(weight, total)
        assert torch.equal(model(x), y)
        assert [n for n, _ in model[0].named_parameters()] == [
            n for n, _ in made(name)[0][0].named_parameters()
        ]


def split(name="Linear", **options):
    model, x = made(name)
    return bc.convert(model, attach({"weight_splitting": options})), x


class TestLayer:
    def test_copies_and_pickles(self):
        """A deep copy and a pickle compute the same."""
        model, x = split("Conv2d")
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(x), model(x))

    def test_compiles_and_exports(self):
        """torch.compile makes one graph of it, and torch.export and fx take it."""
        model, x = split()
        expected = model(x)
        assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(x), expected)
        assert torch.allclose(torch.export.export(model, (x,)).module()(x), expected)
        assert torch.equal(torch.fx.symbolic_trace(model)(x), expected)

    def test_from_a_folder(self, tmp_path):
        """A saved model comes back split, computes the same and can be reverted."""
        model, x = split()
        expected = model(x)
        bc.save(model, tmp_path / "out")
        loaded = bc.load(tmp_path / "out", factory=lambda: nn.Sequential(nn.Linear(5, 4)))
        assert torch.equal(loaded(x), expected)
        assert not loaded[0]._parameters["weight"].requires_grad
        bc.revert(loaded)
        assert torch.allclose(loaded(x), expected, atol=1e-6)

    def test_on_a_replaced_layer(self):
        """One call may replace a layer and split the weight of what it becomes."""
        model, x = made("Linear")
        twin = bc.convert(copy.deepcopy(model), "yat-all")
        rules = attach({"weight_splitting": {}})
        rules["rules"][0]["replace"] = {"with": "YatLinear"}
        rules["rules"][0]["match"] = {"type": ["Linear"]}
        bc.convert(model, rules)
        assert torch.allclose(model(x), twin(x), rtol=1e-4)
        model(x).sum().backward()
        assert model[0].synapses.grad is not None

    def test_other_mechanisms_act_on_each_synapse(self):
        """A second conversion attaches to the parameter `synapses`, where each has a rate of its own."""
        model, x = split(noise=0.0)
        bc.convert(model, attach("fuzzy_lr", type=["linear"], parameter="**.synapses"))
        stepper = torch.optim.Adam(model.parameters(), lr=0.1)
        bc.Plasticity(model).bind(stepper)
        step(model, stepper, x)
        first, second = model[0].synapses.detach()
        assert not torch.allclose(first, second)
        assert torch.equal(model[0]._parameters["weight"], model[0].synapses.detach().sum(0))

    def test_other_mechanisms_on_the_sum(self):
        """A mechanism that waits for the weight, trained no more, is an error that says what to do."""
        model, _ = made("Linear")
        bc.convert(model, attach("l1", "weight_splitting"))
        with pytest.raises(OptionError, match=r"l1: attached to '0\.weight'.*to '0\.synapses' by a second"):
            bc.Plasticity(model).bind(torch.optim.SGD(model.parameters(), lr=0.1))

    def test_an_optimizer_that_was_there(self):
        """An optimizer that is given gains the synapses and goes on."""
        model, x = made("Linear")
        stepper = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        step(model, stepper, x)
        bc.convert(model, attach("weight_splitting"), optimizer=stepper)
        bc.Plasticity(model).bind(stepper)
        before = model[0].synapses.detach().clone()
        step(model, stepper, x)
        assert not torch.equal(model[0].synapses, before)


class TestWithoutABoundOptimizer:
    def trained(self):
        model, x = split("Linear", synapses=3)
        step(model, torch.optim.SGD(model.parameters(), lr=1.0), x)
        return model, x

    def test_a_state_dict_has_the_sum(self):
        """The weight in a state dict is the sum, and a plain layer with it computes the same."""
        model, x = self.trained()
        weight = model.state_dict()["0.weight"]
        assert torch.allclose(weight, model[0].synapses.sum(0), atol=1e-6)
        assert not torch.allclose(weight, made("Linear")[0][0].weight, atol=1e-2)
        plain = made("Linear")[0]
        plain.load_state_dict({"0.weight": weight, "0.bias": model[0].bias})
        assert torch.allclose(plain(x), model(x), atol=1e-6)

    def test_revert_leaves_the_sum(self):
        """After revert the layer computes what it learned."""
        model, x = self.trained()
        y = model(x)
        assert torch.allclose(bc.revert(model)(x), y, atol=1e-6)

    def test_as_the_original_it_has_the_sum(self):
        """Compared with the original, as which it computes for a while, it has learned the same."""
        model, x = self.trained()
        y = model(x)
        with as_original(model):
            assert type(model[0]) is torch.nn.Linear
            assert torch.allclose(model(x), y, atol=1e-6)
        assert torch.equal(model(x), y)

    def test_a_checkpoint_of_the_plain_layer(self):
        """Loading one gives the layer its weight: the synapses add up to it, as far apart as they were."""
        model, x = self.trained()
        apart = (model[0].synapses[0] - model[0].synapses[1]).detach()
        plain, _ = made("Linear", seed=5)
        model.load_state_dict(plain.state_dict())
        assert torch.allclose(model(x), plain(x), atol=1e-6)
        assert torch.allclose(model[0].synapses[0] - model[0].synapses[1], apart, atol=1e-6)
        assert torch.equal(model.state_dict()["0.weight"], plain[0].weight)


class TestReference:
    def test_alone_is_bound_and_has_nothing_to_do(self):
        """With no other mechanism attached, an optimizer is bound and steps as if alone."""
        model, x = split("Linear", law="reference")
        twin = copy.deepcopy(model)
        steppers = [OPTIMIZERS["Adam"](each.parameters()) for each in (model, twin)]
        bc.Plasticity(model).bind(steppers[0])
        for each, stepper in zip((model, twin), steppers, strict=True):
            step(each, stepper, x)
        assert torch.equal(model[0].weight, twin[0].weight)

    @pytest.mark.parametrize("name", ["Linear", "Conv2d", "YatLinear", "ConvTranspose2d, grouped"])
    def test_adds_outputs_up(self, name):
        """Each output is the sum over its group of what the activation makes of the layer's output."""
        model, x = made(name)
        y = model(x).tanh()
        axis = -1 if y.dim() == 2 else 1
        first, second = y.movedim(axis, 0)[::2], y.movedim(axis, 0)[1::2]
        expected = (first + second).repeat_interleave(2, 0).movedim(0, axis)
        options = {"law": "reference", "synapses": 2, "activation": "tanh"}
        plan = bc.plan(model, attach({"weight_splitting": options}))
        assert "changes what the layer computes" in plan.warnings[0]
        plan.apply()
        assert torch.allclose(model(x), expected, atol=1e-6)
        assert torch.allclose(bc.revert(model)(x).tanh(), y)

    def test_groups_that_do_not_fit(self):
        """Where the number of outputs can't be divided the layer is left alone, and the numbers are named."""
        model, _ = made("Linear")
        plan = bc.plan(model, attach({"weight_splitting": {"law": "reference", "synapses": 3}}))
        assert not plan.applied
        assert "its 4 outputs can't be added up in groups of 3" in plan.skipped[0].reason


@pytest.mark.parametrize(
    ("make", "kind", "reason"),
    [
        pytest.param(lambda: nn.GRU(4, 4), "recurrent", "of a GRU can't be split", id="recurrent"),
        pytest.param(lambda: nn.Embedding(4, 4, max_norm=1.0), "embedding", "max_norm", id="max_norm"),
    ],
)
def test_what_can_not_be_split(make, kind, reason):
    """A weight that isn't simply read by the forward is left alone, with the reason."""
    plan = bc.plan(nn.Sequential(make()), attach("weight_splitting", type=kind))
    assert not plan.applied
    assert reason in plan.skipped[0].reason
