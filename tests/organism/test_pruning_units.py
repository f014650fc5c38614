"""Hidden units that go, and the layers behind them that make up for it."""

import copy

import pytest
import torch
from growing_models import wrapping
from small_models import seeded
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.surgery import describe

VECTORS = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
PICTURES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(2))
SERIES = torch.randn(12, 3, 10, generator=torch.Generator().manual_seed(3))


def mlp():
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


def cnn():
    """Convolutions with a norm in between, and flattened pictures behind."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


def series():
    """Convolutions over time."""
    return nn.Sequential(nn.Conv1d(3, 8, 3), nn.GELU(), nn.Conv1d(8, 4, 3, padding=1))


def tokens():
    """A block that takes tokens."""
    return nn.Sequential(nn.Linear(10, 16), nn.GELU(), nn.Linear(16, 10))


KINDS = [
    pytest.param(mlp, VECTORS, {"0": (16, 8), "2": (12, 6)}, id="MLP"),
    pytest.param(cnn, PICTURES, {"0": (8, 4), "3": (6, 3)}, id="CNN"),
    pytest.param(series, SERIES, {"0": (8, 4)}, id="Conv1d"),
    pytest.param(tokens, SERIES, {"0": (16, 8)}, id="tokens"),
]


def wrapped(make):
    """Give a model that is a node."""
    return bc.convert(seeded(make), wrapping(""))


def pruned(make, x, **options):
    """Give a model without half of its hidden units, and what became of them."""
    model = wrapped(make).eval()
    found = bc.Organism(model).prune_units("model", 0.5, **{"refit": [x], **options})
    return model, found


def error(model, make, x):
    """Give the mean square of the change of the output."""
    with torch.no_grad():
        return (model(x) - seeded(make).eval()(x)).square().mean().item()


def silence(model, dead):
    """Let units of the first layer that others know all about give what nobody hears."""
    with torch.no_grad():
        model[0].weight[dead] = 0
        model[2].weight[:, dead] = 0
        if model[0].bias is not None:
            model[0].bias[dead] = 0


@pytest.mark.parametrize(("make", "x", "sizes"), KINDS)
class TestEveryKind:
    def test_shapes_follow(self, make, x, sizes):
        """Rows, columns, norms and what layers say of themselves have the new sizes."""
        model, found = pruned(make, x)
        assert {each.path: (each.before, each.after) for each in found} == sizes
        assert all(len(each.kept) == each.after for each in found)
        for path, (_, after) in sizes.items():
            layer = model.get_submodule(path)
            assert len(layer.weight) == after
            assert getattr(layer, "out_features", getattr(layer, "out_channels", None)) == after
        assert model(x).shape == seeded(make)(x).shape

    @pytest.mark.parametrize("by", ["taylor", "activation", "magnitude", "random"])
    def test_the_refit_helps(self, make, x, sizes, by):
        """However units are chosen, refitted layers behind them come closer to what they gave."""
        alone = pruned(make, x, by=by, refit=None, samples=[x])[0]
        refitted, found = pruned(make, x, by=by)
        assert error(refitted, make, x) < 0.9 * error(alone, make, x)
        assert all(each.refitted.after < each.refitted.before for each in found)

    def test_nothing_else_changes(self, make, x, sizes):
        """Flags, gradients, buffers, random states and the last layer's size stay."""
        model = wrapped(make).train()
        model[1].eval()
        last = list(model[-1].parameters())[-1]
        model(x).sum().backward()
        kept, state = last.grad.clone(), torch.get_rng_state()
        bc.Organism(model).prune_units("model", 0.5, refit=[x])
        assert [m.training for m in (model[0], model[1])] == [True, False]
        assert torch.equal(last.grad, kept)
        assert torch.equal(torch.get_rng_state(), state)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    def test_trains_on(self, make, x, sizes):
        """What an optimizer knew of the units that stay keeps every bit, and the next steps work."""
        model = wrapped(make)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            optimizer.step()
        weight = model[0].weight
        before = optimizer.state[weight]["exp_avg"].clone()
        (first, *_) = bc.Organism(model).prune_units("model", 0.5, refit=[x], optimizer=optimizer)
        assert model[0].weight is weight
        assert torch.equal(optimizer.state[weight]["exp_avg"], before[list(first.kept)])
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert optimizer.state[parameter]["exp_avg_sq"].shape == parameter.shape
        model(x).square().sum().backward()
        optimizer.step()
        assert torch.isfinite(model(x)).all()

    def test_comes_back_from_disk_and_goes_on(self, make, x, sizes, tmp_path):
        """A saved model is rebuilt in its new shapes, and its next step is the same to the bit."""
        model, _ = pruned(make, x)
        bc.save(model, tmp_path / "saved")
        twin = bc.load(tmp_path / "saved", factory=make).eval()
        assert describe(twin) == describe(model)
        for each in (model, twin):
            optimizer = torch.optim.SGD(each.parameters(), lr=0.01)
            each(x).square().sum().backward()
            optimizer.step()
        assert torch.equal(model(x), twin(x))

    def test_revert_fills_up_with_zeros(self, make, x, sizes):
        """The old shapes come back, the units don't: what the pruned model computes stays."""
        model, _ = pruned(make, x)
        with torch.no_grad():
            y = model(x)
        bc.revert(model)
        assert {p: len(model.get_submodule(p).weight) for p in sizes} == {p: n for p, (n, _) in sizes.items()}
        assert [p.shape for p in model.parameters()] == [p.shape for p in seeded(make).parameters()]
        assert torch.allclose(model(x), y, atol=1e-5)

    def test_copies_compute_the_same(self, make, x, sizes):
        """A deep copy of a pruned model is one."""
        model, _ = pruned(make, x)
        assert torch.equal(copy.deepcopy(model)(x), model(x))


