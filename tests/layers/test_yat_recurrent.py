"""One property suite for every recurrent Yat layer and cell."""

import copy
import math
import pickle
import types

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bioconvert.layers import YatGRU, YatGRUCell, YatLSTM, YatLSTMCell, YatRNN, YatRNNCell

FEATURES, HIDDEN = 3, 4
OPTIONS = [
    pytest.param({}, id="defaults"),
    pytest.param({"bias": False}, id="no bias"),
    pytest.param({"alpha": "none"}, id="no alpha"),
    pytest.param({"alpha": 1.5}, id="constant alpha"),
    pytest.param({"per_unit": True}, id="per row"),
    pytest.param({"learnable_epsilon": True, "epsilon": 0.3}, id="learnable epsilon"),
    pytest.param({"learnable_epsilon": True, "per_unit": True}, id="learnable epsilon per row"),
]
CELLS = [
    pytest.param(YatRNNCell, id="YatRNNCell"),
    pytest.param(YatGRUCell, id="YatGRUCell"),
    pytest.param(YatLSTMCell, id="YatLSTMCell"),
]
LAYERS = [
    pytest.param(YatRNN, {}, id="YatRNN"),
    pytest.param(YatRNN, {"nonlinearity": "relu"}, id="YatRNN, no squasher"),
    pytest.param(YatGRU, {}, id="YatGRU"),
    pytest.param(YatLSTM, {}, id="YatLSTM"),
    pytest.param(YatLSTM, {"proj_size": 2}, id="YatLSTM, projected"),
]
SHAPES = [
    pytest.param({}, id="one layer"),
    pytest.param({"num_layers": 2}, id="two layers"),
    pytest.param({"num_layers": 2, "bidirectional": True}, id="two layers both ways"),
]


def built(cls, seed=0, **options):
    """Build a layer or cell in fp64 with random parameters, so that none of them is neutral."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = cls(FEATURES, HIDDEN, dtype=torch.float64, **options)
        for name, parameter in layer.named_parameters():
            if name.startswith(("bias", "alpha")):
                nn.init.uniform_(parameter, 0.5, 1.5)
    return layer


def inputs(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def states(layer, batch):
    """Give states to start from, as the layer or cell takes them."""
    lead, sizes = (batch,), [HIDDEN]
    if isinstance(layer, nn.RNNBase):
        lead = (layer.num_layers * (1 + layer.bidirectional), batch)
        sizes = [layer.proj_size or HIDDEN]
    if isinstance(layer, (nn.LSTM, nn.LSTMCell)):
        sizes.append(HIDDEN)
    found = tuple(inputs(*lead, size, seed=7 + size + i) / 3 for i, size in enumerate(sizes))
    return found if len(found) > 1 else found[0]


def flat(value):
    """Give the tensors in what a layer gives or takes."""
    return [value] if isinstance(value, torch.Tensor) else [t for each in value for t in flat(each)]


def same(found, expected, **tolerance):
    pairs = zip(flat(found), flat(expected), strict=True)
    return all(torch.allclose(a, b, **tolerance) for a, b in pairs)


def yat_row(layer, suffix, row, x, h):
    """Compute one row's Yat product for one pair of input and state from its definition."""
    u, v = getattr(layer, f"weight_ih{suffix}")[row], getattr(layer, f"weight_hh{suffix}")[row]
    score = torch.dot(u, x) + torch.dot(v, h)
    if layer.bias:
        score = score + getattr(layer, f"bias_ih{suffix}")[row] + getattr(layer, f"bias_hh{suffix}")[row]
    pick = row if layer.per_unit else 0
    alpha = {"none": lambda: 1.0, "constant": lambda: layer.alpha}.get(
        layer.alpha_mode, lambda: getattr(layer, f"alpha{suffix}")[pick]
    )()
    if layer.learnable_epsilon:
        raw = getattr(layer, f"raw_epsilon{suffix}")
        epsilon = F.softplus(raw[pick if raw.numel() > 1 else 0])
    else:
        epsilon = layer.epsilon
    return alpha * score**2 / ((x - u).square().sum() + (h - v).square().sum() + epsilon)


