"""Multi-head attention that calls its output projection."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from bioconvert.core.registry import layer, owner_for
from bioconvert.graph.classes import compose
from bioconvert.layers import YatLinear
from bioconvert.layers.acting import acts_as_original
from bioconvert.layers.multihead_attention import CallingMultiheadAttention

WIDTH, HEADS, BATCH, QUERIES, KEYS = 12, 3, 4, 5, 7


@layer
class Same(NonDynamicallyQuantizableLinear):
    """A layer of ours that computes what the original does, and does not say so."""


@layer
class Resting(NonDynamicallyQuantizableLinear):
    """A layer of ours that says whether it acts as the original."""

    rests = True

    def acts_as_original(self):
        return self.rests


def original(dtype=torch.float64, **options):
    """Give torch's own module with no parameter at a value that hides a mistake."""
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, dtype=dtype, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape) / 3)
    return module


def converted(module, out_proj=Same):
    """Give a copy whose class, and that of its output projection, has changed."""
    module = copy.deepcopy(module)
    module.__class__ = CallingMultiheadAttention
    module.out_proj.__class__ = out_proj
    return module


def with_yat(module):
    """Give a copy whose output projection is a Yat layer."""
    module = copy.deepcopy(module)
    module.__class__ = CallingMultiheadAttention
    weight = module.out_proj.weight
    torch.manual_seed(1)
    module.out_proj = YatLinear(WIDTH, WIDTH, epsilon=0.1, dtype=weight.dtype).train(module.training)
    return module


def inputs(module, layout, *, cross=True, dtype=torch.float64, batch=BATCH):
    """Give query, key and value in a layout: separate tensors, or one thrice."""
    generator = torch.Generator().manual_seed(2)

    def draw(length, width):
        shape = {"batch": (batch, length), "sequence": (length, batch), "single": (length,)}[layout]
        drawn = torch.randn(*shape, width, generator=generator, dtype=torch.float64)
        return drawn.to(dtype).requires_grad_()

    if not cross:
        return (draw(QUERIES, WIDTH),) * 3
    return draw(QUERIES, WIDTH), draw(KEYS, module.kdim), draw(KEYS, module.vdim)


def causal(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).triu(1)


def masks(layout, queries, keys, dtype=torch.float64):
    """Give every kind of mask by name, for inputs in a layout."""
    generator = torch.Generator().manual_seed(3)
    batch = () if layout == "single" else (BATCH,)
    rows = HEADS * math.prod(batch)
    hidden = causal(queries, keys)
    ends = torch.zeros(*batch, keys, dtype=torch.bool)
    ends[..., -2:] = True
    each = torch.randn(rows, queries, keys, generator=generator).to(dtype)
    bias = torch.randn(*batch, keys, generator=generator).to(dtype)
    return {
        "no mask": {},
        "2-D bool": {"attn_mask": hidden},
        "2-D float": {"attn_mask": each[0].clone().requires_grad_()},
        "3-D bool": {"attn_mask": (each > 0.5) & (torch.arange(keys) > 0)},
        "3-D float": {"attn_mask": each},
        "padding bool": {"key_padding_mask": ends},
        "padding float": {"key_padding_mask": bias},
        "both bool": {"key_padding_mask": ends, "attn_mask": hidden},
        "both float": {"key_padding_mask": bias, "attn_mask": each},
        "causal": {"attn_mask": hidden, "is_causal": True},
        "causal and padding": {"attn_mask": hidden, "key_padding_mask": ends, "is_causal": True},
        "a row hidden throughout": {"attn_mask": torch.ones_like(hidden)},
    }


WEIGHTS = [
    {"need_weights": False},
    {"need_weights": True},
    {"need_weights": True, "average_attn_weights": False},
]
OPTIONS = [
    pytest.param({}, id="packed"),
    pytest.param({"bias": False}, id="no bias"),
    pytest.param({"kdim": 5, "vdim": 6}, id="own widths"),
    pytest.param({"kdim": 5, "vdim": 6, "bias": False}, id="own widths, no bias"),
    pytest.param({"add_bias_kv": True}, id="learnt key"),
    pytest.param({"add_zero_attn": True}, id="zero key"),
    pytest.param({"add_bias_kv": True, "add_zero_attn": True, "kdim": 5}, id="all of it"),
]
TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}


def run(module, given, asked, seed=4):
    """Give output, weights and every gradient."""
    torch.manual_seed(seed)
    output, weights = module(*given, **asked)
    leaves = list(dict.fromkeys([*given, *module.parameters()]))
    leaves += [mask for mask in asked.values() if isinstance(mask, torch.Tensor) and mask.requires_grad]
    loss = output.sin().sum() + (0 if weights is None else weights.square().sum())
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [output, weights, *gradients]


