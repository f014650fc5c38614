"""Rules that turn recurrent layers, cells and embeddings into Yat layers."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import bioconvert as bc
from bioconvert import layers

KINDS = ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell")
TOKENS = torch.tensor([[1, 4, 2, 0, 3], [2, 2, 5, 1, 0], [3, 0, 0, 4, 5]])
OPTIONS = [
    pytest.param({}, id="kept"),
    pytest.param({"init": "fresh"}, id="fresh"),
    pytest.param({"per_unit": True, "learnable_epsilon": True, "epsilon": 0.3}, id="per row"),
    pytest.param({"init": "fresh", "alpha": "none"}, id="fresh, no alpha"),
    pytest.param({"alpha": 2}, id="constant alpha"),
]


class Reader(nn.Module):
    """Reads tokens with a recurrent layer and a cell of one kind."""

    def __init__(self, kind):
        super().__init__()
        self.embedding = nn.Embedding(6, 4, padding_idx=0)
        self.layer = getattr(nn, kind)(4, 3, num_layers=2, bidirectional=True, batch_first=True)
        self.cell = getattr(nn, f"{kind}Cell")(6, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, tokens):
        hidden, _ = self.layer(self.embedding(tokens))
        state = self.cell(hidden[:, -1])
        return self.head(state[0] if isinstance(state, tuple) else state)


def seeded(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Reader(kind)


def rules(kind, **options):
    """Give rules for a layer and a cell of one kind."""
    names = (kind, f"{kind}Cell")
    return {
        "version": 1,
        "rules": [{"match": {"type": n}, "replace": {"with": f"Yat{n}", **options}} for n in names],
    }


def embedding_rules(**options):
    rule = {"match": {"type": "embedding"}, "replace": {"with": "YatEmbedding", **options}}
    return {"version": 1, "rules": [rule]}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS[:3])
class TestEveryKindAndOption:
    def test_becomes_the_yat_layer_on_the_same_parameters(self, kind, options):
        """Classes change, and every parameter stays the same object; with `fresh` its values are new."""
        model, original = seeded(kind), seeded(kind)
        before = dict(model.named_parameters())
        report = bc.convert(model, rules(kind, **options), example_inputs=(TOKENS,))
        assert report is model
        assert type(model.layer) is getattr(layers, f"Yat{kind}")
        assert type(model.cell) is getattr(layers, f"Yat{kind}Cell")
        after = dict(model.named_parameters())
        assert all(after[name] is parameter for name, parameter in before.items())
        fresh = options.get("init") == "fresh"
        for name, value in original.named_parameters():
            redrawn = fresh and name.startswith(("layer", "cell"))
            assert torch.equal(after[name], value) is not redrawn

    def test_reverting_brings_the_original_back(self, kind, options):
        """Outputs, keys and classes are as before, values that were drawn anew included."""
        model, original = seeded(kind), seeded(kind)
        bc.convert(model, rules(kind, **options))
        assert not torch.equal(model(TOKENS), original(TOKENS))
        bc.revert(model)
        assert torch.equal(model(TOKENS), original(TOKENS))
        assert list(model.state_dict()) == list(original.state_dict())
        assert [type(m) for m in model.modules()] == [type(m) for m in original.modules()]

    def test_converting_twice_is_converting_once(self, kind, options):
        """A second call finds the layers to be what they should be."""
        model = bc.convert(seeded(kind), rules(kind, **options))
        expected = copy.deepcopy(model.state_dict())
        bc.convert(model, rules(kind, **options))
        assert list(model.state_dict()) == list(expected)
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())

    def test_copies_and_files(self, kind, options, tmp_path):
        """deepcopy, pickle and save/load give the same model."""
        model = bc.convert(seeded(kind), rules(kind, **options))
        bc.save(model, tmp_path / "out")
        loaded = bc.load(tmp_path / "out", factory=lambda: Reader(kind))
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
            assert torch.equal(twin(TOKENS), model(TOKENS))

    def test_all_new_parameters_train(self, kind, options):
        """Every parameter gets a finite gradient, so that nobody waits for one."""
        model = bc.convert(seeded(kind), rules(kind, **options))
        model(TOKENS).square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", KINDS[:3])
class TestEveryKind:
    def test_a_plan_warns_that_kept_weights_compute_something_else(self, kind):
        """With `keep` the plan says so; weights that are drawn anew need no warning."""
        kept = bc.plan(seeded(kind), rules(kind), example_inputs=(TOKENS,))
        fresh = bc.plan(seeded(kind), rules(kind, init="fresh"), example_inputs=(TOKENS,))
        assert len(kept.applied) == len(fresh.applied) == 2
        assert "computes something else" in str(kept)
        assert "computes something else" not in str(fresh)

    def test_fresh_values_are_a_function_of_the_seed(self, kind):
        """The same seed gives the same weights, another one others, whatever the random state."""
        one, other, third = (
            bc.convert(seeded(kind), rules(kind, init="fresh"), seed=seed) for seed in (1, 1, 2)
        )
        assert torch.equal(one.layer.weight_hh_l1_reverse, other.layer.weight_hh_l1_reverse)
        assert not torch.equal(one.layer.weight_hh_l1_reverse, third.layer.weight_hh_l1_reverse)
        assert not torch.equal(one.layer.weight_hh_l1_reverse, one.layer.weight_hh_l1)

    def test_fresh_values_are_what_the_constructor_draws(self, kind):
        """Biases and alpha are the same, and weights have the same bound."""
        made = bc.convert(seeded(kind), rules(kind, init="fresh")).layer
        built = getattr(layers, f"Yat{kind}")(4, 3, num_layers=2, bidirectional=True)
        for name, parameter in built.named_parameters():
            found = made.get_parameter(name)
            if name.startswith("weight"):
                assert found.abs().max() <= (3 / sum(_sizes(built, name))) ** 0.5
            else:
                assert torch.allclose(found, parameter)

    def test_alpha_fits_weights_that_stay(self, kind):
        """Yat products of weights as torch draws them are neither all near 0 nor all large."""
        layer = getattr(nn, kind)(200, 100)
        model = bc.convert(nn.ModuleList([layer]), _layer_rule(kind))
        gates = model[0]._gates("_l0", torch.float32)
        x = torch.randn(64, 200)
        products = gates.product(*gates.see(x), torch.zeros(64, 100))
        assert 0.3 < products.mean() < 3

    def test_packed_sequences_and_cast_models(self, kind):
        """A converted layer takes packed sequences, and goes on after a cast and a move."""
        model = bc.convert(nn.ModuleList([getattr(nn, kind)(4, 3)]), _layer_rule(kind)).double()
        packed = pack_padded_sequence(torch.randn(5, 2, 4).double(), [3, 5], enforce_sorted=False)
        output, _ = model[0](packed)
        assert output.data.shape == (8, 3)
        assert all(a is b for a, b in zip(model[0]._flat_weights, model[0].all_weights[0], strict=True))

    def test_a_frozen_layer(self, kind):
        """What was frozen stays so, and the additions with it."""
        model = seeded(kind).requires_grad_(False)
        bc.convert(model, rules(kind), example_inputs=(TOKENS,))
        assert not any(parameter.requires_grad for parameter in model.parameters())

    def test_on_the_meta_device(self, kind):
        """A plan and its application need no values."""
        with torch.device("meta"):
            model = Reader(kind)
        bc.convert(model, rules(kind, init="fresh"))
        assert model.layer.alpha_l0.is_meta


def _sizes(layer, name):
    suffix = name.removeprefix("weight_ih").removeprefix("weight_hh")
    return [layer.get_parameter(f"{each}{suffix}").shape[1] for each in ("weight_ih", "weight_hh")]


def _layer_rule(kind):
    return {"version": 1, "rules": [{"match": {"type": kind}, "replace": {"with": f"Yat{kind}"}}]}


def flat(value):
    """Give the tensors in what a layer gives."""
    return [value] if isinstance(value, torch.Tensor) else [t for each in value for t in flat(each)]


def equal(found, expected):
    return all(torch.equal(a, b) for a, b in zip(flat(found), flat(expected), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_morphs(kind):
    """At step 0 the original, at the end the replacement, and in between the blend of outputs and states."""
    x = torch.linspace(-1, 1, 8).view(2, 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = getattr(nn, kind)(4, 3)
    rule = _layer_rule(kind)
    rule["rules"][0]["replace"]["morph"] = {"steps": 4}
    model = bc.convert(nn.Sequential(copy.deepcopy(original)), rule, example_inputs=(x,))
    assert equal(model(x), original(x))
    alone = bc.finalize(copy.deepcopy(model))
    assert not equal(alone(x), original(x))
    bc.morph_step(model)
    for found, f, g in zip(flat(model(x)), flat(original(x)), flat(alone(x)), strict=True):
        assert torch.allclose(found, 0.75 * f + 0.25 * g)
    for _ in range(3):
        bc.morph_step(model)
    assert equal(model(x), alone(x))
    bc.revert(model)
    assert equal(model(x), original(x))


class TestEmbedding:
    def test_the_lookup_stays(self):
        """Bit for bit, values and gradients; the proof of use passes, and the plan carries no warning."""
        model, original = seeded("GRU"), seeded("GRU")
        report = bc.plan(model, embedding_rules(), example_inputs=(TOKENS,)).apply()
        assert [entry.path for entry in report.applied] == ["embedding"]
        assert type(model.embedding) is layers.YatEmbedding
        assert torch.equal(model(TOKENS), original(TOKENS))
        model(TOKENS).sum().backward()
        original(TOKENS).sum().backward()
        assert torch.equal(model.embedding.weight.grad, original.embedding.weight.grad)

    def test_no_parameter_arises_that_has_no_gradient(self):
        """By default there is nothing to learn of the scores, and the rows can be scored all the same."""
        model = bc.convert(seeded("GRU"), embedding_rules())
        assert [name for name, _ in model.embedding.named_parameters()] == ["weight"]
        scores = model.embedding.attend(model.embedding.weight[2:4])
        assert scores.argmax(-1).tolist() == [2, 3]

    def test_a_learnable_scale_comes_with_a_warning(self):
        """What takes part in the scores alone has no gradient before these are used."""
        plan = bc.plan(seeded("GRU"), embedding_rules(alpha="learnable", per_unit=True))
        assert "has no gradient unless" in str(plan)
        plan.apply()

    def test_files_and_revert(self, tmp_path):
        """save/load keeps the options, and revert leaves no trace."""
        model, original = seeded("GRU"), seeded("GRU")
        bc.convert(model, embedding_rules(alpha="learnable", learnable_epsilon=True, spherical=True))
        bc.save(model, tmp_path / "out")
        loaded = bc.load(tmp_path / "out", factory=lambda: Reader("GRU"))
        query = torch.linspace(-1, 1, 8).view(2, 4)
        assert torch.equal(loaded.embedding.attend(query), model.embedding.attend(query))
        bc.revert(model)
        assert list(model.state_dict()) == list(original.state_dict())


def test_fresh_is_refused_where_a_weight_is_computed():
    """A weight that a hook computes can't be drawn anew; the plan says so."""
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer = torch.nn.utils.weight_norm(nn.LSTM(4, 3), "weight_hh_l0")
    rule = _layer_rule("LSTM")
    rule["rules"][0]["replace"]["init"] = "fresh"
    plan = bc.plan(nn.Sequential(layer), rule)
    assert [entry.path for entry in plan.skipped] == ["0"]
    assert "weight_hh_l0" in plan.skipped[0].reason


