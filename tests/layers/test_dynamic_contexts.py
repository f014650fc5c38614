"""Where dynamic layers have their contexts from, and what else an instance can do."""

import copy
import logging

import pytest
import torch
from torch import nn

from bioconvert.core.random import Stream
from bioconvert.layers import (
    DynamicConv2d,
    DynamicConvTranspose2d,
    DynamicLinear,
    dynamic_attributes,
    dynamic_tensors,
)
from bioconvert.layers.context_encoder import encoded, summarised


def moved(layer):
    """Give the layer, in fp64, with its gate anywhere."""
    with torch.no_grad():
        layer.gate.normal_()
    return layer.double()


class TestContext:
    def test_given_ones_are_used_as_they_are(self):
        """A context that is given decides the weights, and the input doesn't."""
        layer = moved(DynamicConv2d(3, 4, 3, context_length=5))
        x, context = torch.randn(2, 3, 6, 6).double(), torch.randn(2, 5).double()
        swapped = layer(x, context.flip(0))
        torch.testing.assert_close(layer(x.flip(0), context).flip(0), swapped)
        assert not torch.allclose(layer(x, context), swapped)

    @pytest.mark.parametrize("shape", [(1, 5), (5,)])
    def test_one_serves_the_batch(self, shape):
        """A single context is shared by all samples."""
        layer = moved(DynamicConv2d(3, 4, 3, context_length=5))
        x, context = torch.randn(2, 3, 6, 6).double(), torch.randn(shape).double()
        torch.testing.assert_close(layer(x, context), layer(x, context.expand(2, 5)))

    @pytest.mark.parametrize(
        ("layer", "shape"),
        [
            (DynamicConv2d(3, 4, 3, context_length=5), (6, 3, 4, 4)),
            (DynamicConv2d(3, 4, 1, context_length=5), (6, 3, 4, 4)),
            (DynamicConvTranspose2d(3, 4, 3, context_length=5), (6, 3, 4, 4)),
            (DynamicLinear(3, 4, context_length=5), (6, 3)),
            (DynamicLinear(3, 4, context_length=5), (6, 7, 3)),
        ],
    )
    def test_windows_of_a_sample_share_its_context(self, layer, shape):
        """Where the batch is a multiple of the contexts, each serves samples that follow one another."""
        layer, x = moved(layer), torch.randn(shape).double()
        context = torch.randn(2, 5).double()
        torch.testing.assert_close(
            layer(x, context=context), layer(x, context=context.repeat_interleave(3, 0))
        )
        layer.gate.data.zero_()
        onward = torch.randn(layer(x).shape).double()
        grads = [
            torch.autograd.grad(layer(x, context=c), (layer.gate, layer.weight), onward)
            for c in (context, context.repeat_interleave(3, 0))
        ]
        torch.testing.assert_close(*grads)

    def test_batches_that_cannot_be_shared_out(self):
        """A batch that isn't a multiple of the contexts is an error."""
        layer = moved(DynamicConv2d(3, 4, 3, context_length=5))
        with pytest.raises(ValueError, match="multiple of the number of weights, got 3 and 2"):
            layer(torch.randn(3, 3, 6, 6).double(), torch.randn(2, 5).double())

    @pytest.mark.parametrize("shape", [(2, 4), (2, 5, 1)])
    def test_shapes_that_are_wrong(self, shape):
        """A context of another shape is an error, also at a gate of zero."""
        layer = DynamicLinear(3, 4, context_length=5)
        with pytest.raises(ValueError, match=r"context must have the shape \[samples, 5\]"):
            layer(torch.randn(2, 3), torch.randn(shape))

    def test_own_input_before_padding(self):
        """The context of an input doesn't depend on how the convolution pads it."""
        torch.manual_seed(0)
        layer = moved(DynamicConv2d(3, 4, 3, padding=1, padding_mode="circular"))
        x = torch.randn(2, 3, 4, 4).double()
        context = encoded(x, layer.context_weight, layer.context_bias)
        torch.testing.assert_close(layer(x), layer(x, context))

    def test_outside_of_a_model(self):
        """A layer whose context a model must carry says so when it is called by itself."""
        layer = DynamicLinear(3, 4, context="model_input")
        assert "context_weight" not in dict(layer.named_parameters())
        with pytest.raises(Exception, match="context"):
            layer(torch.randn(2, 3))

    def test_channels_last_memory(self):
        """The memory format of the input changes nothing."""
        x = torch.randn(2, 4, 6, 6).double()
        for layer in (DynamicConv2d(4, 6, 3), DynamicConv2d(4, 6, 1), DynamicConvTranspose2d(4, 6, 3)):
            other = copy.deepcopy(moved(layer)).to(memory_format=torch.channels_last)
            torch.testing.assert_close(other(x.to(memory_format=torch.channels_last)), layer(x))