def assert_same(ours, theirs, **tolerance):
    assert [each is None for each in ours] == [each is None for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, equal_nan=True, **(tolerance or TOLERANCE))


@pytest.mark.parametrize("layout", ["batch", "sequence", "single"])
@pytest.mark.parametrize("options", OPTIONS)
def test_agrees_with_torch(options, layout):
    """Output, weights and all gradients are torch's own, whatever the options, the layout and the masks."""
    theirs = original(batch_first=layout == "batch", **options)
    ours = converted(theirs)
    given = inputs(theirs, layout)
    for mask in masks(layout, QUERIES, KEYS).values():
        for asked in WEIGHTS:
            assert_same(run(ours, given, {**mask, **asked}), run(theirs, given, {**mask, **asked}))


@pytest.mark.parametrize("layout", ["batch", "sequence", "single"])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"add_bias_kv": True, "add_zero_attn": True}])
def test_agrees_with_torch_where_it_attends_to_itself(options, layout):
    """One tensor as query, key and value takes one multiplication and gives the same."""
    theirs = original(batch_first=layout == "batch", **options)
    ours = converted(theirs)
    given = inputs(theirs, layout, cross=False)
    for mask in masks(layout, QUERIES, QUERIES).values():
        for asked in WEIGHTS:
            assert_same(run(ours, given, {**mask, **asked}), run(theirs, given, {**mask, **asked}))


@pytest.mark.parametrize("asked", WEIGHTS)
@pytest.mark.parametrize("layout", ["batch", "sequence", "single"])
def test_draws_dropout_as_torch_does(layout, asked):
    """In training the same seed drops the same attention weights."""
    theirs = original(batch_first=layout == "batch", dropout=0.4)
    ours = converted(theirs)
    given = inputs(theirs, layout)
    assert_same(run(ours, given, asked), run(theirs, given, asked))
    assert not torch.equal(run(ours, given, asked)[0], run(ours, given, asked, seed=5)[0])


PRECISIONS = [
    pytest.param(torch.float32, 1e-5, id="float32"),
    pytest.param(torch.bfloat16, 4e-2, id="bfloat16"),
    pytest.param(torch.float16, 1e-2, id="float16"),
]


