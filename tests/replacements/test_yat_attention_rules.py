"""Rules that turn torch's attention into Yat attention: conversion, morph, revert and files."""

import copy
import pickle

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.layers import YatLinear, YatMultiheadAttention
from bioconvert.layers.encoder_layer import CallingTransformerEncoderLayer

WIDTH, HEADS = 8, 2
X = torch.linspace(-1, 1, 3 * 5 * WIDTH).view(3, 5, WIDTH).sin()


def rules(*others, **options):
    """Give a rule set under which every attention is replaced."""
    rule = {"match": {"type": "attention"}, "replace": {"with": "YatMultiheadAttention", **options}}
    return {"version": 1, "rules": [rule, *others]}


class Attending(nn.Module):
    """Attends to itself and to something else, and hands out the weights."""

    def __init__(self, **options):
        super().__init__()
        self.own = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options)
        self.cross = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, kdim=4, vdim=4)

    def forward(self, x):
        y, weights = self.own(x, x, x)
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        z, _ = self.cross(query=y, key=x[..., :4], value=x[..., 4:], attn_mask=hidden, need_weights=False)
        return z + weights.square().sum(-1, keepdim=True)


def encoder():
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def decoder():
    return OfOneInput(nn.TransformerDecoderLayer(WIDTH, HEADS, 16, dropout=0.0, batch_first=True))


class OfOneInput(nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, x):
        return self.decoder(x, x.flip(1))


MODELS = [
    pytest.param(Attending, id="attention"),
    pytest.param(encoder, id="encoder"),
    pytest.param(decoder, id="decoder"),
]


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def attentions(model):
    return [each for each in model.modules() if isinstance(each, nn.MultiheadAttention)]


MODES = [(True, True), (False, True), (False, False)]


def outputs(model, *, training, grad):
    with torch.set_grad_enabled(grad):
        return model.train(training)(X)


@pytest.mark.parametrize("make", MODELS)
class TestConversion:
    def test_keeps_the_projections(self, make):
        """Every attention changes its class, and its weights are the very same objects."""
        model = seeded(make)
        before = dict(model.named_parameters())
        bc.convert(model, rules())
        assert all(type(each) is YatMultiheadAttention for each in attentions(model))
        after = dict(model.named_parameters())
        assert all(after[name] is each for name, each in before.items())
        assert {name.rpartition(".")[2] for name in after.keys() - before.keys()} == {"alpha"}

    def test_computes_what_layers_built_anew_compute(self, make):
        """In training, evaluation and without gradients the output is that of constructed layers."""
        original = seeded(make)
        model = bc.convert(seeded(make), rules(per_head=True, epsilon=0.1))
        for training, grad in MODES:
            found = outputs(model, training=training, grad=grad)
            expected = outputs(rebuilt(original), training=training, grad=grad)
            torch.testing.assert_close(found, expected)
            assert not torch.allclose(found, outputs(original, training=training, grad=grad), atol=1e-4)

    def test_every_parameter_learns(self, make):
        """Each has a gradient."""
        model = bc.convert(seeded(make), rules(learnable_epsilon=True, epsilon=0.1))
        model(X).square().sum().backward()
        assert all(each.grad is not None for each in model.parameters())

    def test_twice_is_once(self, make):
        """A second conversion finds nothing to do."""
        model = bc.convert(seeded(make), rules())
        expected, state = model(X), list(model.state_dict())
        again = bc.plan(model, rules())
        assert not again.applied
        assert {entry.path for entry in again.skipped} == {
            name for name, each in model.named_modules() if isinstance(each, nn.MultiheadAttention)
        }
        assert torch.equal(model(X), expected)
        assert list(model.state_dict()) == state

    @pytest.mark.parametrize("options", [{}, {"morph": {"steps": 10}}], ids=["at once", "morphing"])
    def test_copies_and_files_compute_the_same(self, make, options, tmp_path):
        """deepcopy, pickle, save and load keep everything."""
        model = bc.convert(seeded(make), rules(block_size=2, **options))
        for _ in range(3):
            bc.morph_step(model)
        expected = outputs(model, training=False, grad=False)
        bc.save(model, tmp_path / "out")
        loaded = bc.load(tmp_path / "out", factory=make)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
            assert torch.equal(outputs(twin, training=False, grad=False), expected)

    @pytest.mark.parametrize("options", [{}, {"morph": {"steps": 10}}], ids=["at once", "morphing"])
    def test_reverting_leaves_no_trace(self, make, options):
        """Classes, keys, values and attributes are as before."""
        original, model = seeded(make), bc.convert(seeded(make), rules(per_head=True, **options))
        bc.revert(model)
        assert [type(m) for m in model.modules()] == [type(m) for m in original.modules()]
        assert [sorted(vars(m)) for m in model.modules()] == [sorted(vars(m)) for m in original.modules()]
        for training, grad in MODES:
            expected = outputs(original, training=training, grad=grad)
            assert torch.equal(outputs(model, training=training, grad=grad), expected)

    def test_compiles_and_exports(self, make):
        """The converted model is captured whole."""
        model = bc.convert(seeded(make), rules()).eval()
        expected = model(X)
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(X), expected)
        exported = torch.export.export(model, (X,), strict=False).module()
        torch.testing.assert_close(exported(X), expected)