def naive_step(layer, suffix, x, state):
    """Take one step for one sample, row by row."""

    def gate(index, h):
        rows = range(index * HIDDEN, (index + 1) * HIDDEN)
        return torch.stack([yat_row(layer, suffix, row, x, h) for row in rows])

    def sigmoid(y):
        return y / (1 + y)

    def tanh(y):
        return (y - 1) / (y + 1)

    h = state[0]
    if isinstance(layer, (nn.RNN, nn.RNNCell)):
        y = gate(0, h)
        return (tanh(y) if layer.nonlinearity == "tanh" else y,)
    if isinstance(layer, (nn.GRU, nn.GRUCell)):
        r, z = sigmoid(gate(0, h)), sigmoid(gate(1, h))
        return ((1 - z) * tanh(gate(2, r * h)) + z * h,)
    i, f, g, o = sigmoid(gate(0, h)), sigmoid(gate(1, h)), tanh(gate(2, h)), sigmoid(gate(3, h))
    c = f * state[1] + i * g
    h = o * torch.tanh(c)
    return (getattr(layer, f"weight_hr{suffix}") @ h if getattr(layer, "proj_size", 0) else h), c


def naive_run(layer, x, state):
    """Run a layer over one sequence (T, F) from states (layers, size), step by step."""
    directions, lasts = 1 + layer.bidirectional, []
    for depth in range(layer.num_layers):
        outputs = []
        for direction in range(directions):
            suffix = f"_l{depth}{'_reverse' if direction else ''}"
            current = tuple(each[depth * directions + direction] for each in state)
            hidden = {}
            for t in reversed(range(len(x))) if direction else range(len(x)):
                current = naive_step(layer, suffix, x[t], current)
                hidden[t] = current[0]
            outputs.append(torch.stack([hidden[t] for t in range(len(x))]))
            lasts.append(current)
        x = torch.cat(outputs, -1)
    return x, tuple(torch.stack(each) for each in zip(*lasts, strict=True))


def as_call(module, *args):
    """Give a function of inputs and parameters, and values to call it with, for gradcheck."""
    names = [name for name, _ in module.named_parameters()]

    def call(*values):
        given, own = values[: len(args)], values[len(args) :]
        return tuple(flat(functional_call(module, dict(zip(names, own, strict=True)), given)))

    values = [p.detach().clone().requires_grad_() for p in module.parameters()]
    return call, (*(each.clone().requires_grad_() for each in args), *values)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cls", CELLS)
