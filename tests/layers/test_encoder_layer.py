"""The encoder layer that calls its children, and the encoder and decoder around it."""

import copy
import pickle

import pytest
import torch
from torch import nn

from bioconvert.core.registry import layer, owner_for
from bioconvert.layers import Dropped, YatLinear
from bioconvert.layers.encoder_layer import CallingTransformerEncoderLayer
from bioconvert.layers.multihead_attention import CallingMultiheadAttention

WIDTH, HEADS, HIDDEN = 8, 2, 16
nested_prototype = pytest.mark.filterwarnings(
    "ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning"
)


@layer
class Resting(nn.Linear):
    """A layer of ours that says whether it acts as the original."""

    rests = True

    def acts_as_original(self):
        return self.rests


def original(**options):
    """Give torch's own layer, without dropout."""
    torch.manual_seed(0)
    given = {"dim_feedforward": HIDDEN, "dropout": 0.0, "batch_first": True, **options}
    return nn.TransformerEncoderLayer(WIDTH, HEADS, **given)


def convert(module):
    """Change the class of an encoder layer, in place."""
    module.__class__ = CallingTransformerEncoderLayer
    return module


def yat(inputs, outputs):
    torch.manual_seed(1)
    return YatLinear(inputs, outputs, epsilon=0.1)


def replace_linear1(module):
    module.linear1 = yat(WIDTH, HIDDEN)


def replace_linear2(module):
    module.linear2 = yat(HIDDEN, WIDTH)


def replace_norm(module):
    module.norm1 = Squaring(WIDTH)


def replace_out_proj(module):
    module.self_attn.__class__ = CallingMultiheadAttention
    module.self_attn.out_proj = yat(WIDTH, WIDTH)


def drop_activation(module):
    replace_linear1(module)
    module.activation = Dropped()


@layer
class Squaring(nn.LayerNorm):
    """A norm whose weight and bias don't say all."""

    def forward(self, input):
        return super().forward(input).square()


REPLACED = [
    pytest.param(replace_linear1, lambda module: module.linear1, id="linear1"),
    pytest.param(replace_linear2, lambda module: module.linear2, id="linear2"),
    pytest.param(replace_norm, lambda module: module.norm1, id="norm1"),
    pytest.param(replace_out_proj, lambda module: module.self_attn.out_proj, id="out_proj"),
    pytest.param(drop_activation, lambda module: module.activation, id="activation"),
]


def sequences(batch=3, length=5):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, length, WIDTH, generator=generator)


def padding():
    """Give a left-aligned mask over ``sequences()``: what the encoder turns into nested tensors."""
    return torch.arange(5) >= torch.tensor([5, 3, 2])[:, None]


def naive(module, x, norm_first):
    """Write the layer out, each child called."""

    def feed(y):
        return module.linear2(module.activation(module.linear1(y)))

    def attend(y):
        return module.self_attn(y, y, y, need_weights=False)[0]

    if norm_first:
        x = x + attend(module.norm1(x))
        return x + feed(module.norm2(x))
    x = module.norm1(x + attend(x))
    return module.norm2(x + feed(x))


@pytest.mark.parametrize(("replace", "replaced"), REPLACED)
@pytest.mark.parametrize("options", [{}, {"norm_first": True}, {"activation": nn.GELU()}, {"bias": False}])
class TestReplacedChild:
    def test_is_called_in_every_mode(self, replace, replaced, options):
        """Training, evaluation, and evaluation without gradients compute what calling each child gives."""
        module = convert(original(**options))
        replace(module)
        x = sequences()
        expected = naive(module.train(), x, options.get("norm_first", False))
        torch.testing.assert_close(module(x), expected)
        torch.testing.assert_close(module.eval()(x), expected)
        with torch.no_grad():
            torch.testing.assert_close(module(x), expected)
        with torch.inference_mode():
            torch.testing.assert_close(module(x), expected)

    def test_changes_the_fused_evaluation(self, replace, replaced, options):
        """What the original computes in evaluation is another thing."""
        before = original(**options).eval()
        after = convert(copy.deepcopy(before))
        replace(after)
        after.eval()
        with torch.no_grad():
            assert not torch.allclose(after(sequences()), before(sequences()))

    def test_gets_gradients(self, replace, replaced, options):
        """Every parameter of the replacement learns."""
        module = convert(original(**options))
        replace(module)
        module(sequences()).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in replaced(module).parameters())


