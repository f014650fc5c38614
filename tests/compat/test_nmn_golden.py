"""Our layers against what nmn of both generations was recorded to compute."""

import pytest
import torch
from nmn_cases import relative_error
from nmn_golden import GOLDEN, records

from bioconvert.compat.nmn import load_layer

RECORDS = list(records())
TOLERANCE = 1e-5
LARGEST = 300_000


def computed(layer, x):
    """Give the scores of an embedding, the self-attention of an attention, the output of anything else."""
    if hasattr(layer, "attend"):
        return layer.attend(x)
    return layer(x, x, x)[0] if isinstance(layer, torch.nn.MultiheadAttention) else layer(x)


@pytest.mark.parametrize("recorded", RECORDS, ids=lambda each: f"{each.release} {each.name}")
class TestEveryRecordedLayer:
    def test_computes_what_nmn_did(self, recorded):
        """A layer built from nmn's tensors gives nmn's output, to 1e-5 of the largest."""
        layer = load_layer(
            recorded.state, recorded.kind, generation=recorded.generation, **recorded.options
        ).eval()
        with torch.no_grad():
            found = computed(layer, recorded.tensor("input"))
        assert relative_error(found, recorded.tensor("output")) < TOLERANCE

    def test_is_finite_and_not_zero(self, recorded):
        """What was recorded is worth comparing to: finite, with outputs that differ."""
        expected = recorded.tensor("output")
        assert torch.isfinite(expected).all()
        assert expected.std() > 0


def test_other_generation_computes_something_else():
    """The generation matters: read as the other one, a layer with a bias gives other outputs."""
    plain = [
        each
        for each in RECORDS
        if each.name.endswith("plain") and each.kind.startswith(("YatNMN", "YatConv"))
    ]
    for recorded in plain:
        other = "0.3" if recorded.generation == "0.1" else "0.1"
        layer = load_layer(recorded.state, recorded.kind, generation=other, defaults=True).eval()
        found = layer(recorded.tensor("input"))
        assert relative_error(found, recorded.tensor("output")) > 100 * TOLERANCE, recorded.name


def test_embeddings_look_rows_up():
    """An embedding's lookup gives nmn's rows as they are."""
    recorded = next(each for each in RECORDS if each.name == "YatEmbed plain")
    layer = load_layer(recorded.state, "YatEmbed", generation="0.3", defaults=True)
    assert torch.equal(layer(torch.tensor([1, 2])), recorded.state["embedding"][1:3])


def test_recorded_data_is_small():
    """The recorded files take less than 300 kB."""
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < LARGEST
