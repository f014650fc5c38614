"""Morphing: the original at step 0, the replacement at the end, and the two blended in between."""

import copy
import logging
import pickle

import pytest
import torch
from small_models import Cnn, Mlp, Optional, SharedLayer, Tied, seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.layers import YatConv2d, YatLinear
from bioconvert.surgery.morphing import STEP

ROWS = torch.linspace(-1, 1, 12).view(3, 4)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
TOKENS = torch.arange(6).view(2, 3)


def morphing(steps=10, *, match=None, **options):
    """Give a rule set under which linear and convolutional layers morph."""
    rules = [
        {
            "match": {"type": family, **(match or {})},
            "replace": {"with": name, "morph": {"steps": steps}, **options},
            "optional": True,
        }
        for family, name in (("linear", "YatLinear"), ("conv", "YatConv2d"))
    ]
    return {"version": 1, "rules": rules}


def dropping(*links, norm="keep"):
    """Give one under which the activation, and perhaps the norm, go with the layer."""
    return morphing(match={"followed_by": list(links)}, activation="drop", norm=norm)


CHAIN = dropping("BatchNorm2d?", "ReLU|GELU")
MODELS = [
    pytest.param(Mlp, (ROWS,), id="Mlp"),
    pytest.param(Cnn, (IMAGES,), id="Cnn"),
    pytest.param(Optional, (ROWS,), id="Optional"),
    pytest.param(SharedLayer, (ROWS,), id="SharedLayer"),
    pytest.param(Tied, (TOKENS,), id="Tied"),
    pytest.param(
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        (ROWS.view(1, 6, 2).repeat(1, 1, 4),),
        id="Encoder",
    ),
]
RULES = [
    pytest.param(morphing(), id="layers"),
    pytest.param(CHAIN, id="chains"),
    pytest.param(dropping("BatchNorm2d?", "ReLU|GELU", norm="drop"), id="chains with norms"),
]


def outputs(model, inputs, *, training, grad):
    with torch.random.fork_rng(), torch.set_grad_enabled(grad):
        torch.manual_seed(0)
        return model.train(training)(*inputs)


@pytest.mark.parametrize("data", [False, True], ids=["kept", "fitted"])
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("make", "inputs"), MODELS)
class TestStepZero:
    def test_outputs_and_gradients_are_the_originals(self, make, inputs, rules, data):
        """Bit for bit, in training, in evaluation, and without gradients."""
        original, model = seeded(make), seeded(make)
        bc.convert(model, rules, example_inputs=inputs if data else None)
        for training, grad in ((True, True), (False, True), (False, False)):
            before = outputs(original, inputs, training=training, grad=grad)
            after = outputs(model, inputs, training=training, grad=grad)
            assert torch.equal(before, after)
            if grad:
                before.square().sum().backward()
                after.square().sum().backward()
        own = dict(model.named_parameters())
        for name, parameter in original.named_parameters():
            assert torch.equal(own[name].grad, parameter.grad), name

    def test_every_new_parameter_has_a_gradient(self, make, inputs, rules, data):
        """It is zero at step 0, so that who reduces gradients over processes needn't wait, and not later."""
        model = bc.convert(seeded(make), rules, example_inputs=inputs if data else None)
        added = [
            (m, n) for m in model.modules() for n in vars(m).get("morph_added", ()) if n in m._parameters
        ]
        for step in (0, 1):
            model.zero_grad()
            outputs(model, inputs, training=True, grad=True).square().sum().backward()
            reached = [(m, n) for m, n in added if m._parameters[n].grad is not None]
            if any(p.is_floating_point() for p in inputs):
                assert len(reached) == len(added)
            if step == 0:
                assert all(not m._parameters[n].grad.any() for m, n in reached)
            bc.morph_step(model)

    def test_copies_and_files_go_on_where_they_were(self, make, inputs, rules, data, tmp_path):
        """deepcopy, pickle and save/load keep the step, and what the original goes through."""
        model = bc.convert(seeded(make), rules, example_inputs=inputs if data else None)
        for _ in range(3):
            bc.morph_step(model)
        expected = outputs(model, inputs, training=False, grad=False)
        bc.save(model, tmp_path / "out")
        copies = (copy.deepcopy(model), bc.load(tmp_path / "out", factory=make))
        for twin in copies:
            assert torch.equal(outputs(twin, inputs, training=False, grad=False), expected)
            bc.morph_step(twin)
            again = outputs(twin, inputs, training=False, grad=False)
            assert not torch.equal(again, expected) or not list(_counters(twin))

    def test_reverting_leaves_no_trace(self, make, inputs, rules, data):
        """Classes, keys and values are as before, also in the middle of the way and after its end."""
        original = seeded(make)
        for end in (None, bc.morph_step, bc.finalize):
            model = bc.convert(seeded(make), rules, example_inputs=inputs if data else None)
            if end is not None:
                end(model)
            bc.revert(model)
            assert [type(m) for m in model.modules()] == [type(m) for m in original.modules()]
            assert list(model.state_dict()) == list(original.state_dict())
            for name, value in original.state_dict().items():
                assert torch.equal(model.state_dict()[name], value)
            assert [sorted(vars(m)) for m in model.modules()] == [sorted(vars(m)) for m in original.modules()]


