"""What every dynamic layer must hold to, over a table of layers."""

import copy
import io
import pickle

import pytest
import torch
from dynamic_rows import ROWS, made, plain_twin
from torch import nn

# torch warns where one side is padded more than the other.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
every = pytest.mark.parametrize("name", ROWS)
closed_and_moved = pytest.mark.parametrize("moved", [False, True], ids=["closed", "moved"])
DYNAMIC = {
    "gate",
    "context_weight",
    "context_bias",
    "composer_kernels",
    "composer_router",
    "composer_router_bias",
}


@every
class TestClosedGate:
    @pytest.mark.parametrize("training", [True, False])
    def test_output_is_the_plain_one(self, name, training):
        """At a gate of zero the output equals the torch layer's bit for bit, in training and in use."""
        layer, x = made(name)
        twin = plain_twin(name, layer).train(training)
        assert torch.equal(layer.train(training)(x), twin(x))
        with torch.no_grad():
            assert torch.equal(layer(x), twin(x))

    def test_gradients_are_the_plain_ones(self, name):
        """At a gate of zero input, weight and bias have the gradients that the torch layer gives them."""
        layer, x = made(name, dtype=torch.float64)
        twin, other = plain_twin(name, layer), x.clone().requires_grad_()
        y = layer(x.requires_grad_())
        onward = torch.randn_like(y)
        y.backward(onward)
        twin(other).backward(onward)
        torch.testing.assert_close(x.grad, other.grad)
        for key, parameter in twin.named_parameters():
            torch.testing.assert_close(getattr(layer, key).grad, parameter.grad)

    def test_everything_learns_within_two_steps(self, name):
        """The gate has a gradient in the first step, every other parameter in the second."""
        layer, x = made(name)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for step in range(2):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            assert all(parameter.grad is not None for parameter in layer.parameters())
            if step == 0:
                assert layer.gate.grad.count_nonzero() == layer.gate.numel()
                optimizer.step()
        dead = [key for key, parameter in layer.named_parameters() if not parameter.grad.any()]
        assert dead == []

    def test_gradients_are_those_of_the_formula(self, name):
        """What the closed gate computes by hand is what autograd finds for the gated weight."""
        layer, x = made(name, dtype=torch.float64)
        by_hand = gradients(layer, x)
        # Under vmap the layer computes in plain operations alone.
        values = dict(layer.named_parameters())
        y = torch.func.functional_call(layer, values, (x,))
        onward = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)

        def loss(values):
            return (torch.func.functional_call(layer, values, (x,)) * onward).sum()

        for key, expected in torch.func.grad(loss)(values).items():
            torch.testing.assert_close(by_hand[key], expected)


def gradients(layer, x):
    """Give the gradients of the parameters for a fixed gradient of the output."""
    y = layer(x)
    onward = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    found = torch.autograd.grad(y, tuple(layer.parameters()), onward)
    return dict(zip(dict(layer.named_parameters()), found, strict=True))