class TestEveryCellAndOption:
    def test_is_its_formula(self, cls, options):
        """A step is the definition evaluated sample by sample and row by row."""
        cell, x = built(cls, **options), inputs(2, FEATURES)
        start = states(cell, 2)
        single = [naive_step(cell, "", x[i], tuple(s[i] for s in flat((start,)))) for i in range(2)]
        expected = [torch.stack(each) for each in zip(*single, strict=True)]
        assert same(cell(x, start), expected, rtol=1e-9)

    def test_gradients(self, cls, options):
        """First and second derivatives agree with finite differences."""
        cell = built(cls, **options)
        call, values = as_call(cell, inputs(2, FEATURES))
        assert torch.autograd.gradcheck(call, values, fast_mode=True)
        assert torch.autograd.gradgradcheck(call, values, fast_mode=True)

    def test_state_and_copies(self, cls, options):
        """State dict, deepcopy and pickle keep class, options and values."""
        cell, twin, x = built(cls, **options), built(cls, seed=1, **options), inputs(2, FEATURES)
        twin.load_state_dict(cell.state_dict())
        for each in (twin, copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
            assert repr(each) == repr(cell)
            assert same(each(x), cell(x), rtol=0, atol=0)


@pytest.mark.parametrize("cls", CELLS)
class TestEveryCell:
    def test_a_torch_cell_can_become_one(self, cls):
        """A change of class with attributes and parameters is as good as a constructor."""
        cell, x = built(cls), inputs(2, FEATURES)
        plain = copy.deepcopy(cell)
        plain.__class__ = next(c for c in cls.__mro__ if c.__module__.startswith("torch.nn.modules"))
        assert not same(plain(x), cell(x))
        plain.__class__ = cls
        assert same(plain(x), cell(x), rtol=0, atol=0)

    def test_unbatched_and_default_states(self, cls):
        """A single sample gives what it gives in a batch, and states begin with zeros."""
        cell, x = built(cls), inputs(2, FEATURES)
        zeros = [torch.zeros_like(each) for each in flat((states(cell, 2),))]
        given = cell(x, tuple(zeros) if len(zeros) > 1 else zeros[0])
        assert same(cell(x), given, rtol=0, atol=0)
        assert same(cell(x[0]), [each[0] for each in flat((cell(x),))])

    def test_vmap_and_grad(self, cls):
        """Per-sample gradients by torch.func are those of a loop."""
        cell, x = built(cls), inputs(3, FEATURES)
        parameters = dict(cell.named_parameters())

        def loss(parameters, sample):
            return sum(each.square().sum() for each in flat((functional_call(cell, parameters, (sample,)),)))

        batched = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
        for i, sample in enumerate(x):
            single = grad(loss)(parameters, sample)
            assert all(torch.allclose(batched[name][i], single[name]) for name in parameters)

    def test_compiles_and_exports(self, cls):
        """`torch.compile(fullgraph=True)` and `torch.export` give the same."""
        cell, x = built(cls), inputs(2, FEATURES)
        given = (x, states(cell, 2))
        compiled = torch.compile(cell, fullgraph=True, backend="aot_eager")
        assert same(compiled(*given), cell(*given))
        assert same(torch.export.export(cell, given).module()(*given), cell(*given))

    def test_a_symbolic_trace_keeps_it_whole(self, cls):
        """In a user's own symbolic_trace it is one call."""
        model, x = nn.Sequential(built(cls)), inputs(2, FEATURES)
        traced = torch.fx.symbolic_trace(model)
        assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "output"]
        assert same(traced(x), model(x))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_and_autocast(self, cls, dtype):
        """The state has the input's type, or autocast's, and is near the fp64 one."""
        exact, x = built(cls), inputs(2, FEATURES)
        half = copy.deepcopy(exact).to(dtype)(x.to(dtype))
        with torch.autocast("cpu", dtype=dtype):
            cast = copy.deepcopy(exact).float()(x.float())
        for found in (half, cast):
            assert all(each.dtype is dtype for each in flat(found))
            assert same([each.double() for each in flat(found)], flat(exact(x)), atol=0.03)

    def test_meta(self, cls):
        """On the meta device shapes are known and nothing is allocated."""
        with torch.device("meta"):
            cell = cls(FEATURES, HIDDEN)
        assert all(each.shape == (2, HIDDEN) for each in flat(cell(torch.empty(2, FEATURES, device="meta"))))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("cls", "kind"), LAYERS)
