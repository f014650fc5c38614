"""Yat attention as a layer: every argument of torch's attention, options, and what surrounds it."""

import copy
import math
import pickle

import pytest
import torch
from torch import func, nn
from torch.nn import functional as F

from bioconvert.layers import YatMultiheadAttention, yat_attention_attributes

WIDTH, HEADS, BATCH, QUERIES, KEYS = 12, 3, 4, 5, 7
EPSILON = 0.3
nested_prototype = pytest.mark.filterwarnings(
    "ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning"
)


def built(dtype=torch.float64, **options):
    """Give a layer with no parameter at a value that hides a mistake."""
    torch.manual_seed(0)
    module = YatMultiheadAttention(WIDTH, HEADS, dtype=dtype, **{"epsilon": EPSILON, **options})
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.randn(parameter.shape, dtype=torch.float64) / 3
            parameter.copy_(drawn.abs() + 0.5 if name == "alpha" else drawn)
    return module


def drawn(*shape, seed=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def sequences(module, layout, dtype=torch.float64):
    """Give query, key and value in a layout."""

    def draw(length, width, seed):
        shape = {"batch": (BATCH, length), "sequence": (length, BATCH), "single": (length,)}[layout]
        return drawn(*shape, width, seed=seed, dtype=dtype)

    return draw(QUERIES, WIDTH, 2), draw(KEYS, module.kdim, 3), draw(KEYS, module.vdim, 4)


def additive(mask):
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=torch.float64).masked_fill(mask, -math.inf)