class TestEncoder:
    @pytest.mark.parametrize(
        ("shape", "channels", "axes"),
        [
            ((2, 6), "auto", ()),
            ((2, 6, 5), "auto", (2,)),
            ((2, 5, 6), "auto", (1,)),
            ((2, 6, 6), "auto", (1,)),
            ((2, 6, 6), "first", (2,)),
            ((2, 6, 4, 5), "auto", (2, 3)),
            ((2, 4, 5, 6), "auto", (1, 2)),
            ((2, 6, 5, 6), "auto", (2, 3)),
            ((2, 6, 5, 6), "last", (1, 2)),
        ],
    )
    def test_means_over_positions(self, shape, channels, axes):
        """Positions are all but samples and channels, which stand where told or where the width is found."""
        source = torch.randn(shape)
        expected = source.mean(axes) if axes else source
        torch.testing.assert_close(summarised(source, 6, channels), expected)

    def test_width_is_adapted(self):
        """Channels of another number are brought to the encoder's width by averaging neighbours."""
        source = torch.tensor([[1.0, 3.0, 5.0, 7.0]])
        torch.testing.assert_close(summarised(source, 2), torch.tensor([[2.0, 6.0]]))

    def test_numbers_are_needed(self):
        """Integers make no context, and the error says what may."""
        with pytest.raises(
            TypeError, match=r"floating point, got torch\.int64: take the output of an embedding"
        ):
            summarised(torch.zeros(2, 3, dtype=torch.long), 3)
        with pytest.raises(ValueError, match="must have samples and channels"):
            summarised(torch.zeros(3), 3)


