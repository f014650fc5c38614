"""New units in the layers of a node: no output changes, and they learn."""

import copy

import pytest
import torch
from torch import nn
from wide_models import WIDE, grow, loss_of, output, wide, widened

import bioconvert as bc
from bioconvert.core.errors import OptionError

CASES = [pytest.param(name, by, id=f"{name}, {by}") for name, case in WIDE.items() for by in case.ways]
EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}


@pytest.fixture(autouse=True)
def _peers(torchvision, transformers):
    """Skip where these packages are missing."""


def away(model, given, expected):
    """Give the largest difference of outputs, in units of the largest output."""
    return ((output(model, given) - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("name", "by"), CASES)
class TestEveryModel:
    @pytest.mark.parametrize("dtype", EXACT, ids=str)
    def test_computes_what_it_did(self, name, by, dtype):
        """In training and in evaluation outputs are the same up to rounding, after one growth and two."""
        model, organism, given = wide(name, dtype)
        modes = [True, False] if name != "GPT-2" else [False]
        before = copy.deepcopy(model)
        for _ in range(1 if name == "LayerNorm" else 2):
            grow(organism, name, by, given)
        for mode in modes:
            expected = output(copy.deepcopy(before).train(mode), given)
            assert away(copy.deepcopy(model).train(mode), given, expected) < EXACT[dtype]

    def test_has_the_units_that_were_asked_for(self, name, by):
        """Each hidden layer of the node, and no other one, has so many more."""
        model, organism, _ = widened(name, by)
        case = WIDE[name]
        for path, units in case.layers.items():
            layer = model.get_submodule(path)
            said = [getattr(layer, key, None) for key in ("out_features", "out_channels", "nf")]
            assert units + case.units in said
        (event,) = organism.history
        assert event["units"] == dict.fromkeys(case.layers, case.units)
        assert (event["event"], event["by"]) == ("growth", by)

    def test_new_units_learn(self, name, by):
        """Within two steps what leads into and out of every new unit moves, if a gradient can reach it."""
        model, _, given = widened(name, by)
        path, units = next(iter(WIDE[name].layers.items()))
        weight = model.get_submodule(path).weight
        fresh = weight[units:] if weight.shape[0] > units else weight[:, units:]
        before = fresh.detach().clone()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model, given)().backward()
            optimizer.step()
        fresh = weight[units:] if weight.shape[0] > units else weight[:, units:]
        moved = (fresh - before).flatten(1 if weight.shape[0] > units else 0).abs()
        assert (moved.sum(1) if moved.dim() > 1 else moved.sum()).count_nonzero() > 0

    def test_goes_back_to_the_sizes_it_was_built_with(self, name, by):
        """Revert leaves the first units, and those alone."""
        model, _, given = widened(name, by)
        shapes = {key: value.shape for key, value in WIDE[name].make().state_dict().items()}
        bc.revert(model)
        assert {key: value.shape for key, value in model.state_dict().items()} == shapes
        assert output(model, given).isfinite().all()

    def test_comes_back_from_disk(self, name, by, tmp_path):
        """A widened model is saved and loaded with every bit, and can grow again."""
        model, organism, given = widened(name, by)
        bc.save(model, tmp_path / "saved")
        twin = bc.load(tmp_path / "saved", factory=WIDE[name].make)
        assert torch.equal(output(twin.eval(), given), output(model.eval(), given))
        other = bc.Organism(twin)
        assert other.record == organism.record
        for each in (organism, other):
            each.grow(WIDE[name].node, "width")
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