class TestEveryLayerAndShape:
    def test_is_its_formula(self, cls, kind, shape):
        """Outputs and last states are the definition evaluated step by step."""
        layer, x = built(cls, **kind, **shape), inputs(4, 2, FEATURES)
        start = states(layer, 2)
        output, last = layer(x, start)
        for i in range(2):
            found, end = naive_run(layer, x[:, i], tuple(s[:, i] for s in flat((start,))))
            assert torch.allclose(output[:, i], found, rtol=1e-9)
            assert same([each[:, i] for each in flat((last,))], end, rtol=1e-9)

    def test_a_torch_layer_can_become_one(self, cls, kind, shape):
        """A change of class keeps the parameters, and gives other outputs of the same shapes."""
        layer, x = built(cls, **kind, **shape), inputs(4, 2, FEATURES)
        plain = copy.deepcopy(layer)
        plain.__class__ = next(c for c in cls.__mro__ if c.__module__.startswith("torch.nn.modules"))
        outputs = plain(x)
        assert [t.shape for t in flat(outputs)] == [t.shape for t in flat(layer(x))]
        assert not same(outputs, layer(x))
        plain.__class__ = cls
        assert same(plain(x), layer(x), rtol=0, atol=0)

    def test_state_and_copies(self, cls, kind, shape):
        """State dict, deepcopy and pickle keep class, options and values."""
        layer, twin = built(cls, **kind, **shape), built(cls, seed=1, **kind, **shape)
        x = inputs(4, 2, FEATURES)
        twin.load_state_dict(layer.state_dict())
        for each in (twin, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert repr(each) == repr(layer)
            assert same(each(x), layer(x), rtol=0, atol=0)

    def test_batch_first_and_unbatched(self, cls, kind, shape):
        """The batch may come first, or not at all."""
        layer, x = built(cls, **kind, **shape), inputs(4, 2, FEATURES)
        start = states(layer, 2)
        output, last = layer(x, start)
        first = copy.deepcopy(layer)
        first.batch_first = True
        found, end = first(x.transpose(0, 1), start)
        assert same((found.transpose(0, 1), end), (output, last))
        alone = [each[:, 1] for each in flat((start,))]
        for each in (layer, first):
            found, end = each(x[:, 1], tuple(alone) if len(alone) > 1 else alone[0])
            assert torch.allclose(found, output[:, 1])
            assert same(end, [state[:, 1] for state in flat((last,))])

    @pytest.mark.parametrize("lengths", [[5, 3, 2], [2, 5, 1]], ids=["sorted", "unsorted"])
    def test_packed_sequences(self, cls, kind, shape, lengths):
        """Sequences of different lengths give what each gives alone, in the order given."""
        layer, x = built(cls, **kind, **shape), inputs(5, 3, FEATURES)
        start = states(layer, 3)
        ordered = lengths == sorted(lengths, reverse=True)
        packed, last = layer(pack_padded_sequence(x, lengths, enforce_sorted=ordered), start)
        output, found = pad_packed_sequence(packed)
        assert found.tolist() == lengths
        for i, length in enumerate(lengths):
            alone = [each[:, i] for each in flat((start,))]
            expected, end = layer(x[:length, i], tuple(alone) if len(alone) > 1 else alone[0])
            assert torch.allclose(output[:length, i], expected)
            assert same([each[:, i] for each in flat((last,))], end)


@pytest.mark.parametrize(("cls", "kind"), LAYERS)
class TestEveryLayer:
    def test_gradients(self, cls, kind):
        """First derivatives agree with finite differences, for inputs and all parameters."""
        layer = built(cls, bidirectional=True, learnable_epsilon=True, **kind)
        call, values = as_call(layer, inputs(3, 2, FEATURES))
        assert torch.autograd.gradcheck(call, values, fast_mode=True)

    def test_second_derivatives(self, cls, kind):
        """Second derivatives agree with finite differences."""
        call, values = as_call(built(cls, **kind), inputs(2, 1, FEATURES))
        assert torch.autograd.gradgradcheck(call, values, fast_mode=True)

    def test_states_begin_with_zeros(self, cls, kind):
        """Without states, packed or not, it starts from zeros."""
        layer, x = built(cls, **kind), inputs(4, 2, FEATURES)
        zeros = [torch.zeros_like(each) for each in flat((states(layer, 2),))]
        expected = layer(x, tuple(zeros) if len(zeros) > 1 else zeros[0])
        assert same(layer(x), expected, rtol=0, atol=0)
        packed, last = layer(pack_padded_sequence(x, [4, 4]))
        assert same((pad_packed_sequence(packed)[0], last), expected)

    def test_compiles(self, cls, kind):
        """Where a compiler may look into recurrent layers, it makes one graph, which gives the same."""
        layer, x = built(cls, **kind), inputs(3, 2, FEATURES)
        with torch._dynamo.config.patch(allow_rnn=True):
            assert same(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))

    def test_a_plain_checkpoint_loads(self, cls, kind):
        """What a torch layer's state lacks keeps its value; a missing weight is an error."""
        layer = built(cls, **kind)
        alpha = layer.alpha_l0.clone()
        plain = {n: torch.zeros_like(p) for n, p in layer.named_parameters() if not n.startswith("alpha")}
        layer.load_state_dict(plain)
        assert torch.equal(layer.alpha_l0, alpha)
        del plain["weight_hh_l0"]
        with pytest.raises(RuntimeError, match="weight_hh_l0"):
            layer.load_state_dict(plain)

    def test_torchs_list_of_weights_stays_in_step(self, cls, kind):
        """Casting and copying leave the flat list that torch's own forward reads on the parameters."""
        for layer in (built(cls, **kind).float(), copy.deepcopy(built(cls, **kind))):
            assert all(a is b for a, b in zip(layer._flat_weights, layer.all_weights[0], strict=True))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_and_autocast(self, cls, kind, dtype):
        """Outputs and states have the input's type, or autocast's, and are near the fp64 ones."""
        exact, x = built(cls, **kind), inputs(4, 2, FEATURES)
        half = copy.deepcopy(exact).to(dtype)(x.to(dtype))
        with torch.autocast("cpu", dtype=dtype):
            cast = copy.deepcopy(exact).float()(x.float())
        for found in (half, cast):
            assert all(each.dtype is dtype for each in flat(found))
            assert same([each.double() for each in flat(found)], flat(exact(x)), rtol=0.03, atol=0.05)

    def test_meta(self, cls, kind):
        """On the meta device shapes are known and nothing is allocated."""
        with torch.device("meta"):
            layer = cls(FEATURES, HIDDEN, **kind)
        output, _ = layer(torch.empty(4, 2, FEATURES, device="meta"))
        assert output.shape == (4, 2, kind.get("proj_size", HIDDEN))

    def test_an_empty_batch(self, cls, kind):
        """No sequences, no outputs, no error."""
        output, _ = built(cls, **kind)(inputs(4, 0, FEATURES))
        assert output.shape == (4, 0, kind.get("proj_size", HIDDEN))

    def test_dropout_acts_between_layers_while_training(self, cls, kind):
        """Training is random, evaluation is not."""
        layer, x = built(cls, num_layers=2, dropout=0.5, **kind), inputs(4, 2, FEATURES)
        assert not same(layer(x), layer(x))
        layer.eval()
        assert same(layer(x), layer(x), rtol=0, atol=0)

    @pytest.mark.parametrize("seed", range(2))
    def test_a_thousand_steps(self, cls, kind, seed):
        """Over 1,000 steps outputs are bounded, and gradients finite and not large."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layer = cls(6, 24, **kind)
        x = inputs(1000, 1, 6, seed=seed).float().requires_grad_()
        output, _ = layer(x)
        output[-1].square().sum().backward()
        norms = [p.grad.norm() for p in layer.parameters()] + [x.grad.norm()]
        assert output.abs().max() <= (30 if kind.get("nonlinearity") == "relu" else 1)
        assert all(norm.isfinite() for norm in norms)
        assert max(norms) < 1000


def test_a_compiler_that_stays_outside_stays_out():
    """Where it may not look into recurrent layers, it compiles nothing of what they call."""
    forward = YatLSTM.forward
    # A forward of its own, since the compiler remembers what it left alone.
    code = forward.__code__.replace(co_name="own_forward")
    own = types.FunctionType(code, forward.__globals__, argdefs=forward.__defaults__)
    layer, x = built(type("OwnLSTM", (YatLSTM,), {"forward": own})), inputs(6, 2, FEATURES)
    compiled = []

    def backend(graph, example_inputs):
        compiled.append(graph)
        return graph

    with torch.no_grad():
        assert same(torch.compile(layer, backend=backend)(x), layer(x))
    assert not compiled


RECALLING = [pytest.param(YatGRU, id="YatGRU"), pytest.param(YatLSTM, id="YatLSTM")]


def recall(generator, steps, count=64):
    """Give noise whose first step shows one of four classes."""
    classes = torch.randint(0, 4, (count,), generator=generator)
    x = 0.5 * torch.randn(steps, count, 4, generator=generator)
    x[0] = 3 * F.one_hot(classes, 4)
    return x, classes


def trained_accuracy(cls, steps, iterations, rate):
    """Train a layer to name, at the end of a sequence, the class that its first step showed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer, head = cls(4, 16), nn.Linear(16, 4)
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=rate)
    for _ in range(iterations):
        x, classes = recall(generator, steps)
        loss = F.cross_entropy(head(layer(x)[0][-1]), classes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
    x, classes = recall(generator, steps, 256)
    return (head(layer(x)[0][-1]).argmax(-1) == classes).float().mean()


@pytest.mark.parametrize("cls", RECALLING)
def test_learns_to_recall(cls):
    """It learns to remember what it saw 30 steps before."""
    assert trained_accuracy(cls, steps=30, iterations=60, rate=0.01) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("cls", RECALLING)
def test_learns_to_recall_for_longer(cls):
    """It learns to remember what it saw 50 steps before."""
    assert trained_accuracy(cls, steps=50, iterations=200, rate=0.01) > 0.95


def test_initial_values():
    """The same random state gives the same; gates begin as open as said, and the second bias with zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        one = YatLSTM(200, 100)
        torch.manual_seed(3)
        other = YatLSTM(200, 100)
        x = torch.randn(64, 200)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not one.bias_hh_l0.any()
    gates = one._gates("_l0", torch.float32)
    products = gates.product(*gates.see(x), torch.zeros(64, 100))
    means = products.view(64, 4, 100).mean((0, 2))
    assert torch.allclose(means, torch.tensor([1.0, 9.0, 1.0, 1.0]), rtol=0.4)


def test_alpha_starts_anew_with_the_weights():
    """reset_parameters sets alpha too, since it belongs to the weights' scale."""
    layer = YatGRU(3, 4)
    start = layer.alpha_l0.clone()
    nn.init.zeros_(layer.alpha_l0)
    layer.reset_parameters()
    assert torch.equal(layer.alpha_l0, start)


def test_extra_representation():
    """Options that differ from their defaults show, behind torch's."""
    assert repr(YatLSTM(3, 4)) == "YatLSTM(3, 4)"
    assert (
        repr(YatGRU(3, 4, 2, alpha="none", epsilon=0.5))
        == "YatGRU(3, 4, num_layers=2, epsilon=0.5, alpha=none)"
    )
    assert repr(YatRNNCell(3, 4, alpha=2.0)) == "YatRNNCell(3, 4, alpha=2.0)"


BAD = [
    pytest.param(lambda: YatLSTM(3, 4, alpha="exponent"), "alpha must be 'learnable', 'none'", id="alpha"),
    pytest.param(lambda: YatLSTM(3, 4, alpha=-1.0), "or a positive number, got -1.0", id="negative alpha"),
    pytest.param(lambda: YatGRUCell(3, 4, epsilon=0.0), "epsilon must be positive, got 0.0", id="epsilon"),
    pytest.param(lambda: YatRNN(0, 4), "input_size must be greater than zero", id="sizes"),
    pytest.param(lambda: YatRNN(3, 4)(torch.zeros(3)), "input must have 2 or 3 dimensions, got 1", id="1-D"),
    pytest.param(lambda: YatRNN(3, 4)(torch.zeros(0, 2, 3)), "at least one step", id="no step"),
    pytest.param(lambda: YatRNN(3, 4)(torch.zeros(2, 5)), "input must have 3 features, got 5", id="features"),
    pytest.param(
        lambda: YatRNN(3, 4)(torch.zeros(5, 2, 3), torch.zeros(1, 3, 4)),
        r"hx must have the shapes \[\(1, 2, 4\)\], got \[\(1, 3, 4\)\]",
        id="state",
    ),
    pytest.param(
        lambda: YatRNN(3, 4)(torch.zeros(5, 2, 3), torch.zeros(1, 4)),
        r"hx must have 3 dimensions, as the input has, got \[2\]",
        id="state's dimensions",
    ),
    pytest.param(
        lambda: YatGRUCell(3, 4)(torch.zeros(5, 2, 3)), "1 or 2 dimensions, got 3", id="cell, dimensions"
    ),
    pytest.param(lambda: YatGRUCell(3, 4)(torch.zeros(2, 5)), "3 features, got 5", id="cell, features"),
    pytest.param(
        lambda: YatLSTMCell(3, 4)(torch.zeros(2, 3), (torch.zeros(2, 4), torch.zeros(2, 5))),
        r"hx must have the shape \(2, 4\), got \[\(2, 4\), \(2, 5\)\]",
        id="cell, state",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_options_and_shapes_are_refused(make, message):
    """A value out of its bounds, or a shape that doesn't fit, is an error that names it."""
    with pytest.raises(ValueError, match=message):
        make()


def test_finite_where_the_pair_is_the_row():
    """Where [x, h] is a row itself, and where it is zero, values and gradients are finite."""
    cell = YatLSTMCell(3, 4, epsilon=1e-5)
    rows = (cell.weight_ih.detach().clone(), cell.weight_hh.detach().clone())
    for x, h in (rows, (torch.zeros(16, 3), torch.zeros(16, 4))):
        x.requires_grad_()
        h.requires_grad_()
        out = cell(x, (h, torch.zeros(16, 4)))
        sum(each.sum() for each in out).backward()
        assert x.grad.isfinite().all()
        assert h.grad.isfinite().all()
        assert math.isfinite(cell.weight_ih.grad.sum())


@pytest.mark.parametrize("size", [1, 64, 2.6e4, 9e5])
@pytest.mark.parametrize("cls", CELLS)
def test_fp32_near_a_row(cls, size):
    """Where [x, h] is near a row, fp32 is within 1e-3 of fp64, whatever the norm."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exact = cls(64, 8, epsilon=1e-5, dtype=torch.float64)
    with torch.no_grad():
        exact.weight_ih.mul_(math.sqrt(size) / exact.weight_ih.norm(dim=1, keepdim=True))
    rounded = copy.deepcopy(exact).float()
    exact.load_state_dict(rounded.state_dict())
    rows = exact.weight_ih.shape[0]
    x = (exact.weight_ih.detach() * (1 + 1e-3 * inputs(rows, 64))).float()
    start = [
        s.float() for s in flat((exact.weight_hh.detach(), *[torch.zeros(rows, 8)] * (cls is YatLSTMCell)))
    ]
    given = (tuple(start) if len(start) > 1 else start[0],)
    wide = (tuple(s.double() for s in start) if len(start) > 1 else start[0].double(),)
    assert same(
        [t.double() for t in flat((rounded(x, *given),))], flat((exact(x.double(), *wide),)), atol=1e-3
    )


def test_an_alpha_below_zero_counts_as_zero():
    """However far training takes alpha, gates stay between 0 and 1."""
    layer, x = built(YatLSTM), inputs(5, 2, FEATURES)
    nn.init.constant_(layer.alpha_l0, -3.0)
    found = layer(x)
    nn.init.zeros_(layer.alpha_l0)
    assert same(found, layer(x), rtol=0, atol=0)
