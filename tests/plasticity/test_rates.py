"""Rates as they are kept: in full, or in a byte on a logarithmic scale."""

import math

import pytest
import torch

import bioconvert as bc
from bioconvert.core.errors import RuleError
from bioconvert.plasticity.rates import decode, encode

BOUNDS = [(0.5, 2.0), (0.01, 1.0), (1e-3, 1e3), (0.9, 1.1)]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
class TestCompact:
    def test_takes_a_byte(self, bounds):
        """A kept rate is one byte."""
        kept = encode(torch.rand(1000) + 0.5, bounds, "compact")
        assert kept.element_size() == 1
        assert kept.numel() == 1000

    def test_error_is_bounded(self, bounds):
        """The relative error is at most ln(u / l) / 508."""
        low, high = bounds
        rates = torch.logspace(math.log10(low), math.log10(high), 10_001, dtype=torch.float64).clamp(
            low, high
        )
        found = decode(encode(rates, bounds, "compact"), bounds).double()
        limit = math.expm1(math.log(high / low) / 508) + 1e-5
        error = (found / rates - 1).abs().max()
        assert limit / 3 < error <= limit

    def test_rates_beyond_the_bounds_are_drawn_in(self, bounds):
        """What lies outside is kept as the nearest bound."""
        low, high = bounds
        found = decode(encode(torch.tensor([low / 2, high * 2]), bounds, "compact"), bounds)
        assert found.tolist() == pytest.approx([low, high], rel=1e-5)

    def test_what_was_kept_stays(self, bounds):
        """Keeping what was read changes nothing: rates don't drift."""
        kept = torch.arange(255).to(torch.uint8)
        assert torch.equal(encode(decode(kept, bounds), bounds, "compact"), kept)


def test_one_is_kept_exactly():
    """Within bounds whose middle is 1, a rate of 1 comes back as 1."""
    found = decode(encode(torch.ones(3), (0.5, 2.0), "compact"), (0.5, 2.0))
    assert torch.allclose(found, torch.ones(3), atol=2e-7, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_in_full_nothing_is_lost(dtype):
    """Rates kept in full are the very same tensor."""
    rates = torch.rand(10, dtype=dtype)
    assert decode(encode(rates, (0.5, 2.0), "full"), (0.5, 2.0)) is rates


@pytest.mark.parametrize(
    "bounds", [[2.0, 0.5], [0.0, 1.0], [1.0, 1.0], [0.5, math.inf], [-1.0, 2.0]], ids=str
)
def test_bounds_must_be_in_order(bounds):
    """Bounds that are crossed, not positive or not finite are an error of the rule."""
    rules = {
        "version": 1,
        "rules": [{"match": {"type": "linear"}, "attach": [{"fuzzy_lr": {"bounds": bounds}}]}],
    }
    with pytest.raises(RuleError, match=r"fuzzy_lr.bounds: must be the least and the greatest rate"):
        bc.plan(torch.nn.Linear(2, 2), rules)