class TestTheChoice:
    @pytest.mark.parametrize("by", ["taylor", "activation", "magnitude"])
    def test_units_that_give_nothing_go_first(self, by):
        """Dead units go without a trace."""
        model = wrapped(tokens).eval()
        dead = torch.tensor([1, 4, 5, 11])
        silence(model, dead)
        y = model(SERIES)
        (found,) = bc.Organism(model).prune_units("model", units=4, by=by, samples=[SERIES])
        assert not set(found.kept) & set(dead.tolist())
        assert torch.allclose(model(SERIES), y, atol=1e-6)

    def test_twins_are_made_up_for(self):
        """Of units that give the same but for a factor, the refit hands the weights of one to the other."""
        model = bc.convert(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), wrapping(""))
        with torch.no_grad():
            rows = torch.nn.functional.normalize(torch.randn(8, 6), dim=1)
            model[0].weight.copy_(torch.cat([rows * 2, rows]))
            model[0].bias.copy_(torch.cat([rows[:, 0] * 2, rows[:, 0]]))
        y = model(VECTORS)
        (found,) = bc.Organism(model).prune_units("model", 0.5, by="magnitude", refit=[VECTORS])
        assert found.kept == tuple(range(8))
        assert torch.allclose(model(VECTORS), y, atol=1e-4)

    def test_taylor_is_the_change_of_the_loss(self):
        """Of a loss that is linear in what units give, the score is what the loss loses without each."""
        model = bc.convert(nn.Sequential(nn.Linear(1, 4, bias=False), nn.Linear(4, 1)), wrapping(""))
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
            model[1].weight.copy_(torch.tensor([[4.0, -3.0, 0.5, 0.1]]))
        organism = bc.Organism(model)
        samples = [torch.ones(2, 1)]
        (found,) = organism.prune_units("model", units=2, samples=samples, loss=lambda y, _: y.sum())
        assert found.kept == (0, 1)

    def test_a_loss_is_told_the_batch(self):
        """A loss gets the output and the number of its batch."""
        seen = []

        def loss(output, number):
            seen.append((tuple(output.shape), number))
            return output.sum()

        bc.Organism(wrapped(mlp)).prune_units("model", 0.5, samples=[VECTORS[:4], VECTORS[4:9]], loss=loss)
        assert seen == [((4, 3), 0), ((5, 3), 1)]

    def test_chance_is_a_function_of_the_seed(self):
        """The same seed chooses the same units, another one others."""

        def kept(seed):
            model = bc.convert(seeded(mlp), wrapping(""))
            return [
                each.kept for each in bc.Organism(model, seed=seed).prune_units("model", 0.5, by="random")
            ]

        assert kept(1) == kept(1) != kept(2)

    def test_one_unit_always_stays(self):
        """However many are to go, each layer keeps one; then there is none left to go."""
        organism = bc.Organism(wrapped(mlp))
        found = organism.prune_units("model", units=1000, by="random", refit=[VECTORS])
        assert [each.after for each in found] == [1, 1]
        with pytest.raises(OptionError, match="each layer keeps one"):
            organism.prune_units("model", units=1, by="random")

    def test_frozen_models_have_scores_too(self):
        """Where nothing learns, the Taylor score is there nevertheless."""
        model = wrapped(mlp).requires_grad_(False)
        expected = [each.kept for each in pruned(mlp, VECTORS, refit=None, samples=[VECTORS])[1]]
        found = bc.Organism(model).prune_units("model", 0.5, samples=[VECTORS])
        assert [each.kept for each in found] == expected

    def test_history_tells(self):
        """The event says what was pruned, by what, and whether layers were refitted."""
        model, _ = pruned(mlp, VECTORS, by="activation")
        event = bc.Organism(model).history[-1]
        assert event["event"] == "units pruned"
        assert (event["by"], event["refit"]) == ("activation", True)
        assert event["layers"] == {"0": [16, 8], "2": [12, 6]}


