"""The cases that break model converters, each with its outcome."""

import copy
import functools
import pickle

import pytest
import torch
from small_models import (
    AttributeReads,
    Branching,
    Cnn,
    Mlp,
    OwnForward,
    ReadAround,
    SharedLayer,
    SometimesReadAround,
    StaleReferences,
    Tied,
    Tying,
    seeded,
)
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, weight_norm

import bioconvert as bc
from bioconvert.layers import YatConv2d, YatLinear

LINEARS = {
    "version": 1,
    "rules": [{"name": "linears", "match": {"type": "linear"}, "replace": {"with": "YatLinear"}}],
}
X = torch.linspace(-1, 1, 12).view(3, 4)


def skipped(plan) -> dict[str, str]:
    return {entry.path: entry.reason for entry in plan.skipped}


def applied(plan) -> list[str]:
    return [entry.path for entry in plan.applied]


class TestCase1WeightReadAroundForward:
    def test_a_layer_answers_for_its_weight(self):
        """A layer whose weight goes to `F.linear` is converted, and called from then on."""
        model = seeded(ReadAround)
        report = bc.plan(model, LINEARS).apply()
        assert applied(report) == ["qkv", "out"]
        assert "ReadAround calls it from now on" in report.applied[0].reason
        assert torch.equal(model(X), model.out(model.qkv(X)))

    def test_attention_is_converted_through_its_owner(self):
        """`nn.MultiheadAttention` hands its projection's weight to a function; its own subclass calls it."""
        attention = seeded(lambda: nn.MultiheadAttention(8, 2, batch_first=True)).eval()
        x = torch.linspace(-1, 1, 2 * 5 * 8).view(2, 5, 8)
        with torch.no_grad():
            before = attention(x, x, x, need_weights=False)[0]
            bc.convert(attention, LINEARS)
            after = attention(x, x, x, need_weights=False)[0]
        assert isinstance(attention.out_proj, YatLinear)
        assert isinstance(attention, nn.MultiheadAttention)
        assert not torch.allclose(before, after)
        assert type(bc.revert(attention)) is nn.MultiheadAttention
        with torch.no_grad():
            assert torch.equal(attention(x, x, x, need_weights=False)[0], before)

    @pytest.mark.parametrize("separate", [False, True])
    def test_a_layer_that_is_sometimes_called_is_used_either_way(self, separate):
        """Whether this very instance calls the layer or reads its weight, the new layer is what counts."""
        model = seeded(lambda: SometimesReadAround(separate))
        bc.convert(model, LINEARS)
        if not separate:
            assert torch.equal(model(X), model.qkv(X))
            return
        unbiased = copy.deepcopy(model.qkv)
        unbiased.bias = None
        assert torch.equal(model(X), unbiased(X))

    def test_other_uses_of_a_weight_need_inputs(self):
        """Where it isn't certain that a function gets the weight, the refusal asks for example inputs."""

        class Product(nn.Module):
            def __init__(self):
                super().__init__()
                self.f = nn.Linear(4, 4, bias=False)
                self.scale = nn.Linear(4, 4)

            def forward(self, x):
                return x @ self.f.weight.t() * self.scale.weight.sum()

        model = Product()
        reasons = skipped(bc.plan(model, LINEARS))
        assert "give example_inputs" in reasons["f"]
        report = bc.plan(model, LINEARS, example_inputs=(X,)).apply()
        assert applied(report) == ["f"]
        assert "never ran" in skipped(report)["scale"]
        assert torch.equal(model(X), model.f(X) * model.scale.weight.sum())

    def test_an_unused_layer_goes_back(self):
        """What the proof on example inputs finds unused is as it was, and the report says so."""

        class Hidden(SometimesReadAround):
            def forward(self, x):
                weight = getattr(self, "qkv").weight if self.separate else None  # noqa: B009
                return x @ weight.t() + self.other(x)

        model = Hidden(True)
        model.other = nn.Linear(4, 4)
        report = bc.plan(model, LINEARS, example_inputs=(X,)).apply()
        assert [entry.path for entry in report.applied] == ["other"]
        assert "never ran" in skipped(report)["qkv"]
        assert type(model.qkv) is nn.Linear
        with pytest.raises(bc.ConversionError, match="not every layer could be replaced"):
            bc.convert(bc.revert(model), LINEARS, example_inputs=(X,), strict=True)
        assert type(model.other) is nn.Linear