def trained(module, masks):
    """Run in training with one seed for dropout."""
    torch.manual_seed(3)
    return module.train()(sequences(), **masks)


@pytest.mark.parametrize("activation", ["relu", "gelu", torch.tanh])
@pytest.mark.parametrize("masks", [{}, {"src_key_padding_mask": padding()}])
class TestActingAsTheOriginal:
    def test_gives_the_original_bits(self, activation, masks):
        """Without a replaced child, or with one that acts as the original, every mode is the original's."""
        theirs = original(activation=activation, dropout=0.2)
        ours = convert(copy.deepcopy(theirs))
        ours.linear1.__class__ = Resting
        assert torch.equal(trained(ours, masks), trained(theirs, masks))
        with torch.no_grad():
            assert torch.equal(ours.eval()(sequences(), **masks), theirs.eval()(sequences(), **masks))

    def test_ends_when_the_child_says_so(self, activation, masks):
        """The number that stands for the activation is the original's until then, and 0 afterwards."""
        theirs = original(activation=activation)
        ours = convert(copy.deepcopy(theirs))
        ours.linear1.__class__ = Resting
        assert ours.activation_relu_or_gelu == theirs.activation_relu_or_gelu
        ours.linear1.rests = False
        assert ours.activation_relu_or_gelu == 0
        ours.__class__ = nn.TransformerEncoderLayer
        assert ours.activation_relu_or_gelu == theirs.activation_relu_or_gelu


def test_asks_an_attention_s_projection_too():
    """An attention with a forward of its own can't say what its projection does; the layer looks itself."""

    class Own(nn.MultiheadAttention):
        def forward(self, query, key, value, **asked):
            return self.out_proj(value), None

    module = convert(original())
    module.self_attn.__class__ = Own
    module.self_attn.out_proj = yat(WIDTH, WIDTH)
    module.eval()
    with torch.no_grad():
        torch.testing.assert_close(module(sequences()), naive(module, sequences(), False))


def test_the_activation_s_number_can_be_set():
    """Setting it is seen once the class is the original's again, and at once while nothing is replaced."""
    module = convert(original())
    module.activation_relu_or_gelu = 2
    assert module.activation_relu_or_gelu == 2
    module.linear1 = yat(WIDTH, HIDDEN)
    assert module.activation_relu_or_gelu == 0
    assert vars(module)["activation_relu_or_gelu"] == 2


@nested_prototype
class TestEncoder:
    @pytest.fixture
    def encoder(self):
        encoder = nn.TransformerEncoder(original(), 3)
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(torch.randn_like(parameter) / 10)
        return encoder

    @pytest.mark.parametrize("converted", [(0,), (1,), (2,), (0, 1, 2)])
    @pytest.mark.parametrize("replace", [replace_linear1, replace_out_proj, drop_activation])
    def test_made_before_agrees_in_every_mode(self, encoder, converted, replace):
        """Nested tensors from the encoder give what padded ones do, whichever of its layers are converted."""
        for index in converted:
            replace(convert(encoder.layers[index]))
        asked = {"src_key_padding_mask": padding()}
        expected = encoder.eval()(sequences(), **asked)
        with torch.no_grad():
            found = encoder(sequences(), **asked)
        kept = ~padding()
        torch.testing.assert_close(found[kept], expected[kept])
        assert not found[padding()].any()

    def test_made_before_gives_the_original_bits(self, encoder):
        """As long as nothing is replaced, the encoder's nested evaluation is the original's."""
        theirs = copy.deepcopy(encoder).eval()
        for each in encoder.layers:
            convert(each)
            each.self_attn.__class__ = CallingMultiheadAttention
        encoder.eval()
        with torch.no_grad():
            found = encoder(sequences(), src_key_padding_mask=padding())
            assert torch.equal(found, theirs(sequences(), src_key_padding_mask=padding()))

    def test_made_of_a_converted_layer_says_that_it_is_not_nested(self):
        """An encoder made afterwards takes the layer for one that has no fused kernel."""
        module = convert(original())
        replace_linear1(module)
        with pytest.warns(UserWarning, match="activation_relu_or_gelu was not True"):
            assert not nn.TransformerEncoder(module, 2).use_nested_tensor

    def test_sees_nested_input_with_gradients(self):
        """A nested tensor is computed sequence by sequence, also where torch has no kernel for it."""
        module = convert(original())
        replace_linear1(module)
        parts = [sequences()[0, :4].requires_grad_(), sequences()[1, :2].requires_grad_()]
        found = module(torch.nested.as_nested_tensor(parts)).unbind()
        for part, output in zip(parts, found, strict=True):
            torch.testing.assert_close(output, module(part))
        sum(output.square().sum() for output in found).backward()
        assert all(part.grad.any() for part in parts)

    def test_refuses_nested_input_with_a_mask(self):
        """A nested tensor has its padding itself, and no layout but the strided one is taken."""
        module = convert(original())
        replace_linear1(module)
        parts = [sequences()[0, :4], sequences()[1, :2]]
        with pytest.raises(TypeError, match="holds its padding itself"):
            module(torch.nested.as_nested_tensor(parts), src_key_padding_mask=torch.zeros(2, 4))
        with pytest.raises(TypeError, match=r"torch\.strided"):
            module(torch.nested.as_nested_tensor(parts, layout=torch.jagged))