@every
@closed_and_moved
class TestEveryLayer:
    def test_derivatives(self, name, moved):
        """First derivatives agree with differences, in fp64, for the input and every parameter."""
        layer, x = made(name, dtype=torch.float64, moved=moved)
        assert torch.autograd.gradcheck(as_function(layer), arguments(layer, x), fast_mode=True)

    def test_samples_have_weights_of_their_own(self, name, moved):
        """The output for a batch is that of its samples one by one."""
        layer, x = made(name, dtype=torch.float64, moved=moved)
        if name in ("linear, vector", "conv2d, unbatched"):
            torch.testing.assert_close(layer(x), layer(x.unsqueeze(0)).squeeze(0))
            return
        torch.testing.assert_close(layer(x), torch.cat([layer(each) for each in x.split(1)]))

    def test_vmap_and_grad(self, name, moved):
        """torch.func maps the layer over a new dimension, and differentiates it there."""
        layer, x = made(name, dtype=torch.float64, moved=moved)
        stacked = torch.stack([x, 2 * x])
        mapped = torch.func.vmap(layer)(stacked)
        torch.testing.assert_close(mapped, torch.stack([layer(each) for each in stacked]))
        found = torch.func.vmap(torch.func.grad(lambda x: layer(x).square().sum()))(stacked)
        for each, expected in zip(stacked, found, strict=True):
            each = each.clone().requires_grad_()
            layer(each).square().sum().backward()
            torch.testing.assert_close(each.grad, expected)

    def test_batched_gradients(self, name, moved):
        """Several gradients at a time are those that come one at a time."""
        layer, x = made(name, dtype=torch.float64, moved=moved)
        y = layer(x.requires_grad_())
        onward = torch.randn(2, *y.shape, dtype=y.dtype)
        wanted = (x, layer.weight, layer.gate)
        together = torch.autograd.grad(y, wanted, onward, is_grads_batched=True, retain_graph=True)
        for index, each in enumerate(onward):
            for batch, expected in zip(
                together, torch.autograd.grad(y, wanted, each, retain_graph=True), strict=True
            ):
                torch.testing.assert_close(batch[index], expected)

    def test_copies(self, name, moved):
        """Pickled, deep-copied and loaded layers compute the same, and their gates are their own."""
        layer, x = made(name, moved=moved)
        y = layer(x)
        fresh, _ = made(name, seed=1)
        fresh.load_state_dict(layer.state_dict())
        buffer = io.BytesIO()
        torch.save(layer, buffer)
        buffer.seek(0)
        saved = torch.load(buffer, weights_only=False)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh, saved):
            assert torch.equal(other(x), y)
            with torch.no_grad():
                other.gate.fill_(3.0)
            assert not torch.equal(other(x), y)
        assert torch.equal(layer(x), y)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_types(self, name, moved, dtype):
        """The layer computes in its parameters' type, near to what fp64 gives."""
        if dtype == torch.float16 and name == "conv2d, reflect":
            pytest.skip("torch pads no fp16 by reflection on a CPU")
        layer, x = made(name, dtype=dtype, moved=moved)
        y = layer(x)
        assert y.dtype == dtype
        exact = copy.deepcopy(layer).double()(x.double())
        tolerance = 1e-5 if dtype == torch.float32 else 8 * torch.finfo(dtype).eps
        assert (y.double() - exact).norm() <= tolerance * exact.norm()
        y.sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())

    def test_autocast(self, name, moved):
        """Under autocast the output and the gradients are near to those without."""
        layer, x = made(name, moved=moved)
        exact = gradients(layer, x)
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        assert y.dtype == torch.bfloat16
        onward = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        y.backward(onward.to(y.dtype))
        assert all(parameter.grad.dtype == torch.float32 for parameter in layer.parameters())
        found = torch.cat([parameter.grad.flatten() for parameter in layer.parameters()])
        expected = torch.cat([gradient.flatten() for gradient in exact.values()])
        assert (found - expected).norm() <= 0.05 * expected.norm()

    def test_meta_device(self, name, moved):
        """On the meta device the layer gives shapes."""
        layer, x = made(name, moved=moved)
        shape = layer(x).shape
        assert layer.to("meta")(x.to("meta")).shape == shape

    def test_empty_batch(self, name, moved):
        """A batch without samples has an output without samples, and gradients of zero."""
        layer, x = made(name, moved=moved)
        if name in ("linear, vector", "conv2d, unbatched"):
            x = x.unsqueeze(0)
        if name in ("conv1d, circular", "conv2d, reflect"):
            pytest.skip("torch pads no empty batch this way")
        y = layer(x[:0])
        assert y.shape == (0, *layer(x).shape[1:])
        y.sum().backward()
        assert not any(parameter.grad.any() for parameter in layer.parameters())

    def test_user_traces(self, name, moved):
        """torch.fx traces a model with the layer in it, and the traced model computes the same."""
        layer, x = made(name, moved=moved)
        model = nn.Sequential(layer, nn.ReLU())
        assert torch.equal(torch.fx.symbolic_trace(model)(x), model(x))

    def test_checkpointing(self, name, moved):
        """Gradient checkpointing changes no gradient."""
        layer, x = made(name, dtype=torch.float64, moved=moved)
        layer(x).square().sum().backward()
        expected = [parameter.grad for parameter in layer.parameters()]
        layer.zero_grad()
        torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False).square().sum().backward()
        for parameter, gradient in zip(layer.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


@every
class TestRecorded:
    def test_export(self, name):
        """An exported layer computes the same."""
        layer, x = made(name, dtype=torch.float64, moved=True)
        layer.eval()
        for strict in (False, True):
            exported = torch.export.export(layer, (x,), strict=strict).module()
            torch.testing.assert_close(exported(x), layer(x))

    def test_compile(self, name):
        """The compiled layer computes the same, gradients included, in one graph."""
        torch._dynamo.reset()
        layer, x = made(name, dtype=torch.float64, moved=True)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), layer(x))
        expected, found = gradients(layer, x), gradients(compiled, x)
        for key, value in expected.items():
            torch.testing.assert_close(found[f"_orig_mod.{key}"], value)


@closed_and_moved
@pytest.mark.parametrize("name", ["linear", "linear, tokens", "conv1d", "conv2d, same", "transposed 2d"])
def test_second_derivatives(name, moved):
    """Second derivatives agree with differences, in fp64, for the input and every parameter."""
    layer, x = made(name, dtype=torch.float64, moved=moved)
    given = arguments(layer, x)
    assert torch.autograd.gradgradcheck(as_function(layer), given, fast_mode=True)


def as_function(layer):
    """Give the layer as a function of its input and its parameters."""
    names = [key for key, _ in layer.named_parameters()]
    return lambda x, *values: torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))


def arguments(layer, x):
    """Give what that function takes."""
    values = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    return x.clone().requires_grad_(), *values