class TestCase2FusedEvaluation:
    def test_the_encoder_layer_is_converted_through_its_owner(self):
        """The fused kernel of evaluation would use the old weights alone: it is switched off."""
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        report = bc.plan(layer, LINEARS).apply()
        assert applied(report) == ["self_attn.out_proj", "linear1", "linear2"]
        assert isinstance(layer, nn.TransformerEncoderLayer)
        assert type(bc.revert(layer)) is nn.TransformerEncoderLayer

    def test_training_and_evaluation_agree(self):
        """With or without inputs, nothing is converted on one path only."""
        layer = seeded(lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True))
        x = torch.randn(2, 5, 8)
        bc.convert(layer, LINEARS, example_inputs=(x,))
        with torch.no_grad():
            assert torch.allclose(layer.train()(x), layer.eval()(x), atol=1e-6)


class TestCase3TiedParameters:
    def test_a_tie_stays_a_tie(self):
        """The converted head still shares its weight with the embedding."""
        model = bc.convert(Tied(), LINEARS)
        assert isinstance(model.head, YatLinear)
        assert model.head.weight is model.embed.weight

    def test_a_tied_tensor_gets_no_new_values(self):
        """A rule that would overwrite one end of a tie is refused, with the names of both."""

        class TiedBias(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
                self.b.bias = self.a.bias

            def forward(self, x):
                return torch.relu(self.b(torch.relu(self.a(x))))

        plan = bc.plan(TiedBias(), LINEARS, example_inputs=(X,))
        assert "'a.bias', 'b.bias'" in skipped(plan)["a"]


class TestCase4OneModuleManyPaths:
    def test_a_shared_layer_is_converted_once(self):
        """Both names lead to the same converted object."""
        model = SharedLayer()
        report = bc.plan(model, LINEARS, example_inputs=(X,)).apply()
        assert len(report.applied) == 1
        assert model.first is model.second
        assert isinstance(model.second, YatLinear)
        model(X).sum().backward()

    def test_a_layer_under_two_parents(self):
        """A rule on one of its names converts it for both."""
        shared = nn.Linear(4, 4)
        model = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.Sequential(shared)})
        rule = {"match": {"path": "b.0"}, "replace": {"with": "YatLinear"}}
        bc.convert(model, {"version": 1, "rules": [rule]})
        assert isinstance(model["a"][0], YatLinear)
        assert model["a"][0] is model["b"][0]

    def test_an_exception_by_any_name_holds(self):
        """A `not` glob on one name keeps the shared layer from being touched."""
        model = SharedLayer()
        rule = {"match": {"type": "linear", "not": ["second"]}, "replace": {"with": "YatLinear"}}
        with pytest.raises(bc.RuleError, match="matches nothing"):
            bc.convert(model, {"version": 1, "rules": [rule]})