@pytest.mark.parametrize("asked", WEIGHTS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_agrees_with_torch_in_lower_precision(dtype, tolerance, asked):
    """The data type stays, and so do the values but for its rounding."""
    theirs = original(dtype)
    ours = converted(theirs)
    given = inputs(theirs, "sequence", dtype=dtype)
    mask = masks("sequence", QUERIES, KEYS, dtype)["both bool"]
    results = [run(module, given, {**mask, **asked}) for module in (ours, theirs)]
    assert_same(*results, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("asked", WEIGHTS)
def test_agrees_with_torch_under_autocast(asked):
    """The data types that autocast chooses are the same too."""
    theirs = original(torch.float32)
    ours = converted(theirs)
    given = inputs(theirs, "sequence", dtype=torch.float32)
    mask = masks("sequence", QUERIES, KEYS, torch.float32)["both bool"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = [run(module, given, {**mask, **asked}) for module in (ours, theirs)]
    assert_same(*results, rtol=4e-2, atol=4e-2)


@pytest.mark.parametrize("asked", WEIGHTS)
def test_takes_an_empty_batch(asked):
    """No sequences in, no sequences out."""
    theirs = original()
    given = inputs(theirs, "sequence", batch=0)
    assert_same(run(converted(theirs), given, asked), run(theirs, given, asked))


QUERY, KEY = torch.zeros(QUERIES, BATCH, WIDTH), torch.zeros(KEYS, BATCH, WIDTH)
MISTAKES = [
    pytest.param((QUERY, KEY, KEY), {"is_causal": True}, ValueError, "give attn_mask too", id="hint alone"),
    pytest.param((QUERY, KEY[0], KEY[0]), {}, ValueError, "3, 2 and 2", id="dimensions"),
    pytest.param((QUERY[None],) * 3, {}, ValueError, "4, 4 and 4", id="four dimensions"),
    pytest.param((QUERY, KEY, KEY[:2]), {}, ValueError, r"\(7, 4, 12\) and \(2, 4, 12\)", id="lengths"),
    pytest.param((QUERY[:, :1], KEY, KEY), {}, ValueError, "got 1 and 4", id="batches"),
    pytest.param(
        (QUERY, KEY, KEY),
        {"attn_mask": torch.zeros(1, QUERIES, KEYS)},
        ValueError,
        "attn_mask",
        id="mask shape",
    ),
    pytest.param(
        (QUERY, KEY, KEY),
        {"key_padding_mask": torch.zeros(1, KEYS)},
        ValueError,
        r"\(4, 7\)",
        id="padding shape",
    ),
    pytest.param(
        (QUERY, KEY, KEY), {"attn_mask": torch.zeros(QUERIES, KEYS).int()}, TypeError, "int32", id="mask type"
    ),
]


@pytest.mark.parametrize(("given", "asked", "expected", "said"), MISTAKES)
def test_says_what_does_not_fit(given, asked, expected, said):
    """What can't be attended to is an error that names it."""
    with pytest.raises(expected, match=said):
        converted(original(torch.float32))(*given, **asked)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
class TestNested:
    @pytest.fixture
    def sequences(self):
        generator = torch.Generator().manual_seed(6)
        return [torch.randn(length, WIDTH, generator=generator) for length in (2, 5, 3)]

    def test_gives_what_each_sequence_gives(self, sequences):
        """A nested tensor is attended to sequence by sequence, with gradients."""
        module = with_yat(original(torch.float32, batch_first=True))
        given = torch.nested.as_nested_tensor([each.requires_grad_() for each in sequences])
        output, weights = module(given, given, given)
        assert weights.shape == (3, 5, 5)
        for sequence, found in zip(sequences, output.unbind(), strict=True):
            torch.testing.assert_close(found, module(sequence, sequence, sequence)[0])
        sum(each.sum() for each in output.unbind()).backward()
        assert all(each.grad is not None for each in sequences)

    def test_says_what_it_does_not_take(self, sequences):
        """Masks, cross-attention, other layouts and sequence-first modules are refused."""
        module = with_yat(original(torch.float32, batch_first=True))
        given = torch.nested.as_nested_tensor(sequences)
        with pytest.raises(TypeError, match="holds its padding itself"):
            module(given, given, given, key_padding_mask=torch.zeros(3, 5))
        with pytest.raises(TypeError, match="query, key and value at once"):
            module(given, given.clone(), given)
        jagged = torch.nested.as_nested_tensor(sequences, layout=torch.jagged)
        with pytest.raises(TypeError, match=r"torch\.strided"):
            module(jagged, jagged, jagged)
        module.batch_first = False
        with pytest.raises(TypeError, match="with batch_first"):
            module(given, given, given)


def attended(module, x):
    """Give, naively, what the output projection of a batch-first self-attention is called with."""
    q, k, v = F.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, dim=-1)
    size = WIDTH // HEADS
    heads = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = torch.einsum("nld,nsd->nls", q[..., part], k[..., part]) / math.sqrt(size)
        heads.append(scores.softmax(-1) @ v[..., part])
    return torch.cat(heads, dim=-1)


class TestReplacedProjection:
    @pytest.fixture
    def module(self):
        return with_yat(original(batch_first=True))

    @pytest.fixture
    def x(self, module):
        return inputs(module, "batch", cross=False)[0].detach()

    @pytest.mark.parametrize("asked", WEIGHTS)
    def test_is_what_the_output_comes_from(self, module, x, asked):
        """The output is the replacement's, on what the heads give."""
        expected = module.out_proj(attended(module, x))
        torch.testing.assert_close(module(x, x, x, **asked)[0], expected, **TOLERANCE)

    def test_gets_gradients(self, module, x):
        """Every parameter of the replacement learns."""
        module(x, x, x)[0].sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in module.parameters())

    @pytest.mark.parametrize("asked", WEIGHTS)
    def test_computes_the_same_in_every_mode(self, module, x, asked):
        """Training without dropout, evaluation, and evaluation without gradients agree to the bit."""
        trained = module.train()(x, x, x, **asked)[0]
        assert torch.equal(module.eval()(x, x, x, **asked)[0], trained)
        with torch.no_grad():
            assert torch.equal(module(x, x, x, **asked)[0], trained)
        with torch.inference_mode():
            assert torch.equal(module(x, x, x, **asked)[0], trained)

    @pytest.mark.parametrize("shape", [(BATCH, QUERIES, WIDTH), (QUERIES, WIDTH)])
    def test_fires_its_hooks_once(self, module, shape):
        """A hook on the output projection sees one call, in the layout of the input."""
        seen = []
        module.out_proj.register_forward_hook(lambda _, given, output: seen.append(given[0].shape))
        x = torch.zeros(shape, dtype=torch.float64)
        module(x, x, x)
        assert seen == [shape]

    def test_survives_copying_and_saving(self, module, x):
        """Copy and pickle compute the same; the state has the original's names and the replacement's."""
        expected = module(x, x, x)[0]
        for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert type(again) is CallingMultiheadAttention
            assert torch.equal(again(x, x, x)[0], expected)
        assert set(module.state_dict()) == {*original().state_dict(), "out_proj.alpha"}


class OnItself(nn.Module):
    def __init__(self, attention, **asked):
        super().__init__()
        self.attention = attention
        self.asked = asked

    def forward(self, x):
        return self.attention(x, x, x, **self.asked)[0]


MADE = [
    pytest.param(with_yat, id="replaced"),
    pytest.param(lambda module: converted(module, Resting), id="acting as the original"),
    pytest.param(lambda module: converted(module, NonDynamicallyQuantizableLinear), id="not replaced"),
]


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("make", MADE)
class TestCapture:
    def test_compiles_whole(self, make, need_weights):
        """torch.compile captures it in one graph."""
        model = OnItself(make(original(batch_first=True)), need_weights=need_weights)
        x = inputs(model.attention, "batch", cross=False)[0].detach()
        torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(x), model(x))

    def test_is_one_call_in_a_symbolic_trace(self, make, need_weights):
        """A user's own trace has it as a module that is called, as it has torch's."""
        model = OnItself(make(original(batch_first=True)), need_weights=need_weights)
        x = inputs(model.attention, "batch", cross=False)[0].detach()
        traced = torch.fx.symbolic_trace(model)
        assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["attention"]
        assert torch.equal(traced(x), model(x))

    @pytest.mark.parametrize("strict", [True, False])
    def test_exports(self, make, need_weights, strict):
        """torch.export captures it, in both modes."""
        model = OnItself(make(original(batch_first=True)), need_weights=need_weights).eval()
        x = inputs(model.attention, "batch", cross=False)[0].detach()
        exported = torch.export.export(model, (x,), strict=strict).module()
        torch.testing.assert_close(exported(x), model(x))


