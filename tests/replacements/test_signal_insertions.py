"""Rules that attach signal functions behind layers: what changes, what doesn't, and the way back."""

import copy
import inspect
import pickle

import pytest
import torch
from small_models import seeded
from torch import nn

import bioconvert as bc
from bioconvert.functional import backward_gradient_normalization, compress_signal
from bioconvert.layers import CompressesOutput, NormalizesGradient, YatLinear

BGN = {"backward_gradient_norm": {"eps": 1e-6}}
COMPRESS = {"compress": {"bgn_mid": True, "leak": 0.1, "mode": "dampening"}}
LEARNT = {"compress": {"trainable_leak": True}}
ATTACHED = [
    pytest.param(each, id=name) for each, name in ((BGN, "bgn"), (COMPRESS, "compress"), (LEARNT, "leak"))
]


def rules(*attach, **match):
    return {"version": 1, "rules": [{"match": match or {"type": ["linear", "conv"]}, "attach": list(attach)}]}


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(4 * 36, 5),
        nn.ReLU(inplace=True),
        nn.Linear(5, 2),
    )


def by_hand(model, x, function):
    """Compute what a network gives with a function behind each layer."""
    for each in model:
        x = each(x)
        if isinstance(each, (nn.Linear, nn.Conv2d)):
            x = function(x).clone()
    return x


def gradients(model, output):
    return torch.autograd.grad(output.square().sum(), [*model.parameters()])


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class TestGradientNorm:
    @pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
    def test_outputs_stay(self, x, mode):
        """The output is the same, bit for bit."""
        model = network().train(mode == "train")
        expected = model(x)
        bc.convert(model, rules(BGN))
        with torch.set_grad_enabled(mode != "no_grad"):
            assert torch.equal(model(x), expected)

    def test_gradients_are_normalised_behind_each_layer(self, x):
        """They are those of the network with the function behind each layer that was matched."""
        plain, model = network(), bc.convert(network(), rules(BGN))
        expected = gradients(plain, by_hand(plain, x, backward_gradient_normalization))
        for one, other in zip(gradients(model, model(x)), expected, strict=True):
            torch.testing.assert_close(one, other)

    def test_stands_behind_a_replaced_layer(self, x):
        """In one rule set, a layer can be replaced and its gradient normalised."""
        replace = {"match": {"type": "Linear"}, "replace": {"with": "YatLinear"}}
        both = {"version": 1, "rules": [replace, *rules(BGN)["rules"]]}
        model, plain = bc.convert(network(), both), bc.convert(network(), {"version": 1, "rules": [replace]})
        assert isinstance(model[3], YatLinear)
        assert isinstance(model[3], NormalizesGradient)
        assert torch.equal(model(x), plain(x))

    def test_stands_with_a_mechanism_of_plasticity(self, x):
        """A layer can carry plasticity, too, and bind it."""
        model = network()
        expected = model(x)
        bc.convert(model, rules("fuzzy_lr", BGN))
        bc.Plasticity(model).bind(torch.optim.SGD(model.parameters(), lr=0.1))
        assert torch.equal(model(x), expected)

    def test_normalises_the_first_of_several_outputs(self):
        """Of a recurrent layer that is the output, and the state goes unchanged."""
        layer, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
        output, state = layer(x)
        bc.convert(layer, rules(BGN, type="GRU"))
        normalised, same = layer(x)
        assert torch.equal(normalised, output)
        assert torch.equal(same, state)
        one, other = (
            torch.autograd.grad(normalised.sum() * s, layer.weight_ih_l0, retain_graph=True)[0]
            for s in (1, 9)
        )
        torch.testing.assert_close(one, other)

    def test_integers_go_by(self):
        """What has no gradient stays as it is."""

        class Rounds(nn.Module):
            def forward(self, x):
                return x.long()

        model = bc.convert(nn.Sequential(Rounds()), rules(BGN, path="0"))
        assert model(torch.ones(2)).dtype is torch.int64


class TestCompress:
    def test_outputs_are_compressed_behind_each_layer(self, x):
        """Values and gradients are those of the network with the function behind each matched layer."""
        plain, model = network(), bc.convert(network(), rules(COMPRESS))
        expected = by_hand(plain, x, lambda x: compress_signal(x, 0.1, bgn_mid=True, mode="dampening"))
        torch.testing.assert_close(model(x), expected)
        for one, other in zip(gradients(model, model(x)), gradients(plain, expected), strict=True):
            torch.testing.assert_close(one, other)

    def test_a_learnt_leak_is_a_parameter_of_the_layer(self, x):
        """It stands beside the weight, at 1, takes its type and gets a gradient."""
        model = bc.convert(network().double(), rules(LEARNT))
        assert torch.equal(model[0].compressor_leak_scale, torch.ones(1).double())
        model(x.double()).square().sum().backward()
        assert model[0].compressor_leak_scale.grad.abs() > 0

    def test_the_plan_warns(self):
        """It says that the model will compute something else."""
        plan = bc.plan(network(), rules(COMPRESS))
        assert "what the model computes changes" in str(plan)