class TestCase5LookAlikes:
    def test_a_forward_of_its_own_is_skipped(self):
        """The reason says what to write to convert it all the same."""
        plan = bc.plan(nn.Sequential(OwnForward(4, 4), nn.Linear(4, 4)), LINEARS)
        assert applied(plan) == ["1"]
        assert "subclasses: true" in skipped(plan)["0"]

    def test_subclasses_true_composes_a_class(self):
        """The converted layer is still an instance of the user's class, and can be copied and pickled."""
        rule = {"match": {"type": "linear", "subclasses": True}, "replace": {"with": "YatLinear"}}
        model = bc.convert(nn.Sequential(OwnForward(4, 4)), {"version": 1, "rules": [rule]})
        assert isinstance(model[0], OwnForward)
        assert isinstance(model[0], YatLinear)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert type(twin[0]) is type(model[0])
            assert torch.equal(twin(X), model(X))
        assert type(bc.revert(model)[0]) is OwnForward

    def test_an_uninitialised_lazy_layer_is_refused(self):
        """Its shape isn't known; once it is, it is a plain Linear and converted."""
        model = nn.Sequential(nn.LazyLinear(4))
        assert "run the model once" in skipped(bc.plan(model, LINEARS))["0"]
        model(X)
        assert applied(bc.plan(model, LINEARS)) == ["0"]

    def test_timm_look_alikes(self, timm):
        """`Conv2dSame` has a forward of its own; the activation inside `BatchNormAct2d` is found."""
        from timm.layers import BatchNormAct2d, Conv2dSame

        model = nn.Sequential(Conv2dSame(3, 4, 3), BatchNormAct2d(4), nn.Conv2d(4, 4, 3), BatchNormAct2d(4))
        rule = {
            "match": {"type": "conv", "followed_by": ["BatchNorm2d?", "ReLU"]},
            "replace": {"with": "YatConv2d", "activation": "drop"},
        }
        plan = bc.plan(model, {"version": 1, "rules": [rule]})
        assert applied(plan) == ["2"]
        assert "forward of its own" in skipped(plan)["0"]
        plan.apply()
        x = torch.linspace(-1, 1, 12).view(3, 4)
        assert torch.equal(model[1].act(-x), F.relu(-x))
        assert torch.equal(model[3].act(-x), -x)

    def test_the_transposed_linear_of_transformers(self, transformers):
        """`Conv1D` keeps its weight as [in, out]: the Yat layer respects the layout."""
        from transformers.pytorch_utils import Conv1D

        model = nn.Sequential(Conv1D(3, 4))
        bc.convert(model, LINEARS)
        twin = YatLinear(4, 3)
        twin.load_state_dict({**model[0].state_dict(), "weight": model[0].weight.t()})
        for name in ("epsilon", "floor"):
            setattr(twin, name, getattr(model[0], name))
        assert isinstance(model[0], Conv1D)
        assert torch.allclose(model(X), twin(X), atol=1e-6)


class TestCase6StaleReferences:
    def test_aliases_follow(self):
        """A Python list that also holds the layer holds the converted one."""
        model = bc.convert(StaleReferences(), LINEARS)
        assert model.alias[0] is model.f
        assert isinstance(model.alias[0], YatLinear)

    def test_a_partial_follows(self):
        """`functools.partial` of the module calls the new forward."""
        layer = nn.Linear(4, 4)
        model = nn.Sequential(layer)
        call = functools.partial(layer, X)
        bc.convert(model, LINEARS)
        assert torch.equal(call(), model(X))

    def test_a_forward_that_was_bound_before_is_detected(self):
        """`self.fn = self.f.forward` would go on calling the old forward: refused, with the name."""

        class Bound(nn.Module):
            def __init__(self):
                super().__init__()
                self.f, self.g = nn.Linear(4, 4), nn.Linear(4, 4)
                self.fn = self.f.forward

            def forward(self, x):
                return self.g(self.fn(x))

        plan = bc.plan(Bound(), LINEARS)
        assert applied(plan) == ["g"]
        assert "held as a bound method (fn)" in skipped(plan)["f"]

    def test_an_unregistered_layer_is_named_and_unharmed(self):
        """A layer in a plain list, which torch neither trains nor saves, stays; the plan says so."""
        model = StaleReferences()
        report = bc.plan(model, LINEARS).apply()
        assert applied(report) == ["f"]
        assert "neither trains nor saves it" in skipped(report)["hidden[0]"]
        assert type(model.hidden[0]) is nn.Linear