def naive(module, query, key, value, *, padding=None, mask=None, layout="batch"):
    """Write the layer out, sequence by sequence and head by head: output, and weights of each head."""
    to_batch = {"batch": lambda x: x, "sequence": lambda x: x.transpose(0, 1), "single": lambda x: x[None]}
    q, k, v = (to_batch[layout](each) for each in (query, key, value))
    rows = (
        module.in_proj_weight.chunk(3)
        if module.in_proj_weight is not None
        else (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    )
    biases = module.in_proj_bias.chunk(3) if module.in_proj_bias is not None else (None,) * 3
    q, k, v = (F.linear(*each) for each in zip((q, k, v), rows, biases, strict=True))
    added = q.new_zeros(len(q), HEADS, q.shape[1], k.shape[1])
    if mask is not None:
        mask = additive(mask)
        added = added + (mask.view(added.shape) if mask.dim() == 3 else mask)
    if padding is not None:
        added = added + additive(padding).reshape(len(q), 1, 1, -1)
    if module.bias_k is not None:
        k = torch.cat([k, module.bias_k.expand(len(k), 1, WIDTH)], 1)
        v = torch.cat([v, module.bias_v.expand(len(v), 1, WIDTH)], 1)
    if module.add_zero_attn:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
    added = F.pad(added, (0, k.shape[1] - added.shape[-1]))
    size, heads, weights = WIDTH // HEADS, [], []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        logits = _logits(module, head, q[..., part], k[..., part])
        logits = logits + added[:, head]
        hidden = (logits == -math.inf).all(-1, keepdim=True)
        weights.append(torch.where(hidden, 0.0, logits).softmax(-1) * ~hidden)
        heads.append(weights[-1] @ v[..., part])
    output = module.out_proj(torch.cat(heads, -1))
    output = output.transpose(0, 1) if layout == "sequence" else output
    weights = torch.stack(weights, 1)
    return (output[0], weights[0]) if layout == "single" else (output, weights)


def _logits(module, head, q, k):
    q, k = (F.normalize(q, dim=-1), F.normalize(k, dim=-1)) if module.spherical else (q, k)
    alpha = torch.as_tensor(1.0 if module.alpha_mode == "none" else module.alpha, dtype=q.dtype)
    alpha = alpha[head] if module.per_head else alpha
    epsilon = F.softplus(module.raw_epsilon) if module.learnable_epsilon else module.epsilon
    distance = (q[:, :, None] - k[:, None]).square().sum(-1)
    return alpha * (q @ k.transpose(1, 2)).square() / ((distance + epsilon) * math.sqrt(q.shape[-1]))


def masks(layout, queries=QUERIES, keys=KEYS):
    """Give every kind of mask by name, for inputs in a layout."""
    batch = () if layout == "single" else (BATCH,)
    hidden = torch.ones(queries, keys, dtype=torch.bool).triu(1)
    ends = torch.zeros(*batch, keys, dtype=torch.bool)
    ends[..., -2:] = True
    each = drawn(HEADS * math.prod(batch), queries, keys, seed=5)
    bias = drawn(*batch, keys, seed=6).detach()
    return {
        "none": {},
        "2-D bool": {"attn_mask": hidden},
        "2-D float": {"attn_mask": each[0].detach().clone().requires_grad_()},
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


OPTIONS = [
    pytest.param({}, id="defaults"),
    pytest.param({"bias": False, "alpha": "none"}, id="no bias, no alpha"),
    pytest.param({"alpha": 0.6}, id="constant alpha"),
    pytest.param({"per_head": True}, id="alpha of each head"),
    pytest.param({"learnable_epsilon": True}, id="learnable epsilon"),
    pytest.param({"spherical": True}, id="spherical"),
    pytest.param({"kdim": 5, "vdim": 6, "bias": False}, id="own widths"),
    pytest.param({"add_bias_kv": True, "add_zero_attn": True, "kdim": 5}, id="further keys"),
    pytest.param({"block_size": 2, "per_head": True}, id="in blocks"),
    pytest.param({"block_size": 3, "add_bias_kv": True}, id="in blocks, with a further key"),
]


def gradients(total, module, given, asked):
    leaves = [*given, *module.parameters()]
    leaves += [mask for mask in asked.values() if isinstance(mask, torch.Tensor) and mask.requires_grad]
    return torch.autograd.grad(total, leaves, materialize_grads=True)


@pytest.mark.parametrize("layout", ["batch", "sequence", "single"])
@pytest.mark.parametrize("options", OPTIONS)
def test_is_the_formula(options, layout):
    """Output, weights and all gradients are those of the definition, whatever the mask and the layout."""
    module = built(batch_first=layout == "batch", **options)
    given = sequences(module, layout)
    for asked in masks(layout).values():
        renamed = {"padding": asked.get("key_padding_mask"), "mask": asked.get("attn_mask")}
        output, weights = naive(module, *given, **renamed, layout=layout)
        expected = gradients(output.sin().sum(), module, given, asked)
        found = module(*given, **asked, need_weights=False)[0]
        torch.testing.assert_close(found, output, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(
            gradients(found.sin().sum(), module, given, asked), expected, rtol=1e-6, atol=1e-9
        )
        shown, single = module(*given, **asked, average_attn_weights=False)
        torch.testing.assert_close((shown, single), (output, weights), rtol=1e-10, atol=1e-12)
        mean = module(*given, **asked)[1]
        torch.testing.assert_close(mean, weights.mean(-3), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("block_size", [None, 2])
def test_gradients_are_right(block_size):
    """First and second derivatives agree with differences."""
    module = built(batch_first=True, block_size=block_size)
    parameters = dict(module.named_parameters())
    x = drawn(1, 3, WIDTH)

    def run(x, alpha, projection):
        values = {**parameters, "alpha": alpha, "in_proj_weight": projection}
        return func.functional_call(module, values, (x, x, x), {"need_weights": False})[0]

    given = (x, module.alpha, module.in_proj_weight)
    assert torch.autograd.gradcheck(run, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, given, fast_mode=True)


class OnItself(nn.Module):
    def __init__(self, attention, **asked):
        super().__init__()
        self.attention = attention
        self.asked = asked

    def forward(self, x):
        return self.attention(x, x, x, **self.asked)[0]


@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("need_weights", [True, False])
class TestMachinery:
    @pytest.fixture
    def model(self, need_weights, block_size):
        return OnItself(built(batch_first=True, block_size=block_size), need_weights=need_weights)

    @pytest.fixture
    def x(self):
        return drawn(2, QUERIES, WIDTH).detach()

    def test_compiles_whole(self, model, x):
        """torch.compile captures it in one graph."""
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x), model(x))

    @pytest.mark.parametrize("strict", [True, False])
    def test_exports(self, model, x, strict):
        """torch.export captures it, in both modes."""
        exported = torch.export.export(model.eval(), (x,), strict=strict).module()
        torch.testing.assert_close(exported(x), model(x))

    def test_is_one_call_in_a_symbolic_trace(self, model, x):
        """A user's own trace has it as a module that is called."""
        traced = torch.fx.symbolic_trace(model)
        assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["attention"]
        assert torch.equal(traced(x), model(x))

    def test_copies_compute_the_same(self, model, x):
        """deepcopy, pickle and a state dict carry everything."""
        expected = model(x)
        fresh = OnItself(
            YatMultiheadAttention(WIDTH, HEADS, batch_first=True, epsilon=EPSILON), **model.asked
        )
        fresh.double().load_state_dict(model.state_dict())
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh):
            torch.testing.assert_close(twin(x), expected)

    def test_gradients_of_each_sample_come_from_vmap(self, model, x):
        """vmap of grad gives what backward gives for a sample alone."""
        parameters = {name: each.detach() for name, each in model.named_parameters()}

        def loss(parameters, x):
            return func.functional_call(model, parameters, (x[None],)).sin().sum()

        found = func.vmap(func.grad(loss), (None, 0))(parameters, x)
        alone = func.grad(loss)(parameters, x[1])
        for name, each in alone.items():
            torch.testing.assert_close(found[name][1], each)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_stays_in_half_precision(self, model, x, dtype):
        """The data type stays, and the values but for its rounding."""
        expected = model(x)
        found = model.to(dtype)(x.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=0.1, atol=0.1)

    def test_follows_autocast(self, model, x):
        """Under autocast the output has its type."""
        expected = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model.float()(x.float())
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), expected, rtol=0.1, atol=0.1)

    def test_has_shapes_on_meta(self, model, x):
        """Without values, the shape is right."""
        assert model.to("meta")(x.to("meta")).shape == x.shape

    def test_calls_the_output_projection(self, model, x):
        """A hook on ``out_proj`` sees one call."""
        seen = []
        model.attention.out_proj.register_forward_hook(lambda *_: seen.append(1))
        model(x)
        assert seen == [1]