def test_the_decoder_layer_needs_its_attentions_converted_and_nothing_else():
    """torch's decoder layer has no fused kernel: it calls every child in every mode."""
    torch.manual_seed(0)
    module = nn.TransformerDecoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.0, batch_first=True)
    for attention in (module.self_attn, module.multihead_attn):
        attention.__class__ = CallingMultiheadAttention
        attention.out_proj = yat(WIDTH, WIDTH)
    replace_linear1(module)
    calls = []
    replaced = (module.self_attn.out_proj, module.multihead_attn.out_proj, module.linear1)
    for child in replaced:
        child.register_forward_hook(lambda child, *_: calls.append(child))
    expected = module(sequences(), sequences())
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(sequences(), sequences()), expected)
    assert calls == [*replaced, *replaced]


def rest(module):
    module.linear1.__class__ = Resting


@pytest.mark.parametrize("replace", [replace_linear1, replace_out_proj, rest])
class TestCapture:
    def test_survives_copying_and_saving(self, replace):
        """Copy, pickle and state compute the same as the layer that they come from."""
        module = convert(original()).eval()
        replace(module)
        expected = module(sequences())
        for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert type(again) is CallingTransformerEncoderLayer
            assert torch.equal(again(sequences()), expected)
        fresh = convert(original())
        replace(fresh)
        fresh.load_state_dict(module.state_dict())
        assert torch.equal(fresh(sequences()), expected)

    @pytest.mark.parametrize("gradients", [True, False])
    def test_compiles_whole(self, replace, gradients):
        """torch.compile captures it in one graph, with gradients and without."""
        module = convert(original())
        replace(module)
        module.eval()
        with torch.set_grad_enabled(gradients):
            compiled = torch.compile(module, fullgraph=True, backend="eager")
            torch.testing.assert_close(compiled(sequences()), module(sequences()))

    def test_is_one_call_in_a_symbolic_trace(self, replace):
        """A user's own trace has it as a module that is called, as it has torch's."""
        model = nn.Sequential(convert(original()))
        replace(model[0])
        traced = torch.fx.symbolic_trace(model)
        assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["0"]
        assert torch.equal(traced(sequences()), model(sequences()))

    def test_can_t_be_traced_itself(self, replace):
        """Its own forward depends on its input, as that of torch's layer does."""
        module = convert(original())
        replace(module)
        with pytest.raises(torch.fx.proxy.TraceError, match="control flow"):
            torch.fx.symbolic_trace(module)

    @pytest.mark.parametrize("strict", [True, False])
    def test_exports(self, replace, strict):
        """torch.export captures it, in both modes."""
        module = convert(original())
        replace(module)
        module.eval()
        exported = torch.export.export(module, (sequences(),), strict=strict).module()
        torch.testing.assert_close(exported(sequences()), module(sequences()))


def test_is_the_owner_for_torch_s_class():
    """torch's layer and a subclass that inherits its forward have this owner; others have none."""
    inheriting = type("Inheriting", (nn.TransformerEncoderLayer,), {})
    own = type("Own", (nn.TransformerEncoderLayer,), {"forward": lambda self, x: x})
    assert owner_for(nn.TransformerEncoderLayer) is CallingTransformerEncoderLayer
    assert owner_for(inheriting) is CallingTransformerEncoderLayer
    assert owner_for(own) is None
    assert owner_for(CallingTransformerEncoderLayer) is None
    assert owner_for(nn.TransformerDecoderLayer) is None