class TestCase7AttributeReads:
    def test_a_model_that_looks_at_its_layers_still_works(self):
        """Reads of `.weight.dtype`, `.stride` and `isinstance` are as before; both layers are converted."""
        model = seeded(AttributeReads)
        bc.convert(model, "yat-all")
        assert type(model.wo).__name__ == "YatLinear"
        assert type(model.conv).__name__ == "YatConv1d"
        model(X.double()).sum().backward()

    def test_a_layer_that_is_called_and_read_is_converted(self):
        """The functional use sees the same weight; the call is Yat."""
        model = seeded(Tying)
        weight = model.f.weight
        bc.convert(model, LINEARS)
        assert isinstance(model.f, YatLinear)
        assert model.f.weight is weight
        assert torch.equal(model(X), nn.functional.linear(model.f(X), weight))


class TestCase8Hooks:
    def test_every_hook_is_kept_and_fired_once(self):
        """Forward, pre-forward, backward, state-dict and load hooks survive the change of class."""
        layer = nn.Linear(4, 4)
        fired = []
        layer.register_forward_pre_hook(lambda *_: fired.append("pre"))
        layer.register_forward_hook(lambda *_: fired.append("forward"))
        layer.register_full_backward_hook(lambda *_: fired.append("backward"))
        layer.register_state_dict_post_hook(lambda *_: fired.append("state_dict"))
        layer.register_load_state_dict_post_hook(lambda *_: fired.append("load"))
        model = bc.convert(nn.Sequential(layer), LINEARS)
        model(X.clone().requires_grad_()).sum().backward()
        model.load_state_dict(model.state_dict())
        assert sorted(fired) == ["backward", "forward", "load", "pre", "state_dict"]

    @pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
    def test_old_weight_norm_is_a_hook(self):
        """The weight is computed before each call, and the Yat layer uses it."""
        model = nn.Sequential(weight_norm(nn.Linear(4, 4)))
        bc.convert(model, LINEARS)
        before = model(X)
        with torch.no_grad():
            model[0].weight_g.mul_(2)
        assert not torch.allclose(before, model(X))


class TestCase9Parametrized:
    @pytest.mark.parametrize("make", [parametrizations.weight_norm, parametrizations.spectral_norm])
    def test_is_refused(self, make):
        """The reason names the parametrized tensor and the way out."""
        plan = bc.plan(nn.Sequential(make(nn.Linear(4, 4))), LINEARS)
        assert applied(plan) == []
        assert "weight is parametrized" in skipped(plan)["0"]


class TestCase10FlagsAndLayout:
    def test_flags_stay(self):
        """Frozen weights stay frozen, and so are additions; a layer in evaluation stays there."""
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[0].requires_grad_(False)
        model[0].eval()
        bc.convert(model, LINEARS)
        assert not any(p.requires_grad for p in model[0].parameters())
        assert all(p.requires_grad for p in model[1].parameters())
        assert not model[0].training
        assert model[1].training

    def test_dtype(self):
        """In bf16 the additions are bf16, and the output too."""
        model = bc.convert(nn.Sequential(nn.Linear(4, 4)).bfloat16(), LINEARS)
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        assert model(X.bfloat16()).dtype is torch.bfloat16

    def test_meta(self):
        """A model without storage is planned and converted without any."""
        with torch.device("meta"):
            model = Mlp()
        bc.convert(model, LINEARS)
        assert all(p.is_meta for p in model.parameters())
        assert isinstance(model.fc1, YatLinear)

    def test_channels_last(self):
        """The weight keeps its memory format, being the same tensor."""
        model = Cnn().to(memory_format=torch.channels_last)
        bc.convert(model, "yat-all")
        assert model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
        model(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)).sum().backward()

    def test_non_persistent_buffers_stay_so(self):
        """What was not saved isn't saved now."""
        model = nn.Sequential(nn.Linear(4, 4))
        model[0].register_buffer("cache", torch.zeros(1), persistent=False)
        bc.convert(model, LINEARS)
        assert "0.cache" not in model.state_dict()