def _counters(model):
    return (m._buffers[STEP] for m in model.modules() if STEP in m._buffers)


def at(model, step):
    """Bring every counter of a model to a step."""
    for counter in _counters(model):
        counter.fill_(step)
    return model


class TestOnTheWay:
    def test_the_blend_is_the_formula(self):
        """(1 − λ)·original + λ·replacement, for a layer alone."""
        original = seeded(lambda: nn.Linear(4, 4))
        layer = bc.convert(nn.Sequential(seeded(lambda: nn.Linear(4, 4))), morphing())[0]
        alone = bc.finalize(copy.deepcopy(nn.Sequential(layer)))[0]
        assert type(alone) is YatLinear
        for step in (1, 5, 9):
            at(layer, step)
            expected = (1 - step / 10) * original(ROWS) + step / 10 * alone(ROWS)
            assert torch.allclose(layer(ROWS), expected, atol=1e-6)
        assert torch.equal(at(layer, 10)(ROWS), alone(ROWS))
        assert torch.equal(at(layer, 99)(ROWS), alone(ROWS))

    @pytest.mark.parametrize("data", [False, True])
    def test_a_chain_goes_over_as_a_whole(self, data):
        """(1 − λ)·relu(original) + λ·replacement, where the activation goes with the layer."""
        original = seeded(Mlp)
        model = bc.convert(seeded(Mlp), CHAIN, example_inputs=(ROWS,) if data else None)
        end = bc.finalize(copy.deepcopy(model))
        at(model, 4)
        hidden = 0.6 * F.relu(original.fc1(ROWS)) + 0.4 * end.fc1(ROWS)
        hidden = 0.6 * F.gelu(original.fc2(hidden)) + 0.4 * end.fc2(hidden)
        assert torch.allclose(model(ROWS), model.head(hidden), atol=1e-5)

    def test_a_norm_that_stays_is_called_once(self):
        """The activation behind it fades on its own; running statistics move once a step."""
        original, model = seeded(Cnn), seeded(Cnn)
        bc.convert(model, dropping("BatchNorm2d", "ReLU"))
        at(model, 4)
        end = bc.finalize(copy.deepcopy(model)).eval()
        model.eval()
        x = F.relu(original.stem(IMAGES))
        y = 0.6 * original.conv1(x) + 0.4 * end.conv1(x)
        y = original.eval().bn1(y)
        y = model.conv2(0.6 * F.relu(y) + 0.4 * y)
        expected = model.fc(F.relu(x + y).mean((2, 3)))
        assert torch.allclose(model(IMAGES), expected, atol=1e-5)
        model.train()(IMAGES)
        assert int(model.bn1.num_batches_tracked) == 1

    def test_an_activation_module_of_its_own_fades_too(self):
        """Where the module that fades is called nowhere else, its own class does it."""
        make = lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))  # noqa: E731
        original, model = seeded(make).eval(), seeded(make).eval()
        bc.convert(model, dropping("BatchNorm2d", "ReLU"))
        assert torch.equal(model(IMAGES), original(IMAGES))
        at(model, 5)
        end = bc.finalize(copy.deepcopy(model))
        y = original[1](0.5 * original[0](IMAGES) + 0.5 * end[0](IMAGES))
        assert torch.allclose(model(IMAGES), 0.5 * F.relu(y) + 0.5 * y, atol=1e-5)

    def test_step_zero_survives_a_replacement_that_overflows(self):
        """Infinite values of the replacement are left out of the sum, and of the gradient."""
        original = seeded(lambda: nn.Linear(4, 4))
        with torch.no_grad():
            original.weight *= 100
        layer = bc.convert(nn.Sequential(copy.deepcopy(original)), morphing(alpha=1e38))[0]
        assert not at(layer, 10)(ROWS * 100).isfinite().all()
        at(layer, 0)
        assert torch.equal(layer(ROWS * 100), original(ROWS * 100))
        compiled = torch.compile(layer, fullgraph=True, backend="eager")
        output = compiled(ROWS * 100)
        assert torch.equal(output, original(ROWS * 100))
        output.sum().backward()
        assert layer.weight.grad.isfinite().all()

    def test_the_product_is_computed_once(self, monkeypatch):
        """Where the weight is the same, the replacement takes the original's product."""
        layer = bc.convert(nn.Sequential(seeded(lambda: nn.Linear(4, 4))), morphing())[0]
        calls = []
        real = F.linear
        monkeypatch.setattr(F, "linear", lambda *a, **k: calls.append(1) or real(*a, **k))
        at(layer, 5)(ROWS)
        assert len(calls) == 1

    @pytest.mark.parametrize(
        "geometry",
        [
            {},
            {"groups": 2},
            {"stride": 2, "padding": 1},
            {"padding": "same"},
            {"padding": 1, "padding_mode": "circular"},
            {"bias": False},
        ],
    )
    def test_the_shared_product_of_a_convolution_is_right(self, geometry):
        """Sharing changes nothing but the rounding."""
        conv = seeded(lambda: nn.Conv2d(4, 4, 3, **geometry))
        layer = bc.convert(nn.Sequential(copy.deepcopy(conv)), morphing())[0].double()
        end = bc.finalize(copy.deepcopy(nn.Sequential(layer)))[0]
        x = IMAGES[:, :1].repeat(1, 4, 1, 1).double()
        expected = 0.5 * conv.double()(x) + 0.5 * end(x)
        assert torch.allclose(at(layer, 5)(x), expected, rtol=1e-10, atol=1e-12)

    def test_gradients_of_the_blend_are_right(self):
        """gradcheck in fp64 at a step in the middle, also for the fitted replacement's own bias."""
        model = bc.convert(seeded(Mlp), CHAIN, example_inputs=(ROWS,)).double()
        at(model, 5)
        parameters = dict(model.named_parameters())
        assert any("morph_bias" in name for name in parameters)

        def run(*values):
            return torch.func.functional_call(
                model, dict(zip(parameters, values, strict=True)), (ROWS.double(),)
            )

        assert torch.autograd.gradcheck(run, tuple(parameters.values()))


