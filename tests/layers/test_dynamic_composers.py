"""Dynamic layers with each of the composers."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.layers import DynamicConv2d, DynamicConvTranspose2d, DynamicLinear

COMPOSERS = {
    "mixture": {"kernels": 3},
    "delta": {"rank": 2},
    "mobius": {"n_subspaces": 2, "rank_subspace": 2, "rank_transformations": 2},
}
LAYERS = {
    "linear": (lambda **o: DynamicLinear(4, 3, context_length=3, **o), (5, 4)),
    "tokens": (lambda **o: DynamicLinear(4, 3, context_length=3, **o), (2, 6, 4)),
    "conv2d": (lambda **o: DynamicConv2d(4, 6, 3, groups=2, context_length=3, **o), (2, 4, 6, 5)),
    "transposed": (lambda **o: DynamicConvTranspose2d(4, 6, 3, context_length=3, **o), (2, 4, 3, 3)),
}


def made(layer, composer, **options):
    """Give a layer and an input for it."""
    torch.manual_seed(0)
    make, shape = LAYERS[layer]
    return make(composer=composer, **COMPOSERS[composer], **options), torch.randn(shape)


@pytest.mark.parametrize("composer", COMPOSERS)
@pytest.mark.parametrize("layer", LAYERS)
class TestEveryComposer:
    def test_learns_from_a_closed_gate(self, layer, composer):
        """At a gate of zero the output is the plain one, and within two steps everything has a gradient."""
        layer, x = made(layer, composer)
        plain = copy.deepcopy(layer)
        for name, parameter in plain.named_parameters():
            parameter.requires_grad_(name in ("weight", "bias"))
        assert torch.equal(layer(x), plain(x))
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        for _ in range(2):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            assert all(parameter.grad is not None for parameter in layer.parameters())
            optimizer.step()
        dead = [name for name, parameter in layer.named_parameters() if not parameter.grad.any()]
        assert dead == []

    def test_training_adds_no_noise(self, layer, composer):
        """In training and in use the layer gives the same."""
        layer, x = made(layer, composer, gate=1.0)
        assert torch.equal(layer.train()(x), layer.eval()(x))

    def test_samples_have_weights_of_their_own(self, layer, composer):
        """The output for a batch is that of its samples one by one, and depends on their contexts."""
        layer, x = made(layer, composer, gate=1.0)
        layer, x = layer.double(), x.double()
        y = layer(x)
        torch.testing.assert_close(y, torch.cat([layer(each) for each in x.split(1)]))
        context = torch.ones(1, 3).double()
        assert not torch.allclose(layer(x, context=context), y, rtol=1e-9, atol=0)


class TestMixture:
    def test_is_the_formula(self):
        """The weights are the plain ones and, behind the gate, kernels in shares that the context decides."""
        layer, x = made("conv2d", "mixture", temperature=0.5)
        with torch.no_grad():
            layer.gate.normal_()
        layer, x = layer.double(), x.double()
        context = torch.tanh(x.mean((2, 3)) @ layer.context_weight.t() + layer.context_bias)
        logits = (context @ layer.composer_router.t() + layer.composer_router_bias) / 0.5
        kernels = layer.composer_kernels.view(3, *layer.weight.shape)
        expected = []
        for sample, shares in zip(x, logits.softmax(1), strict=True):
            delta = (shares.view(-1, 1, 1, 1, 1) * kernels).sum(0)
            weight = layer.weight + layer.gate.view(-1, 1, 1, 1) * delta
            expected.append(F.conv2d(sample[None], weight, layer.bias, groups=2)[0])
        torch.testing.assert_close(layer(x), torch.stack(expected))

    def test_gate_of_a_transposed_convolution(self):
        """One number of the gate concerns one output channel, across the groups."""
        layer = DynamicConvTranspose2d(4, 6, 3, groups=2)
        x = torch.randn(2, 4, 3, 3)
        y = layer(x)
        with torch.no_grad():
            layer.gate[4] = 1.0
        changed = (layer(x) - y).abs().amax((0, 2, 3)) > 1e-3
        assert changed.tolist() == [False] * 4 + [True, False]

    def test_one_kernel_is_an_addition(self):
        """A mixture of one kernel adds it, whatever the context."""
        torch.manual_seed(0)
        layer, x = DynamicLinear(4, 3, kernels=1, gate=1.0).double(), torch.randn(5, 2, 4).double()
        expected = F.linear(x, layer.weight + layer.composer_kernels[0], layer.bias)
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("composer", COMPOSERS)
def test_compiles_and_copies(composer):
    """Compiled in one graph, exported, pickled and copied, the layer computes the same."""
    torch._dynamo.reset()
    layer, x = made("conv2d", composer, gate=1.0)
    layer, x = layer.double(), x.double()
    y = layer(x)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), y)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), y)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), y)
    torch.testing.assert_close(torch.func.vmap(layer)(torch.stack([x, x]))[1], y)
    model = nn.Sequential(layer)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), y)