GEOMETRIES = [
    pytest.param(lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9), id="1d, strided"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 8, 8), id="groups"),
    pytest.param(lambda: nn.Conv2d(4, 4, 3, groups=4), (2, 4, 8, 8), id="depthwise"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3, dilation=2), (2, 4, 8, 8), id="dilation"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 8, 8), id="same"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 8, 8), id="circular"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 8, 8), id="reflect"),
    pytest.param(lambda: nn.Conv2d(4, 6, (3, 5), padding=(1, 2)), (2, 4, 8, 8), id="rectangular"),
    pytest.param(lambda: nn.Conv2d(4, 6, 1, stride=2), (2, 4, 8, 8), id="strided 1×1"),
    pytest.param(lambda: nn.Conv3d(4, 6, 3, padding=1), (1, 4, 5, 5, 5), id="3d"),
]


class TestCase11ConvolutionGeometry:
    @pytest.mark.parametrize(("make", "shape"), GEOMETRIES)
    def test_every_geometry_is_the_formula_on_patches(self, make, shape):
        """Each output is (w·x + b)² / (‖x − w‖² + ε) of its own patch."""
        layer = seeded(make).double()
        x = torch.randn(shape, dtype=torch.float64)
        score = layer(x)
        norms = seeded(make).double()
        with torch.no_grad():
            norms.weight.fill_(1)
            norms.bias.zero_()
        bias = layer.bias.view(-1, *[1] * (x.dim() - 2))
        size = layer.weight.square().flatten(1).sum(1).view(-1, *[1] * (x.dim() - 2))
        distance = norms(x.square()) + size - 2 * (score - bias)
        rules = {
            "match": {"type": "conv"},
            "replace": {"with": f"Yat{type(layer).__name__}", "epsilon": 1e-3},
        }
        converted = bc.convert(layer, {"version": 1, "rules": [rules]})
        assert torch.allclose(converted(x), score.square() / (distance + 1e-3))

    def test_a_transposed_convolution_is_refused(self):
        """No Yat layer stands for it yet: the plan says what there is."""
        rule = {"match": {"type": "conv"}, "replace": {"with": "YatConv2d"}}
        plan = bc.plan(nn.Sequential(nn.ConvTranspose2d(4, 4, 3)), {"version": 1, "rules": [rule]})
        assert "YatConv2d can't replace a ConvTranspose2d" in skipped(plan)["0"]


class TestCase12WeightsThatAreNoPlainParameters:
    def test_recurrent_layers_are_refused(self):
        """A projected LSTM is no Linear: there is nothing to replace it by."""
        rule = {"match": {"type": "recurrent"}, "replace": {"with": "YatLinear"}}
        plan = bc.plan(nn.Sequential(nn.LSTM(4, 6, proj_size=3)), {"version": 1, "rules": [rule]})
        assert "YatLinear can't replace a LSTM" in skipped(plan)["0"]

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantize.*:UserWarning")
    def test_quantized_layers_are_refused(self):
        """A dynamically quantized Linear carries the name, not the weight."""
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            pytest.skip("this build of torch has no quantized engine")
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
        rule = {"match": {"path": "0"}, "replace": {"with": "YatLinear"}}
        plan = bc.plan(model, {"version": 1, "rules": [rule]})
        assert applied(plan) == []
        assert skipped(plan)["0"]

    @pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
    def test_scripted_children_are_refused(self):
        """A scripted layer is compiled already."""
        model = nn.Sequential(torch.jit.script(nn.Linear(4, 4)))
        rule = {"match": {"path": "0"}, "replace": {"with": "YatLinear"}}
        assert skipped(bc.plan(model, {"version": 1, "rules": [rule]}))["0"]


