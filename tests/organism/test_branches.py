"""Nodes in a host model and the branches that grow beside them."""

import collections
import copy
import inspect
import pickle
import re

import pytest
import torch
from growing_models import ROWS, Residual, growing, wrapping
from small_models import seeded
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError


def outputs_and_gradients(model, x):
    """Give the output and the gradient of each parameter but the gates'."""
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    named = {name: p.grad for name, p in model.named_parameters() if "grown." not in name}
    return y.detach(), {name: grad.clone() for name, grad in named.items() if grad is not None}


def open_gates(model, value=0.5):
    """Let every branch count."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(value)
    return model


class Pair(nn.Module):
    """Gives a named tuple in a dict, behind numbers that are no floats."""

    Out = collections.namedtuple("Out", ["count", "y"])

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x, *, scale=1):
        """Give everything."""
        return {"steps": torch.tensor(3), "out": self.Out(7, self.fc(x) * scale), "last": [x]}


class Holder(nn.Module):
    """Calls the pair with a keyword."""

    def __init__(self):
        super().__init__()
        self.pair = Pair()

    def forward(self, x):
        """Take the tensor out."""
        found = self.pair(x, scale=2)
        assert found["steps"].dtype == torch.int64
        assert found["out"].count == 7
        return found["out"].y + found["last"][0]


class Dense(nn.ModuleDict):
    """Goes through its items, as the blocks of DenseNet do."""

    def forward(self, x):
        """Add up."""
        for _, layer in self.items():
            x = x + layer(x)
        return x


class DenseModel(nn.Module):
    """Holds such a block."""

    def __init__(self):
        super().__init__()
        self.dense = Dense({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})

    def forward(self, x):
        """Call it."""
        return self.dense(x)


def grown(make, path):
    """Give a converted model whose node has two branches."""
    model = bc.convert(seeded(make), wrapping(path))
    organism = bc.Organism(model)
    for _ in range(2):
        organism.grow(path or "model")
    return model


HOSTS = [
    pytest.param(Residual, "block", id="Sequential that works in place"),
    pytest.param(Residual, "stem", id="one Linear"),
    pytest.param(Residual, "", id="the whole model"),
    pytest.param(Holder, "pair", id="tuple in a dict, keyword"),
    pytest.param(DenseModel, "dense", id="ModuleDict"),
]


@pytest.mark.parametrize(("make", "path"), HOSTS)
class TestEveryHost:
    def test_wrapping_and_birth_keep_every_bit(self, make, path):
        """Neither outputs nor gradients of what was there change, in train and eval mode."""
        expected = outputs_and_gradients(seeded(make), ROWS)
        for model in (bc.convert(seeded(make), wrapping(path)), grown(make, path)):
            for mode in (True, False):
                y, gradients = outputs_and_gradients(model.train(mode), ROWS)
                assert torch.equal(y, expected[0])
                assert gradients.keys() == expected[1].keys()
                assert all(torch.equal(gradients[name], expected[1][name]) for name in gradients)
                with torch.no_grad():
                    assert torch.equal(model(ROWS), expected[0])

    def test_the_gate_gets_a_gradient_at_the_first_step(self, make, path):
        """A closed gate learns at once, and what is behind it as soon as it is open."""
        model = grown(make, path)
        model(ROWS).square().sum().backward()
        gates = [p for name, p in model.named_parameters() if name.endswith("gate")]
        assert len(gates) == 2
        assert all(gate.shape == (1,) and gate.grad.abs() > 0 for gate in gates)

    def test_copies_and_pickles_give_the_same(self, make, path):
        """Deep copies and pickles of a grown model compute the same, apart from it."""
        model = open_gates(grown(make, path))
        y = model(ROWS)
        assert not torch.equal(y, seeded(make)(ROWS))
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(ROWS), y)
            assert not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}

    def test_state_dicts_of_the_same_growth_fit(self, make, path):
        """State dicts go into models that grew alike; one from before leaves branches as they are."""
        model, twin = open_gates(grown(make, path)), grown(make, path)
        twin.load_state_dict(model.state_dict())
        assert torch.equal(twin(ROWS), model(ROWS))
        twin.load_state_dict(seeded(make).state_dict())
        assert torch.equal(twin(ROWS), model(ROWS))

    def test_revert_is_exact(self, make, path):
        """Classes, names, values and flags are those from before."""
        model = grown(make, path)
        bc.Organism(model).freeze_all_except("expert_1")
        bc.revert(model)
        plain = seeded(make)
        assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
        assert model.state_dict().keys() == plain.state_dict().keys()
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
        assert all(p.requires_grad for p in model.parameters())
        assert all(
            vars(a).keys() == vars(b).keys() for a, b in zip(model.modules(), plain.modules(), strict=True)
        )

    def test_drift_is_that_of_the_branches(self, make, path):
        """Drift compares with the block alone, and leaves the branches where they were."""
        model = open_gates(grown(make, path))
        y = model(ROWS)
        bc.drift(model, example_inputs=(ROWS,))
        assert torch.equal(model(ROWS), y)


COMPILED = [
    pytest.param(*host.values, id=host.id, marks=() if place in (0, 3) else pytest.mark.slow)
    for place, host in enumerate(HOSTS)
]


@pytest.mark.parametrize(("make", "path"), COMPILED)
def test_compiles_and_exports(make, path):
    """A grown model compiles in one graph, is compiled anew when it grows, and exports."""
    model = open_gates(grown(make, path))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(ROWS), model(ROWS))
    bc.Organism(model).grow(path or "model")
    open_gates(model)
    torch.testing.assert_close(compiled(ROWS), model(ROWS))
    torch.testing.assert_close(torch.export.export(model, (ROWS,)).module()(ROWS), model(ROWS))


class TestANode:
    def test_shows_the_class_signature_and_length_of_its_block(self):
        """The host's code sees what it saw: class name, signature, indices and slices."""
        model = growing()
        bc.Organism(model).grow("block")
        assert type(model.block).__name__ == "Sequential"
        assert isinstance(model.block, nn.Sequential)
        assert inspect.signature(model.block.forward) == inspect.signature(nn.Sequential().forward)
        assert len(model.block) == 4
        assert isinstance(model.block[-1], nn.Linear)
        assert [type(m) for m in model.block[1:3]] == [nn.Linear, nn.Tanh]

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda: nn.ModuleList([nn.Linear(4, 4)]), "no forward"),
            (lambda: Iterating(), r"goes through its children \(children\)"),
            (lambda: Named(), "'tag' of its own"),
        ],
    )
    def test_is_refused_where_it_would_not_work(self, make, reason):
        """Lists, forwards over all children and names that a node has are refused with the reason."""
        with pytest.raises(OptionError, match="no nodes"):
            bc.Organism(nn.Sequential(make()))
        (skipped,) = bc.plan(nn.Sequential(make()), wrapping("0")).skipped
        assert re.search(reason, skipped.reason)

    def test_methods_of_the_block_stay_its_own(self):
        """A method that is named as one of the node's machinery is still the block's."""
        model = bc.convert(nn.Sequential(Leaving(4, 4)), wrapping("0"))
        assert model[0].leave("home") == "left home"
        bc.Organism(model).grow("0")
        bc.revert(model)
        assert type(model[0]) is Leaving

    def test_half_precision_stays(self):
        """Under autocast and in bfloat16 the output keeps its type."""
        model = growing()
        bc.Organism(model).grow("block")
        open_gates(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model(ROWS).dtype == torch.bfloat16
        assert model.bfloat16()(ROWS.bfloat16()).dtype == torch.bfloat16

    def test_what_gives_no_numbers_can_not_grow(self):
        """A block without a floating output says so when it has a branch."""
        model = bc.convert(nn.Sequential(Counting()), wrapping("0"))
        bc.Organism(model).grow("0")
        with pytest.raises(OptionError, match="no tensor of floating numbers"):
            model(ROWS)


class Iterating(nn.Module):
    """Calls whatever children it has."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        """Go through all."""
        for child in self.children():
            x = child(x)
        return x


class Leaving(nn.Linear):
    """Has a method of its own."""

    def leave(self, what):
        """Say so."""
        return f"left {what}"


class Named(nn.Linear):
    """Has a tag."""

    def __init__(self):
        super().__init__(4, 4)
        self.tag = "mine"


class Counting(nn.Module):
    """Gives a count."""

    def forward(self, x):
        """Count."""
        return torch.tensor(x.shape[0])


READ_AROUND = ["layers.1.self_attn", "layers.1.linear1", "layers.1.norm1", "layers.1.self_attn.out_proj"]


@pytest.mark.parametrize("path", READ_AROUND)
class TestABranchOfALayerWhoseWeightIsReadAround:
    def grown(self, path):
        """Give an encoder without and with an open branch, in evaluation: there are fused kernels."""

        def make():
            return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

        model = bc.convert(seeded(make), wrapping(path)).eval()
        twin = copy.deepcopy(model)
        bc.Organism(model).grow(path)
        return twin, open_gates(model)

    def test_counts_with_and_without_gradients(self, path):
        """The containers call what they would have read, so that the branch adds the same in both cases."""
        twin, model = self.grown(path)
        x = torch.linspace(-1, 1, 2 * 5 * 8).view(2, 5, 8)
        with_gradients = model(x)
        with torch.no_grad():
            without = model(x)
        assert torch.allclose(with_gradients, without, atol=1e-5)
        assert (without - twin(x)).abs().max() > 1e-3

    def test_is_on_disk_as_it_is(self, path, tmp_path):
        """A loaded model calls them, too."""
        twin, model = self.grown(path)
        bc.save(model, tmp_path / "saved")
        loaded = bc.load(tmp_path / "saved", factory=lambda: bc.revert(twin)).eval()
        x = torch.linspace(-1, 1, 2 * 5 * 8).view(2, 5, 8)
        with torch.no_grad():
            assert torch.equal(loaded(x), model(x))
