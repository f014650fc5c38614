"""``bioconvert drift``: how far a converted model's outputs are from its original's."""

from __future__ import annotations

from bioconvert.cli.command import Answer
from bioconvert.cli.inputs import samples
from bioconvert.cli.options import Every, Folder, Inputs, InputShape, Seed
from bioconvert.cli.source import load_ours, require
from bioconvert.cli.streams import step
from bioconvert.core.errors import OptionError


def drift(
    folder: Folder,
    inputs: Inputs = None,
    input_shape: InputShape = None,
    seed: Seed = 0,
    every: Every = False,
) -> Answer:
    """Compare a converted model's outputs with its original's.

    Layer by layer, in the model's order, and last end to end.
    """
    require(folder)
    given = samples(inputs, input_shape, seed=seed)
    if given is None:
        raise OptionError("give inputs to compare on: --inputs FILE, or --input-shape as 1,3,224,224")
    from bioconvert import api
    from bioconvert.report.drift import drift_tables

    model = load_ours(folder)
    arguments = given.arguments(model)
    with step("measuring the drift"):
        found = api.drift(model, arguments)
    return Answer({"drift": found.to_dict()}, lambda: drift_tables(found.layers, found.output, every=every))