@pytest.mark.parametrize("block_size", [None, 2])
def test_dropout_is_for_training(block_size):
    """In training weights are dropped by torch's seed, in evaluation none is."""
    module = built(batch_first=True, dropout=0.5, block_size=block_size)
    x = drawn(2, QUERIES, WIDTH).detach()

    def run(seed):
        torch.manual_seed(seed)
        return module(x, x, x, need_weights=False)[0]

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    module.eval()
    assert torch.equal(run(0), run(1))


@nested_prototype
class TestNested:
    @pytest.fixture
    def parts(self):
        return [drawn(length, WIDTH, seed=length, dtype=torch.float32) for length in (2, 5, 3)]

    def test_gives_what_each_sequence_gives(self, parts):
        """A nested tensor is attended to sequence by sequence, with gradients."""
        module = built(torch.float32, batch_first=True)
        given = torch.nested.as_nested_tensor(parts)
        output, weights = module(given, given, given)
        assert weights.shape == (3, 5, 5)
        for sequence, found in zip(parts, output.unbind(), strict=True):
            torch.testing.assert_close(found, module(sequence, sequence, sequence)[0])
        sum(each.sum() for each in output.unbind()).backward()
        assert all(each.grad is not None for each in parts)

    def test_says_what_it_does_not_take(self, parts):
        """A mask beside a nested tensor is refused."""
        module = built(torch.float32, batch_first=True)
        given = torch.nested.as_nested_tensor(parts)
        with pytest.raises(TypeError, match="holds its padding itself"):
            module(given, given, given, key_padding_mask=torch.zeros(3, 5))


