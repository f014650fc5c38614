"""Several options of a Yat layer at once, in what takes layers apart: compilers, transforms, autocast."""

import copy

import pytest
import torch
from torch import func, nn

from bioconvert.layers import YatConvTranspose2d, YatLinear

TOGETHER = [
    pytest.param(
        {"mask": True, "weight_normalized": True, "scalar_bias": True, "softplus_bias": True}, id="one"
    ),
    pytest.param({"kernel_bank": True, "per_unit": True, "learnable_epsilon": True, "mask": True}, id="two"),
    pytest.param(
        {"constant_bias": 0.5, "freeze_kernel": True, "kernel_bank": True, "offset": True}, id="three"
    ),
]


@pytest.mark.parametrize("options", TOGETHER)
@pytest.mark.parametrize(
    ("make", "own", "bank", "shape"),
    [
        (lambda **o: YatLinear(4, 6, **o), (6, 4), (8, 4), (2, 4)),
        (
            lambda **o: YatConvTranspose2d(4, 6, 2, stride=2, groups=2, **o),
            (4, 3, 2, 2),
            (4, 5, 2, 2),
            (2, 4, 3, 3),
        ),
    ],
    ids=["YatLinear", "YatConvTranspose2d"],
)
class TestOptionsTogether:
    @staticmethod
    def built(make, own, bank, options):
        options = dict(options)
        if "mask" in options:
            options["mask"] = torch.rand(own) > 0.3
        if "kernel_bank" in options:
            options["kernel_bank"] = nn.Parameter(torch.randn(bank))
        return make(**options)

    def test_compile_and_export(self, make, own, bank, shape, options):
        """Compiled as a whole and exported, the layer computes the same."""
        layer, x = self.built(make, own, bank, options).double(), torch.randn(shape).double()
        expected = layer(x)
        torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), expected)
        torch.testing.assert_close(torch.export.export(layer, (x,), strict=True).module()(x), expected)

    def test_gradients_by_sample(self, make, own, bank, shape, options):
        """`torch.func` gives the gradient of each sample."""
        layer, x = self.built(make, own, bank, options).double(), torch.randn(shape).double()
        parameters = {name: p.detach() for name, p in layer.named_parameters()}

        def loss(parameters, sample):
            return func.functional_call(layer, parameters, (sample.unsqueeze(0),)).sum()

        found = func.vmap(func.grad(loss), (None, 0))(parameters, x)
        expected = func.grad(loss)(parameters, x[1])
        torch.testing.assert_close({name: each[1] for name, each in found.items()}, expected)

    def test_half_precision_and_autocast(self, make, own, bank, shape, options):
        """The output is near that of single precision, in the type that torch's own layer gives."""
        layer, x = self.built(make, own, bank, options), torch.randn(shape)
        expected = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            lowered = layer(x)
        half = copy.deepcopy(layer).bfloat16()(x.bfloat16())
        assert lowered.dtype is half.dtype is torch.bfloat16
        torch.testing.assert_close(lowered.float(), expected, rtol=0.02, atol=0.02)
        assert half.isfinite().all()