def rebuilt(original):
    """Give a copy with constructed Yat attentions on the original's weights, called by their layers."""
    model = copy.deepcopy(original)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, constructed(child))
    return model


def constructed(attention):
    module = YatMultiheadAttention(
        WIDTH,
        HEADS,
        attention.dropout,
        kdim=attention.kdim,
        vdim=attention.vdim,
        batch_first=True,
        per_head=True,
        epsilon=0.1,
    )
    module.load_state_dict(attention.state_dict())
    return module


@pytest.mark.parametrize("make", MODELS)
class TestMorph:
    def test_begins_as_the_original(self, make):
        """At step 0 outputs and gradients are the original's, bit for bit."""
        original, model = seeded(make), bc.convert(seeded(make), rules(morph={"steps": 10}))
        for training, grad in MODES:
            before = outputs(original, training=training, grad=grad)
            after = outputs(model, training=training, grad=grad)
            assert torch.equal(before, after)
            if grad:
                before.square().sum().backward()
                after.square().sum().backward()
        own = dict(model.named_parameters())
        for name, parameter in original.named_parameters():
            assert torch.equal(own[name].grad, parameter.grad), name

    def test_ends_as_the_replacement(self, make):
        """After the last step, and when finalized, it is what a conversion at once gives."""
        expected = bc.convert(seeded(make), rules())
        model = bc.convert(seeded(make), rules(morph={"steps": 4}))
        assert [bc.morph_step(model) for _ in range(4)] == [0.25, 0.5, 0.75, 1.0]
        for training, grad in MODES:
            ended = outputs(expected, training=training, grad=grad)
            torch.testing.assert_close(outputs(model, training=training, grad=grad), ended)
        bc.finalize(model)
        assert [type(m).__name__ for m in model.modules()] == [type(m).__name__ for m in expected.modules()]
        torch.testing.assert_close(model(X), expected(X))

    def test_is_the_same_when_compiled(self, make):
        """One graph serves every step."""
        model = bc.convert(seeded(make), rules(morph={"steps": 4})).eval()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        for _ in range(5):
            torch.testing.assert_close(compiled(X), model(X))
            bc.morph_step(model)


def test_blends_output_and_weights():
    """On the way, both are (1 − λ)·original + λ·replacement."""
    original = seeded(lambda: nn.MultiheadAttention(WIDTH, HEADS, batch_first=True))
    end = bc.convert(nn.Sequential(copy.deepcopy(original)), rules())[0]
    module = bc.convert(nn.Sequential(copy.deepcopy(original)), rules(morph={"steps": 4}))[0]
    module.morph_step.fill_(1)
    expected = [0.75 * f + 0.25 * g for f, g in zip(original(X, X, X), end(X, X, X), strict=True)]
    torch.testing.assert_close(list(module(X, X, X)), expected)
    assert module(X, X, X, need_weights=False)[1] is None


def test_the_encoder_layer_calls_it_from_now_on():
    """The plan says so, and the layer that had a fused kernel becomes one that calls its attention."""
    model = seeded(encoder)
    plan = bc.plan(model, rules())
    assert all("TransformerEncoderLayer calls it" in entry.reason for entry in plan.applied)
    plan.apply()
    assert all(type(each) is CallingTransformerEncoderLayer for each in model.layers)


@pytest.mark.parametrize("options", [{}, {"morph": {"steps": 4}}], ids=["at once", "morphing"])
@pytest.mark.parametrize("make", MODELS)
def test_goes_with_a_replaced_output_projection(make, options):
    """One call replaces an attention and its projection; each is called, and both are reverted."""
    other = {"match": {"path": "**.out_proj"}, "replace": {"with": "YatLinear", **options}}
    original, model = seeded(make), bc.convert(seeded(make), rules(other, **options))
    for _ in range(4):
        bc.morph_step(model)
    bc.finalize(model)
    seen = []
    for each in attentions(model):
        assert isinstance(each, YatMultiheadAttention)
        assert isinstance(each.out_proj, YatLinear)
        each.out_proj.register_forward_hook(lambda *_: seen.append(1))
    outputs(model, training=False, grad=False)
    assert len(seen) == len(attentions(model))
    bc.revert(model)
    assert torch.equal(outputs(model, training=True, grad=True), outputs(original, training=True, grad=True))


def test_the_plan_warns():
    """It says that the attention computes something else, and what can be done."""
    plan = bc.plan(seeded(encoder), rules())
    assert "computes something else" in str(plan)
    assert "`morph`" in str(plan)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": "none", "per_head": True}, "per_head must come with a learnable alpha"),
        ({"per_head": True, "alpha": 0.5}, "per_head must come with a learnable alpha"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, said):
    """The plan gives the reason."""
    plan = bc.plan(seeded(encoder), rules(**options))
    assert not plan.applied
    assert all(said in entry.reason for entry in plan.skipped)


@pytest.mark.parametrize("options", [{"epsilon": 0.0}, {"block_size": 0}, {"alpha": "exponent"}])
def test_options_out_of_bounds_are_refused_with_the_rules(options):
    """A mistake is found before any model is."""
    with pytest.raises(bc.RuleError, match=next(iter(options))):
        bc.RuleSet.from_dict(rules(**options))
