"""Ridge regression of a layer on what it gave before."""

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from bioconvert.core.errors import Refused
from bioconvert.organism.refit import _rows, check_linear, refit
from bioconvert.organism.refit_moments import Regression


def gaussian(*shape, seed=0):
    """Draw normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain(layer):
    """Give a layer drawn by a seed."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return layer


LAYERS = [
    pytest.param(lambda: nn.Linear(6, 3), (9, 6), id="Linear"),
    pytest.param(lambda: nn.Linear(6, 3, bias=False), (4, 5, 6), id="Linear of tokens, no bias"),
    pytest.param(lambda: nn.Conv1d(4, 3, 3, stride=2, padding=1), (5, 4, 9), id="Conv1d, strided"),
    pytest.param(lambda: nn.Conv2d(4, 3, (3, 2), dilation=(1, 2), padding="same"), (5, 4, 8, 7), id="same"),
    pytest.param(
        lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), (5, 4, 6, 6), id="Conv2d, reflecting"
    ),
    pytest.param(lambda: nn.Conv2d(4, 3, 3), (4, 6, 6), id="Conv2d, one picture"),
    pytest.param(lambda: nn.Conv3d(2, 3, 2), (3, 2, 4, 4, 4), id="Conv3d"),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
class TestEveryLayer:
    def test_finds_the_weights_that_gave_the_outputs(self, make, shape):
        """Fitted to what other weights give, a layer takes on these."""
        layer, other, x = plain(make()), make(), gaussian(*shape, seed=1)
        wanted = other(x).detach()
        found = refit(layer, [x], [wanted], strength=1e-9)
        assert torch.allclose(layer(x), wanted, atol=1e-3)
        assert found.before > 0.1 > 1e-4 > found.after >= 0

    def test_rows_are_what_the_weights_meet(self, make, shape):
        """Rows of inputs times the weights are rows of outputs."""
        layer, x = plain(make()), gaussian(*shape)
        y = layer(x).detach()
        check_linear(layer, x, y)
        for given, wanted in _rows(layer, x, y):
            product = nn.functional.linear(given, layer.weight.flatten(1), layer.bias)
            assert torch.allclose(product, wanted, atol=1e-5)

    def test_what_fits_already_stays(self, make, shape):
        """Without an error to explain, no bit changes."""
        layer, x = plain(make()).double(), gaussian(*shape).double()
        before = [p.detach().clone() for p in layer.parameters()]
        given = layer(x).detach()
        rows = [
            (a, nn.functional.linear(a, layer.weight.flatten(1), layer.bias))
            for a, _ in _rows(layer, x, given)
        ]
        assert rows
        refit(layer, [x], [given])
        for old, new in zip(before, layer.parameters(), strict=True):
            assert torch.allclose(old, new, rtol=0, atol=1e-12)


class TestTheStrength:
    def test_is_that_of_ridge_regression(self):
        """At a given strength, the change of the weights is what scikit-learn finds for the errors."""
        layer, x, z = plain(nn.Linear(6, 3)), gaussian(40, 6, seed=1), gaussian(40, 3, seed=2)
        weight, error = layer.weight.detach().clone(), z - layer(x).detach()
        centred = x.double() - x.double().mean(0)
        alpha = 0.3 * torch.linalg.eigvalsh(centred.T @ centred).mean().item()
        known = Ridge(alpha=alpha).fit(x.double().numpy(), error.double().numpy())
        refit(layer, [x], [z], strength=0.3)
        assert torch.allclose((layer.weight - weight).double(), torch.tensor(known.coef_), atol=1e-5)

    def test_is_great_for_noise_and_small_for_what_can_be_explained(self):
        """Cross-validation leaves weights alone where inputs tell nothing, and follows what they tell."""
        x = gaussian(60, 30, seed=1)
        noise, told = plain(nn.Linear(30, 2)), plain(nn.Linear(30, 2))
        given = noise(x).detach()
        lost = refit(noise, [x], [given + gaussian(60, 2, seed=3)])
        clear = refit(told, [x], [given + x[:, :2] * 2])
        assert lost.strength >= 1
        assert clear.strength <= 1e-4
        assert clear.after < 1e-6

    def test_batches_count_together(self):
        """Samples in one batch or in several give the same."""
        one, several = plain(nn.Linear(6, 3)), plain(nn.Linear(6, 3))
        x, z = gaussian(40, 6, seed=1), gaussian(40, 3, seed=2)
        refit(one, [x], [z])
        refit(several, list(x.split(7)), list(z.split(7)))
        assert torch.allclose(one.weight, several.weight, atol=1e-6)

    @pytest.mark.parametrize("samples", [1, 2, 3])
    def test_few_samples_do_no_harm(self, samples):
        """With fewer samples than inputs everything stays finite, and a mean is still taken over."""
        layer, x = plain(nn.Linear(6, 3)), gaussian(samples, 6)
        found = refit(layer, [x], [layer(x).detach() + 5])
        assert all(torch.isfinite(p).all() for p in layer.parameters())
        assert found.after <= found.before

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("strength", [None, 0.1])
    def test_few_samples_are_solved_as_many(self, bias, strength, monkeypatch):
        """From the samples, where they are fewer than the inputs, comes what their sums give."""
        x, found = gaussian(9, 20, seed=1), []
        for few in (True, False):
            layer = plain(nn.Linear(20, 3, bias=bias)).double()
            wanted = layer(x.double()).detach() + gaussian(9, 3, seed=2) + x[:, :3]
            if not few:
                monkeypatch.setattr("bioconvert.organism.refit_moments.processes", lambda: 2)
                monkeypatch.setattr(Regression, "gather", lambda self: None)
            found.append((refit(layer, [x.double()], [wanted], strength), layer))
        (one, first), (other, second) = found
        assert torch.allclose(first.weight, second.weight, atol=1e-8)
        assert (one.before, one.after) == (pytest.approx(other.before), pytest.approx(other.after, abs=1e-9))
        assert one.strength == other.strength

    def test_dead_inputs_change_nothing(self):
        """Inputs that are always zero keep their weights."""
        layer = plain(nn.Linear(6, 3))
        before = layer.weight.detach().clone()
        refit(layer, [torch.zeros(5, 6)], [torch.ones(5, 3)])
        assert torch.equal(layer.weight, before)
        assert torch.allclose(layer.bias, torch.ones(3))


@pytest.mark.parametrize(
    ("layer", "x", "said"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), torch.ones(1, 4, 5, 5), "no convolution without groups"),
        (nn.ConvTranspose2d(4, 4, 3), torch.ones(1, 4, 5, 5), "no convolution without groups"),
        (nn.LayerNorm(4), torch.ones(1, 4), "is no Linear"),
    ],
)
def test_other_layers_are_refused(layer, x, said):
    """What has no such weights isn't fitted."""
    with pytest.raises(Refused, match=said):
        check_linear(layer, x, layer(x))


def test_a_layer_that_bends_its_output_is_refused():
    """A layer whose output isn't that of its weights isn't fitted."""
    layer = nn.Linear(4, 3)
    with pytest.raises(Refused, match="isn't linear in its input"):
        check_linear(layer, torch.ones(2, 4), layer(torch.ones(2, 4)).square())