@pytest.mark.parametrize("attach", ATTACHED)
class TestEveryInsertion:
    def test_comes_off_without_a_trace(self, x, attach):
        """Revert restores classes, attributes, keys and outputs."""
        model, plain = network(), network()
        bc.revert(bc.convert(model, rules(attach)))
        assert torch.equal(model(x), plain(x))
        assert [type(each) for each in model] == [type(each) for each in plain]
        assert [vars(each).keys() for each in model] == [vars(each).keys() for each in plain]
        assert model.state_dict().keys() == plain.state_dict().keys()

    def test_copies_and_files(self, x, attach, tmp_path):
        """Pickle, deepcopy, save and load keep what was attached."""
        model = bc.convert(network(), rules(attach))
        bc.save(model, tmp_path / "model")
        loaded = bc.load(tmp_path / "model", factory=network)
        expected = gradients(model, model(x))
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
            assert torch.equal(copied(x), model(x))
            for one, other in zip(gradients(copied, copied(x)), expected, strict=True):
                assert torch.equal(one, other)

    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own doing
    def test_compiles_and_traces(self, x, attach):
        """`torch.compile(fullgraph=True)`, `torch.export` and a symbolic trace go on working."""
        model = bc.convert(network(), rules(attach))
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        for one, other in zip(gradients(model, compiled(x)), gradients(model, model(x)), strict=True):
            torch.testing.assert_close(one, other)
        torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))
        assert torch.equal(torch.fx.symbolic_trace(model)(x), model(x))

    def test_keeps_name_and_signature(self, attach):
        """The layer shows itself as what it was."""
        layer = bc.convert(network(), rules(attach))[0]
        assert repr(layer) == repr(network()[0])
        assert inspect.signature(layer.forward) == inspect.signature(nn.Conv2d(1, 1, 1).forward)

    def test_once_only(self, attach):
        """Attached again, it is skipped with the reason."""
        model = bc.convert(network(), rules(attach))
        name = next(iter(attach))
        reasons = {each.reason for each in bc.plan(model, rules(attach)).skipped}
        assert reasons == {f"it is a {name} already, by rule 'rule 1'"}

    def test_parameters_are_refused(self, attach):
        """A rule that selects parameters is told to select modules."""
        plan = bc.plan(network(), rules(attach, parameter="**.weight"))
        assert all("select the module, not a parameter of it" in each.reason for each in plan.skipped)
        assert not plan.applied


def test_both_on_one_layer(x):
    """A layer can carry both, and loses them together."""
    model = bc.convert(network(), rules(COMPRESS, BGN))
    assert isinstance(model[0], CompressesOutput)
    assert isinstance(model[0], NormalizesGradient)
    bc.revert(model)
    assert type(model[0]) is nn.Conv2d


def test_a_learnt_leak_needs_a_place():
    """A module without parameters can't have one; a fixed leak it can."""
    plan = bc.plan(network(), rules(LEARNT, type="ReLU"))
    assert "a ReLU has no parameter of its own" in plan.skipped[0].reason
    assert bc.plan(network(), rules(COMPRESS, type="ReLU")).applied


@pytest.mark.parametrize("given", [{"y": 1}, [1]])
def test_outputs_that_arent_tensors(given):
    """A module that gives something else is an error that says so."""

    class Gives(nn.Module):
        def forward(self, x):
            return given

    model = bc.convert(nn.Sequential(Gives()), rules(BGN, path="0"))
    with pytest.raises(TypeError, match=f"a Gives gives a {type(given).__name__}"):
        model(torch.ones(2))


def test_a_layer_whose_weight_is_read_around_its_forward_is_called():
    """What follows a layer takes effect where its owner would hand its weight to a function."""
    encoder = seeded(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    before = encoder(x)
    rule = {"match": {"type": "linear"}, "attach": [{"compress": {}}]}
    for path in ("self_attn.out_proj", "linear1", "linear2"):
        rule["match"] = {"type": "linear", "path": path}
        bc.convert(encoder, {"version": 1, "rules": [rule]})
        with torch.no_grad():
            fast = encoder(x)
        assert not torch.allclose(fast, before), path
        torch.testing.assert_close(encoder(x), fast, msg=path)
        bc.revert(encoder)
        torch.testing.assert_close(encoder(x), before, msg=path)