class TestInsideTorchsEncoder:
    @pytest.fixture
    def encoder(self):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0, batch_first=True)
        layer.self_attn = YatMultiheadAttention(WIDTH, 2, batch_first=True)
        return nn.TransformerEncoder(layer, 2)

    def test_is_called_in_every_mode(self, encoder):
        """The fused kernel of evaluation doesn't go around it."""
        x = drawn(3, 5, WIDTH, dtype=torch.float32).detach()
        expected = encoder.train()(x)
        torch.testing.assert_close(encoder.eval()(x), expected)
        with torch.no_grad():
            torch.testing.assert_close(encoder(x), expected)

    @nested_prototype
    def test_takes_padding_in_every_mode(self, encoder):
        """What the encoder makes of a padding mask is the same in training and in evaluation."""
        x = drawn(3, 5, WIDTH, dtype=torch.float32).detach()
        padding = torch.arange(5) >= torch.tensor([5, 3, 2])[:, None]
        expected = encoder.train()(x, src_key_padding_mask=padding)
        with torch.no_grad():
            found = encoder.eval()(x, src_key_padding_mask=padding)
        torch.testing.assert_close(found[~padding], expected[~padding])


def test_memory_grows_with_the_length_alone():
    """In blocks, what a forward keeps doubles with the length; as a whole, it grows by more."""

    def kept(length, block_size):
        module, storages = built(torch.float32, batch_first=True, block_size=block_size), {}
        x = torch.randn(1, length, WIDTH)

        def note(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = module(x, x, x, need_weights=False)
        del output
        return sum(storages.values()) - sum(each.nbytes for each in module.parameters())

    assert kept(256, 16) - kept(128, 16) == pytest.approx(
        kept(128, 16) - kept(64, 16) + kept(128, 16) / 2, rel=0.1
    )
    assert kept(256, None) > 3 * kept(128, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": "exponent"}, r"alpha must be one of \('learnable', 'none'\) or a number, got 'exponent'"),
        ({"alpha": 2.0, "per_head": True}, "per_head must come with a learnable alpha, got 2.0"),
        ({"epsilon": 0.0}, "epsilon must be positive, got 0.0"),
        ({"block_size": 0}, "block_size must be positive, got 0"),
    ],
)
def test_bad_arguments_are_refused(options, said):
    """The constructor says what must hold, and what was given."""
    with pytest.raises(ValueError, match=said):
        YatMultiheadAttention(WIDTH, HEADS, **options)


def test_a_causal_hint_alone_is_refused():
    """As in torch, the hint needs the mask that it speaks of."""
    x = drawn(QUERIES, WIDTH)
    with pytest.raises(ValueError, match="give attn_mask too"):
        built()(x, x, x, is_causal=True)


def test_parameters_follow_from_the_options():
    """Each option that is learnt has a parameter, beside those of torch's module."""
    plain = set(dict(nn.MultiheadAttention(WIDTH, HEADS).named_parameters()))
    module = built(per_head=True, learnable_epsilon=True)
    own = {name: tuple(each.shape) for name, each in module.named_parameters() if name not in plain}
    assert own == {"alpha": (HEADS,), "raw_epsilon": (1,)}
    fresh = YatMultiheadAttention(WIDTH, HEADS, epsilon=2e-3, learnable_epsilon=True, dtype=torch.float64)
    assert F.softplus(fresh.raw_epsilon).item() == pytest.approx(2e-3)
    assert set(dict(built(alpha="none").named_parameters())) == plain


def test_attributes_are_plain_values():
    """What an instance holds could be written as JSON."""
    assert all(
        isinstance(each, str | float | bool | None) for each in yat_attention_attributes(alpha=2.0).values()
    )


def test_the_checkpoint_of_torchs_attention_loads():
    """What that lacks keeps its value."""
    module = built()
    plain = nn.MultiheadAttention(WIDTH, HEADS, dtype=torch.float64)
    before = module.alpha.item()
    module.load_state_dict(plain.state_dict())
    assert module.alpha.item() == before
    assert torch.equal(module.in_proj_weight, plain.in_proj_weight)


def test_the_representation_shows_what_differs():
    """Options at their default are left out."""
    assert repr(YatMultiheadAttention(8, 2)).splitlines()[1] == "  embed_dim=8, num_heads=2"
    shown = repr(YatMultiheadAttention(8, 2, alpha=0.5, block_size=64)).splitlines()[1]
    assert shown == "  embed_dim=8, num_heads=2, alpha_mode=constant, block_size=64, alpha=0.5"
