"""Our layers against a live nmn, where one is installed."""

import pytest
from nmn_cases import CASES, build, find_class, output, relative_error, sample

from bioconvert.compat.nmn import from_module, load_layer

pytest.importorskip("nmn")

GENERATION = "0.3" if "constant_alpha" in vars(find_class("YatNMN")(2, 2)) else "0.1"
TOLERANCE = 1e-5


@pytest.mark.parametrize("case", CASES[GENERATION], ids=lambda case: case.name)
class TestEveryLayer:
    @pytest.fixture
    def layer(self, case):
        """A layer of the installed nmn."""
        cls = find_class(case.kind)
        if cls is None:
            pytest.skip(f"this nmn has no {case.kind}")
        try:
            return build(case, cls)
        except TypeError:
            pytest.skip(f"this nmn has not the options of {case.name}")

    def test_live_module_keeps_its_output(self, case, layer):
        """A live layer made into ours is the same object and computes the same."""
        try:
            x = sample(case, layer)
            expected = output(layer, x)
        except RuntimeError:
            pytest.skip(f"this nmn fails itself when {case.name} is called")
        assert from_module(layer) is layer
        assert type(layer).__module__.startswith("bioconvert.")
        assert relative_error(output(layer, x), expected) < TOLERANCE

    def test_state_dict_is_as_recorded(self, case, layer):
        """A live layer's state dict still has the names and shapes that are read."""
        load_layer(layer.state_dict(), case.kind, generation=GENERATION, **case.said)