class TestTheEnd:
    def test_counting(self):
        """morph_step gives the least share done; a model in which nothing morphs has arrived."""
        model = bc.convert(seeded(Mlp), morphing(4))
        assert [bc.morph_step(model) for _ in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
        assert bc.morph_step(seeded(Mlp)) == 1.0

    @pytest.mark.parametrize("data", [False, True])
    def test_finalize_gives_what_a_conversion_at_once_would(self, data):
        """Same classes, keys and outputs as without `morph`, and the activation gone."""
        inputs = (ROWS,) if data else None
        at_once = dropping("ReLU|GELU")
        for rule in at_once["rules"]:
            del rule["replace"]["morph"]
        expected = bc.convert(seeded(Mlp), at_once, example_inputs=inputs)
        model = bc.finalize(bc.convert(seeded(Mlp), dropping("ReLU|GELU"), example_inputs=inputs))
        assert [type(m).__name__ for m in model.modules()] == [type(m).__name__ for m in expected.modules()]
        assert set(model.state_dict()) == set(expected.state_dict())
        assert torch.equal(model(ROWS), expected(ROWS))

    def test_finalize_of_a_fading_function(self):
        """A container whose activation faded is as if it had been dropped at once."""

        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

            def forward(self, x):
                return F.relu(self.bn(self.conv(x)), inplace=True)

        model = bc.convert(seeded(Block), dropping("BatchNorm2d", "ReLU")).eval()
        assert STEP in model._buffers
        bc.finalize(model)
        assert STEP not in model._buffers
        assert isinstance(model.conv, YatConv2d)
        assert torch.equal(model(IMAGES), model.bn(model.conv(IMAGES)))

    def test_the_optimizer_follows(self):
        """What is on the way joins the optimizer; what finalize merges leaves it, and the bias stays."""
        model = seeded(Mlp)
        optimizer = torch.optim.Adam(model.parameters())
        bc.convert(model, CHAIN, example_inputs=(ROWS,), optimizer=optimizer)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in model.parameters()}
        bias = model.fc1.bias
        model(ROWS).sum().backward()
        optimizer.step()
        own = model.fc1.morph_bias.detach().clone()
        bc.finalize(model, optimizer=optimizer)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in model.parameters()}
        assert model.fc1.bias is bias
        assert torch.equal(bias, own)

    def test_training_through_the_whole_way(self):
        """A model trained while it morphs ends as its replacement, with a lower loss than it began with."""
        torch.manual_seed(0)
        x, model = torch.randn(64, 4), seeded(Mlp)
        target = x[:, :3].sin()
        bc.convert(model, dropping("ReLU|GELU"), example_inputs=(x,))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), target)
            loss.backward()
            optimizer.step()
            bc.morph_step(model)
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2
        at_the_end = model(x)
        assert torch.equal(bc.finalize(model)(x), at_the_end)