class TestActingAsTheOriginal:
    @pytest.mark.parametrize("out_proj", [Resting, NonDynamicallyQuantizableLinear])
    @pytest.mark.parametrize("layout", ["batch", "sequence", "single"])
    def test_gives_the_original_bits(self, out_proj, layout):
        """In training and in the fused evaluation alike, until the projection acts otherwise."""
        theirs = original(torch.float32, batch_first=layout == "batch", dropout=0.3)
        ours = converted(theirs, out_proj)
        given = inputs(theirs, layout, cross=False, dtype=torch.float32)
        for asked in WEIGHTS:
            for module in (ours, theirs):
                module.train()
            found, expected = run(ours, given, asked), run(theirs, given, asked)
            pairs = list(zip(found, expected, strict=True))
            with torch.no_grad():
                pairs += zip(ours.eval()(*given, **asked), theirs.eval()(*given, **asked), strict=True)
            assert all(one is other or torch.equal(one, other) for one, other in pairs)

    def test_ends_when_the_projection_says_so(self):
        """The projection is asked at every call, and called from then on."""
        module = converted(original(batch_first=True), Resting)
        calls = []
        module.out_proj.register_forward_hook(lambda *_: calls.append(1))
        x = inputs(module, "batch", cross=False)[0]
        module(x, x, x)
        assert not calls
        module.out_proj.rests = False
        module(x, x, x)
        assert calls == [1]

    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            pytest.param(lambda: nn.Linear(1, 1), True, id="not ours"),
            pytest.param(lambda: YatLinear(1, 1), False, id="ours"),
            pytest.param(lambda: Resting(1, 1), True, id="ours, and says so"),
            pytest.param(lambda: converted(original(), Resting), True, id="an owner of what says so"),
            pytest.param(lambda: converted(original()), False, id="an owner of what is replaced"),
        ],
    )
    def test_is_told_by_class_or_method(self, made, expected):
        """A layer of ours doesn't act as the original unless it says so; other modules do."""
        assert acts_as_original(made()) is expected


class TestOwner:
    def test_is_registered_for_torch_s_class(self):
        """torch's module and a subclass that inherits its forward have this owner; others have none."""
        inheriting = type("Inheriting", (nn.MultiheadAttention,), {})
        own = type("Own", (nn.MultiheadAttention,), {"forward": lambda self, x: x})
        assert owner_for(nn.MultiheadAttention) is CallingMultiheadAttention
        assert owner_for(inheriting) is CallingMultiheadAttention
        assert owner_for(own) is None
        assert owner_for(CallingMultiheadAttention) is None

    def test_composes_with_a_subclass(self):
        """A subclass without a forward of its own keeps its methods."""
        sub = type("Sub", (nn.MultiheadAttention,), {"hello": lambda self: "hello"})
        module = with_yat(original(batch_first=True))
        x = inputs(module, "batch", cross=False)[0]
        expected = module(x, x, x)[0]
        module.__class__ = compose(CallingMultiheadAttention, sub)
        assert module.hello() == "hello"
        assert torch.equal(module(x, x, x)[0], expected)