class TestInstance:
    def test_becomes_dynamic_by_its_class(self):
        """A torch layer given the class, the attributes and the tensors is a dynamic layer."""
        layer = nn.Conv2d(3, 4, 3, groups=1)
        weight, x = layer.weight, torch.randn(2, 3, 5, 5)
        y = layer(x)
        for name, value in dynamic_attributes(kernels=3).items():
            setattr(layer, name, value)
        for name, tensor in dynamic_tensors(weight.shape, 4, 3, kernels=3).items():
            layer.register_parameter(name, tensor.parameter(Stream(0, "layer"), name))
        layer.__class__ = DynamicConv2d
        assert layer.weight is weight
        assert torch.equal(layer(x), y)
        layer(x).sum().backward()
        assert layer.gate.grad.any()

    def test_gate_starts_as_told(self):
        """The option is the gate's first value, and its value after a reset."""
        layer = DynamicLinear(3, 4, gate=0.5)
        assert layer.gate.eq(0.5).all()
        with torch.no_grad():
            layer.gate.zero_()
        layer.reset_parameters()
        assert layer.gate.eq(0.5).all()

    def test_reset_draws_everything_anew(self):
        """A reset fills a layer that was made on the meta device, as its constructor would have."""
        layer = DynamicConv2d(3, 4, 3, device="meta").to_empty(device="cpu")
        torch.manual_seed(0)
        layer.reset_parameters()
        torch.manual_seed(0)
        for name, expected in DynamicConv2d(3, 4, 3).state_dict().items():
            assert torch.equal(layer.state_dict()[name], expected), name

    def test_seed_decides(self):
        """The same seed of torch makes the same layer, another seed another."""
        layers = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            layers.append(DynamicLinear(3, 4))
        assert torch.equal(layers[0].composer_kernels, layers[1].composer_kernels)
        assert not torch.equal(layers[0].composer_kernels, layers[2].composer_kernels)

    def test_gate_is_looked_at_each_time(self):
        """A gate that moves, however it does, is noticed at once, and so is one that closes again."""
        layer, x = DynamicLinear(3, 4), torch.randn(2, 3)
        y = layer(x)
        layer.gate.data.fill_(1.0)
        assert not torch.equal(layer(x), y)
        layer.load_state_dict({**layer.state_dict(), "gate": torch.zeros(4)})
        assert torch.equal(layer(x), y)
        layer.gate = nn.Parameter(torch.ones(4))
        assert not torch.equal(layer(x), y)

    def test_loads_a_plain_checkpoint(self, caplog):
        """The state dict of the torch layer loads; what it lacks stays, with a notice."""
        layer, plain = DynamicLinear(3, 4), nn.Linear(3, 4)
        kernels = layer.composer_kernels.detach().clone()
        with caplog.at_level(logging.INFO, "bioconvert"):
            layer.load_state_dict(plain.state_dict())
        assert torch.equal(layer.weight, plain.weight)
        assert torch.equal(layer.composer_kernels, kernels)
        assert "composer_kernels" in caplog.text

    def test_output_size(self):
        """A transposed convolution gives the size asked for."""
        layer = moved(DynamicConvTranspose2d(3, 4, 3, stride=2))
        x = torch.randn(2, 3, 4, 4).double()
        assert layer(x).shape == (2, 4, 9, 9)
        assert layer(x, (10, 9)).shape == (2, 4, 10, 9)

    def test_frozen_additions(self):
        """Where no addition learns, a closed gate leaves the torch layer's own graph."""
        layer = DynamicLinear(3, 4)
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(name in ("weight", "bias"))
        y = layer(torch.randn(2, 3))
        assert "AddmmBackward" in type(y.grad_fn).__name__

    def test_autocast_leaves_tied_weights_their_graph(self):
        """A weight that a dynamic layer shares with another under autocast learns through both."""
        layer, plain = DynamicConv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, bias=False)
        plain.weight = layer.weight
        x = torch.randn(2, 3, 4, 4)
        with torch.autocast("cpu", torch.bfloat16):
            layer(x)
            plain(x).float().sum().backward()
        assert layer.weight.grad.any()

    def test_repr(self):
        """The repr shows what kind of dynamic layer it is, and options that aren't the default."""
        text = repr(DynamicLinear(3, 4, kernels=2, context="node:stem"))
        assert "composer=mixture, context=node:stem, context_length=16, kernels=2" in text


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: DynamicConv2d(3, 4, 3, gate=0.5), (3, 3, 4, 4)),
        (lambda: DynamicLinear(3, 4, gate=0.5), (3, 3)),
        (lambda: DynamicLinear(3, 4, gate=0.5), (3, 5, 3)),
    ],
)
def test_exports_for_batches_of_any_size(layer, shape):
    """An exported layer takes other numbers of samples than it was exported with."""
    layer, x = layer(), torch.randn(shape)
    dynamic = ({0: torch.export.Dim("batch", min=2, max=64)},)
    exported = torch.export.export(layer, (x,), dynamic_shapes=dynamic).module()
    torch.testing.assert_close(exported(torch.cat([x, -x])), layer(torch.cat([x, -x])))


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"composer": "mixtur"}, "no composer named 'mixtur'. Did you mean 'mixture'"),
            ({"context": "node:"}, "context must be one of"),
            ({"context": "other"}, "context must be one of"),
            ({"context_length": 0}, "context_length must be positive"),
            ({"context_features": 0}, "context_features must be positive"),
            ({"channels": "middle"}, "channels must be one of"),
            ({"gate": float("nan")}, "gate must be finite"),
            ({"kernels": 0}, "kernels must be positive"),
            ({"temperature": 0.0}, "temperature must be positive"),
            ({"kernel": 3}, "has no option 'kernel'. Did you mean 'kernels'"),
        ],
    )
    def test_bounds(self, options, said):
        """Options that are unknown or out of their bounds are errors that say so."""
        with pytest.raises(ValueError, match=said):
            DynamicLinear(3, 4, **options)

    def test_own_encoder_of_another_source(self):
        """A width for the encoder gives the layer one, whatever its context."""
        layer = DynamicLinear(3, 4, context="node:stem", context_features=7)
        assert layer.context_weight.shape == (16, 7)

    @pytest.mark.parametrize("make", [lambda: DynamicLinear(0, 3), lambda: DynamicConv2d(3, 0, 1)])
    def test_sizes(self, make):
        """Sizes must be positive."""
        with pytest.raises(ValueError, match="must be positive"):
            make()