class TestTheWays:
    def test_zero_gives_nothing(self):
        """What leads out of the new units is zero; what leads in is as large as for the old ones."""
        model, _, _ = widened("MLP", "zero")
        assert not model[0][2].weight[:, 6:].any()
        size = model[0][0].weight.square().mean(1).sqrt()
        assert 0.3 < (size[6:].mean() / size[:6].mean()).item() < 3

    def test_pairs_take_the_same_and_give_the_opposite(self):
        """The second half of the new units is the first with other signs behind it."""
        model, _, _ = widened("MLP", "paired")
        first, second = model[0][0].weight[6:8], model[0][0].weight[8:]
        assert torch.equal(first, second)
        assert torch.equal(model[0][2].weight[:, 6:8], -model[0][2].weight[:, 8:])
        assert model[0][2].weight[:, 6:].all()

    def test_copies_share_what_led_out(self):
        """Each new unit is an old one's equal, and both shares, uneven ones, make up the old weight."""
        model, organism, given = wide("MLP")
        rows, columns = model[0][0].weight.clone(), model[0][2].weight.clone()
        grow(organism, "MLP", "net2wider", given)
        for new in range(6, 10):
            (old,) = (i for i in range(6) if torch.equal(rows[i], model[0][0].weight[new]))
            shares = model[0][2].weight[:, [old, new]] / columns[:, [old]]
            assert torch.allclose(shares.sum(1), torch.ones(4).double())
            assert 0.2 < shares[0, 1].item() < 0.8
            assert abs(shares[0, 1].item() - 0.5) > 1e-3

    def test_gradmax_gives_the_largest_gradient(self):
        """No directions of the same size let a larger gradient into the new units than those it finds."""
        name = "MLP, GELU"
        model, organism, given = wide(name)
        seen = {}
        model[0][0].register_forward_hook(lambda m, a, y: seen.update(x=a[0]))
        model[0][2].register_forward_hook(lambda m, a, y: (y.retain_grad(), seen.update(y=y))[0])
        loss_of(model, given)().backward()
        product = seen["y"].grad.T @ seen["x"]
        best = torch.linalg.svdvals(product)[:3].square().sum().sqrt()
        length = model[0][2].weight.norm(dim=0).mean()
        model.zero_grad()
        grow(organism, name, "gradmax", given)
        loss_of(model, given)().backward()
        reached = model[0][0].weight.grad[6:].norm()
        assert (reached / (0.5 * best * length)).item() == pytest.approx(1, abs=1e-6)
        assert not model[0][0].weight[6:].any()

    def test_gradmax_opens_relu_by_a_bias(self):
        """Behind a ReLU its units come in opposite pairs with a positive bias, so that gradients pass."""
        model, _, given = widened("MLP", "gradmax")
        assert model[0][0].bias[6:].tolist() == [0.1] * 4
        assert torch.equal(model[0][2].weight[:, 6:8], -model[0][2].weight[:, 8:])
        loss_of(model, given)().backward()
        assert model[0][0].weight.grad[6:].abs().sum(1).all()

    def test_gradmax_leaves_the_model_as_it_was(self):
        """Looking for directions changes no mode, no statistics and no gradient."""
        model, organism, given = wide("CNN")
        model.train()
        state = copy.deepcopy(model.state_dict())
        with pytest.raises(OptionError, match="BatchNorm2d divides"):
            organism.grow("0", "width", by="gradmax", units=4, loss=loss_of(model, given))
        organism.model[0].hidden.weight.grad = None
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert model[0].features[1].training

    def test_without_a_number_layers_double(self):
        """By default a layer gets as many units as it has."""
        model, organism, _ = wide("two hidden layers")
        organism.grow("0", "width")
        assert [p.shape[0] for p in model[0].parameters()] == [12, 12, 8, 8, 3, 3]


def test_a_widened_model_compiles():
    """torch.compile takes it without a graph break, and gives what it gives."""
    model, _, given = widened("CNN", "zero", torch.float32)
    model.eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(given), model(given), atol=1e-6)


def test_growing_after_compiling_compiles_again():
    """A compiled model that grows gives what the model gives."""
    model, organism, given = wide("MLP", torch.float32)
    compiled = torch.compile(model, backend="aot_eager")
    expected = compiled(given)
    grow(organism, "MLP", "net2wider", given)
    assert torch.allclose(compiled(given), expected, atol=1e-6)


def test_the_seed_decides():
    """The same seed gives the same units, another one others, and a second growth others again."""
    weights = []
    for seed in (1, 1, 2):
        model, _, given = wide("MLP")
        organism = bc.Organism(model, seed=seed)
        grow(organism, "MLP", "zero", given)
        grow(organism, "MLP", "zero", given)
        weights.append(model[0][0].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0][6:], weights[2][6:])
    assert not torch.equal(weights[0][6:10], weights[0][10:])


class TestBranches:
    def test_of_a_widened_node_are_as_wide(self, tmp_path):
        """A clone has its parent's sizes, on disk too; each then grows by itself."""
        model, organism, given = widened("MLP", "zero")
        node = organism.grow("0")
        assert node[0].out_features == 10
        expected = model(given)
        organism.grow(node, "width", units=2)
        assert (node[0].out_features, model[0][0].out_features) == (12, 10)
        assert torch.equal(model(given), expected)
        with torch.no_grad():
            model[0].grown["1"].gate.fill_(0.5)
        bc.save(model, tmp_path / "saved")
        twin = bc.load(tmp_path / "saved", factory=WIDE["MLP"].make)
        assert torch.equal(twin(given), model(given))
        bc.revert(twin)
        assert twin[0][0].weight.shape == (6, 5)

    def test_keep_the_layers_whose_units_they_take(self):
        """A layer that is a node with a branch, or whose units one takes, isn't widened."""
        _, organism, _ = wide("one layer")
        organism.grow("0.0")
        with pytest.raises(OptionError, match=r"branches grow beside the Linear '0\.0'"):
            organism.grow("0.0", "width")


def test_frozen_layers_stay_frozen():
    """What doesn't learn gets units that don't."""
    model, organism, given = wide("MLP")
    model[0][0].requires_grad_(False)
    grow(organism, "MLP", "zero", given)
    assert not model[0][0].weight.requires_grad
    assert isinstance(model[0][0].weight, nn.Parameter)