class TestCase15UntraceableTwiceInterruptedOverridden:
    def test_an_untraceable_model_is_converted_all_the_same(self):
        """A change of class needs no graph."""
        model = bc.convert(Branching(), LINEARS)
        assert isinstance(model.fc, YatLinear)

    def test_a_rule_that_needs_the_graph_says_so(self):
        """The plan tells which container can't be traced, and why."""
        rule = {"match": {"type": "linear", "followed_by": ["ReLU"]}, "replace": {"with": "YatLinear"}}
        plan = bc.plan(Branching(), {"version": 1, "rules": [rule]})
        assert applied(plan) == []
        assert "Branching" in skipped(plan)["fc"]
        assert "can't be traced" in skipped(plan)["fc"]

    def test_twice_is_once(self):
        """The second conversion changes nothing and says so."""
        model = bc.convert(seeded(Mlp), LINEARS)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        report = bc.plan(model, LINEARS).apply()
        assert report.applied == ()
        assert "is a YatLinear already" in skipped(report)["fc1"]
        assert before.keys() == model.state_dict().keys()
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    def test_a_forward_on_the_instance_is_refused(self):
        """What accelerate sets on a module would silently win over the class."""
        model = Mlp()
        model.fc1.forward = functools.partial(nn.Linear.forward, model.fc1)
        assert "set on the instance" in skipped(bc.plan(model, LINEARS))["fc1"]


def test_a_converted_conv_is_a_conv():
    """`isinstance`, geometry and parameter objects are those of the original layer."""
    model = Cnn()
    conv, weight = model.conv2, model.conv2.weight
    bc.convert(model, "yat-all")
    assert model.conv2 is conv
    assert conv.weight is weight
    assert isinstance(conv, nn.Conv2d)
    assert type(conv) is YatConv2d
    assert conv.padding == (1, 1)


class TestProofOfUse:
    @pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
    def test_a_backward_within_the_backward_counts(self):
        """A layer inside a reentrant checkpoint gets its gradient where no outer graph shows it."""

        class Checkpointed(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.f = nn.Linear(4, 4), nn.Linear(4, 4)

            def forward(self, x):
                return torch.utils.checkpoint.checkpoint(self.f, self.first(x), use_reentrant=True)

        model = seeded(Checkpointed)
        before = model.f.weight.grad = torch.ones(4, 4)
        report = bc.plan(model, LINEARS, example_inputs=(X,)).apply()
        assert applied(report) == ["first", "f"]
        assert model.f.weight.grad is before
        assert torch.equal(before, torch.ones(4, 4))

    def test_a_block_that_runs_its_own_backward_counts(self):
        """A reversible block's parameters are no inputs of its function, and get gradients all the same."""

        class Reversible(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, layer):
                ctx.layer, ctx.x = layer, x.detach()
                return layer(ctx.x)

            @staticmethod
            def backward(ctx, grad):
                with torch.enable_grad():
                    x = ctx.x.requires_grad_()
                    torch.autograd.backward(ctx.layer(x), grad)
                return x.grad, None

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.f, self.unused = (nn.Linear(4, 4) for _ in range(3))

            def forward(self, x):
                return Reversible.apply(self.first(x), self.f)

        report = bc.plan(seeded(Model), LINEARS, example_inputs=(X,)).apply()
        assert applied(report) == ["first", "f"]

    def test_a_model_without_any_backward_is_judged_by_what_runs(self):
        """Where the model's own backward fails, a layer that ran is used."""

        class Spoilt(nn.Module):
            def __init__(self):
                super().__init__()
                self.f, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

            def forward(self, x):
                y = self.f(x).sigmoid()
                z = y * 2
                y.mul_(2)
                return y + z

        report = bc.plan(seeded(Spoilt), LINEARS, example_inputs=(X,)).apply()
        assert applied(report) == ["f"]

    def test_what_morphs_is_proven_on_the_way(self):
        """At step 0 the replacement is at rest; the proof looks at it halfway, and puts the step back."""
        rule = {**LINEARS["rules"][0], "replace": {"with": "YatLinear", "morph": {"steps": 1}}}
        model = Mlp()
        report = bc.plan(model, {"version": 1, "rules": [rule]}, example_inputs=(X,)).apply()
        assert report.skipped == ()
        assert int(model.fc1.morph_step) == 0