class TestElsewhere:
    @pytest.mark.parametrize("step", [0, 4, 10])
    def test_compile_and_export(self, step):
        """One graph, without looking at the step's value, that gives what eager gives."""
        model = at(bc.convert(seeded(Mlp), CHAIN, example_inputs=(ROWS,)), step).eval()
        expected = model(ROWS)
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert torch.allclose(compiled(ROWS), expected, atol=1e-6)
        for strict in (False, True):
            program = torch.export.export(model, (ROWS,), strict=strict)
            assert torch.allclose(program.module()(ROWS), expected, atol=1e-6)

    def test_one_compiled_graph_serves_every_step(self):
        """The step is data: no recompilation as it advances."""
        model = bc.convert(seeded(Mlp), morphing())
        counted = torch._dynamo.testing.CompileCounter()
        compiled = torch.compile(model, fullgraph=True, backend=counted)
        for _ in range(4):
            compiled(ROWS)
            bc.morph_step(model)
        assert counted.frame_count == 1

    def test_pickle(self):
        """A morphing model comes back from its bytes."""
        model = at(bc.convert(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), dropping("ReLU")), 5)
        assert torch.equal(pickle.loads(pickle.dumps(model))(ROWS), model(ROWS))

    def test_an_old_checkpoint_loads(self, caplog):
        """The original's state dict fits; the additions keep their values, with a notice."""
        old, model = seeded(Mlp, 1), bc.convert(seeded(Mlp), CHAIN)
        with caplog.at_level(logging.INFO, "bioconvert"):
            model.load_state_dict(old.state_dict())
        assert torch.equal(model(ROWS), old(ROWS))
        assert "morph_step" in caplog.text

    def test_an_old_checkpoint_is_no_match_for_what_was_fitted(self, caplog):
        """Where the conversion gave new values to what the checkpoint holds, that is said loudly."""
        model = bc.finalize(bc.convert(seeded(Mlp), CHAIN, example_inputs=(ROWS,)))
        with caplog.at_level(logging.WARNING, "bioconvert"):
            model.load_state_dict(seeded(Mlp, 1).state_dict())
        assert "fc1: the checkpoint is from before the conversion" in caplog.text
        caplog.clear()
        with caplog.at_level(logging.WARNING, "bioconvert"):
            model.load_state_dict(copy.deepcopy(model.state_dict()))
        assert caplog.text == ""

    def test_autocast(self):
        """In half precision the blend has the type that autocast gives."""
        model = at(bc.convert(seeded(Mlp), morphing()), 5)
        with torch.autocast("cpu", torch.bfloat16):
            assert model(ROWS).dtype == torch.bfloat16

    def test_what_morph_cannot_do_is_refused(self):
        """Folding needs the weight that the original needs too; a computed argument can't be taken in."""
        plan = bc.plan(Cnn(), dropping("BatchNorm2d", "ReLU", norm="fold"))
        assert "can't both be" in {entry.path: entry.reason for entry in plan.skipped}["conv1"]

        class Learnt(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc, self.slope = nn.Linear(4, 4), nn.Parameter(torch.ones(1))

            def forward(self, x):
                return F.prelu(self.fc(x), self.slope)

        assert "arguments are computed" in bc.plan(Learnt(), dropping("PReLU")).skipped[0].reason