BAD = [
    pytest.param({"alpha": -1.0}, "alpha", id="negative alpha"),
    pytest.param({"epsilon": 0.0}, "epsilon", id="epsilon"),
    pytest.param({"init": "closed_form"}, "init", id="init"),
    pytest.param({"spherical": True}, "spherical", id="unknown"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_found_while_loading(options, message):
    """A value out of bounds, or an option that doesn't exist, is an error of the rules."""
    with pytest.raises(ValueError, match=message):
        bc.plan(seeded("LSTM"), rules("LSTM", **options))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_packed_sequences_morph(kind):
    """Original and replacement are blended where sequences of several lengths are packed, too."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": getattr(nn, kind)(4, 3)})
    packed = pack_padded_sequence(torch.randn(5, 3, 4), torch.tensor([5, 2, 4]), enforce_sorted=False)
    ends = []
    for done in (0, 2, 4):
        twin = copy.deepcopy(model)
        rule = {"match": {"path": "layer"}, "replace": {"with": f"Yat{kind}", "morph": {"steps": 4}}}
        bc.convert(twin, {"version": 1, "rules": [rule]})
        for _ in range(done):
            bc.morph_step(twin)
        y, state = twin["layer"](packed)
        y.data.sum().backward()
        assert all(p.grad is not None for p in twin.parameters())
        assert torch.equal(y.batch_sizes, packed.batch_sizes)
        ends.append((y.data.detach(), state[0].detach() if isinstance(state, tuple) else state.detach()))
    for first, middle, last in zip(*ends, strict=True):
        assert torch.allclose(middle, (first + last) / 2, atol=1e-6)
    assert torch.equal(ends[0][0], model["layer"](packed)[0].data)
