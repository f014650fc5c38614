"""The layer of excitatory outputs and inhibitory interneurons."""

import copy
import pickle

import pytest
import torch
from plastic_models import OPTIMIZERS, attach, bound, step
from torch import nn

from bioconvert.layers import DannLinear

SIZES = [
    pytest.param(12, 16, {}, id="an eighth"),
    pytest.param(5, 3, {"interneurons": 4}, id="more than outputs"),
    pytest.param(7, 1, {}, id="one output"),
    pytest.param(1, 9, {"bias": False}, id="one input"),
]


def seeded(*args, **kwargs):
    torch.manual_seed(0)
    return DannLinear(*args, **kwargs)


@pytest.mark.parametrize(("inputs", "outputs", "options"), SIZES)
class TestEverySize:
    def test_computes_the_net_weight(self, inputs, outputs, options):
        """The output is that of a Linear with the net weight."""
        layer = seeded(inputs, outputs, **options)
        x = torch.rand(4, inputs)
        assert torch.allclose(layer(x), nn.functional.linear(x, layer.net_weight, layer.bias), atol=1e-5)

    def test_starts_non_negative(self, inputs, outputs, options):
        """No part has a negative entry, and none is NaN."""
        for parameter in seeded(inputs, outputs, **options).parameters():
            assert (parameter >= 0).all()

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_stays_non_negative(self, inputs, outputs, options, optimizer):
        """With `dale` attached no step brings a negative entry into any part, and each of them moves."""
        layer = seeded(inputs, outputs, **options)
        rules = attach({"dale": {"exempt": "none"}}, type="linear")
        layer, stepper, _ = bound(layer, OPTIMIZERS[optimizer], rules)
        parts = (layer.weight, layer.inhibitory_in, layer.inhibitory_out)
        before = [part.detach().clone() for part in parts]
        x = torch.rand(4, inputs)
        for _ in range(5):
            step(layer, stepper, x)
            assert all((part >= 0).all() for part in parts)
        assert not any(torch.equal(part, old) for part, old in zip(parts, before, strict=True))


class TestStart:
    def test_is_balanced(self):
        """For each input, what outputs get on average is zero, in excitation and inhibition together."""
        layer = seeded(64, 4096, interneurons=16)
        assert layer.net_weight.mean(0).abs().max() < 0.05 * layer.weight.mean()

    @pytest.mark.parametrize("interneurons", [1, 8, 64])
    def test_has_the_variance_behind_a_relu(self, interneurons):
        """The net weight's mean square is 2 / F, whatever the number of interneurons."""
        layer = seeded(128, 64, interneurons=interneurons)
        assert layer.net_weight.square().mean().item() == pytest.approx(2 / 128, rel=1e-4)

    def test_keeps_the_size_through_depth(self):
        """Through eight layers with ReLUs activities neither die out nor explode."""
        torch.manual_seed(0)
        x = torch.rand(256, 128)
        for _ in range(8):
            x = DannLinear(128, 128)(x).relu()
        assert 0.05 < x.square().mean().sqrt() < 20

    def test_on_the_meta_device(self):
        """A layer without storage can be made."""
        assert DannLinear(4, 8, device="meta")(torch.empty(2, 4, device="meta")).shape == (2, 8)


class TestLayer:
    def test_gradients_are_exact(self):
        """Analytic and numeric gradients agree, twice over."""
        layer = seeded(3, 4, dtype=torch.float64)
        x = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
        parameters = tuple(p.detach().requires_grad_() for p in layer.parameters())

        def call(x, *values):
            names = [name for name, _ in layer.named_parameters()]
            return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

        assert torch.autograd.gradcheck(call, (x, *parameters))
        assert torch.autograd.gradgradcheck(call, (x, *parameters))

    def test_copies_compiles_and_exports(self):
        """Copies, one compiled graph and an exported program compute the same."""
        layer, x = seeded(6, 8), torch.rand(3, 6)
        expected = layer(x)
        others = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
        others.append(torch.compile(layer, fullgraph=True, backend="eager"))
        others.append(torch.export.export(layer, (x,)).module())
        assert all(torch.allclose(other(x), expected) for other in others)

    def test_shows_its_sizes(self):
        """Its repr names the number of interneurons."""
        assert "in_features=4, out_features=16, bias=True, interneurons=2" in repr(DannLinear(4, 16))

    @pytest.mark.parametrize("sizes", [(0, 3, 1), (3, 0, 1), (3, 3, 0)])
    def test_sizes_that_can_not_be(self, sizes):
        """Sizes below one are an error that names them."""
        with pytest.raises(ValueError, match="sizes must be positive, got"):
            DannLinear(*sizes[:2], interneurons=sizes[2])