class TestBranches:
    def test_a_branch_loses_units_of_its_own(self, tmp_path):
        """Units of a branch go, its parent keeps all; both come back from disk."""
        model = bc.convert(seeded(mlp), wrapping(""))
        organism = bc.Organism(model)
        branch = organism.grow("model")
        with torch.no_grad():
            model.grown["1"].gate.fill_(0.5)
        organism.prune_units(branch, 0.5, refit=[VECTORS])
        assert (len(branch[0].weight), len(model[0].weight)) == (8, 16)
        bc.save(model, tmp_path / "saved")
        assert torch.equal(bc.load(tmp_path / "saved", factory=mlp)(VECTORS), model(VECTORS))

    def test_a_clone_of_what_was_pruned_is_as_small(self, tmp_path):
        """What grows beside a pruned node has its sizes, also on disk."""
        model, _ = pruned(mlp, VECTORS)
        bc.Organism(model).grow("model")
        with torch.no_grad():
            model.grown["1"].gate.fill_(0.5)
        assert len(model.grown["1"].block[0].weight) == 8
        bc.save(model, tmp_path / "saved")
        twin = bc.load(tmp_path / "saved", factory=mlp).eval()
        assert torch.equal(twin(VECTORS), model.eval()(VECTORS))


OPTIMIZERS = [
    pytest.param(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9), id="SGD"),
    pytest.param(lambda p: torch.optim.Adam(p, amsgrad=True), id="Adam"),
    pytest.param(lambda p: torch.optim.Adafactor(p), id="Adafactor"),
    pytest.param(lambda p: torch.optim.RMSprop(p, momentum=0.9), id="RMSprop"),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_every_optimizer_goes_on(make):
    """States follow the shapes of their parameters, factored ones by rows and columns."""
    model = wrapped(mlp)
    optimizer = make(model.parameters())
    organism = bc.Organism(model).bind(optimizer)
    for pruning in (False, True, False):
        if pruning:
            organism.prune_units("model", 0.5, refit=[VECTORS])
        optimizer.zero_grad()
        model(VECTORS).square().mean().backward()
        optimizer.step()
    assert torch.isfinite(model(VECTORS)).all()


class TestTransformers:
    def test_the_mlp_of_a_gpt2_is_pruned(self, transformers, tmp_path):
        """Layers whose weights are turned lose units as others do, and come back without a factory."""
        config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=11, n_positions=16)
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).eval()
        ids = torch.arange(28).view(4, 7) % 11
        plain = model(ids).logits.detach()
        model = bc.convert(model, wrapping("transformer.h.1.mlp"))
        optimizer = torch.optim.AdamW(model.parameters())
        twin = copy.deepcopy(model)
        for each, options in ((model, {"refit": [ids]}), (twin, {"samples": [ids]})):
            (found,) = bc.Organism(each).prune_units("transformer.h.1.mlp", 0.5, **options)
            assert (found.path, found.before, found.after) == ("c_fc", 64, 32)
        layer = model.transformer.h[1].mlp
        assert (layer.c_fc.nf, layer.c_fc.weight.shape) == (32, (16, 32))
        assert (layer.c_proj.nx, layer.c_proj.weight.shape) == (32, (32, 16))
        assert (model(ids).logits - plain).norm() < 0.6 * (twin(ids).logits - plain).norm()
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        bc.save(model, tmp_path / "saved")
        assert torch.equal(bc.load(tmp_path / "saved").eval()(ids).logits, model(ids).logits)
