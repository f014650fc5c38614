"""State dicts that are none of dyna's, or damaged ones: every problem is named at once."""

import pytest
import torch
from dyna_states import at, composer, conv

from bioconvert.compat.dyna import LayersOnly, prepare, read
from bioconvert.core.errors import ArchitectureError, OptionError


def problems(state, options=None):
    """Give the lines of the error that reading ends in."""
    with pytest.raises(ArchitectureError, match="Missing, contradictory, or to be said") as caught:
        read(state, options=options)
    return str(caught.value).splitlines()[1:]


def changed(state, **changes):
    """Give a state dict with some tensors replaced by zeros of other shapes, or left out."""
    found = dict(state)
    for name, shape in changes.items():
        key = next(key for key in state if key.endswith(name))
        if shape is None:
            del found[key]
        else:
            found[key] = torch.zeros(shape)
    return found


DELTA, MOBIUS = at("mix", composer("delta", 6, 9)), at("mix", composer("mobius", 6, 9))
CONV = at("conv", conv("mobius", 18, 12, 6))
DELTA_CONV = at("conv", conv("delta", 48, 48, 16))
FITTING = {"padding": 0}
CASES = [
    pytest.param(changed(DELTA, extras=None), {}, "it lacks extras", id="no temperature"),
    pytest.param(changed(DELTA, weights=None), {}, "it lacks weights", id="no banks"),
    pytest.param(
        changed(DELTA, **{"transform.bias": None}), {}, "lacks context_transform.bias", id="no bias"
    ),
    pytest.param(changed(MOBIUS, w_mix=None, space_j=None), {}, "it lacks space_j, w_mix", id="two missing"),
    pytest.param(
        changed(DELTA, weights=(6, 9)), {}, "weights must have 7 dimensions, but is [6, 9]", id="dims"
    ),
    pytest.param(
        changed(DELTA, **{"transform.bias": (7,)}),
        {},
        "context_transform.bias must be [80], but is [7]",
        id="outputs",
    ),
    pytest.param(
        changed(DELTA, weights=(1, 3, 2, 1, 6, 9, 2)), {}, "must be [1, 3, 2, 2, 6, 9, 2]", id="banks"
    ),
    pytest.param(
        changed(MOBIUS, projections=(1, 2, 6, 8, 2)), {}, "projections must be [1, 2, 6, 9, 2]", id="sides"
    ),
    pytest.param(
        changed(MOBIUS, direct_G_Re=(9, 2, 4, 3)),
        {},
        "direct_G_Re must be [8, 2, 4, 3], but is [9, 2, 4, 3]",
        id="an odd number of points",
    ),
    pytest.param(
        changed(MOBIUS, direct_G_Re=(2, 2, 4, 3)), {}, "rank_transformations must be positive", id="no points"
    ),
    pytest.param(
        changed(DELTA, weights=(1, 0, 2, 2, 6, 9, 2)), {}, "rank must be positive, got 0", id="no rank"
    ),
    pytest.param(
        DELTA | {"mix.extras": torch.ones(1, dtype=torch.int64)}, {}, "not torch.int64", id="integers"
    ),
    pytest.param(changed(CONV, bias_dynamic_weights_lib=None), FITTING, "it lacks bias_dynamic", id="a bias"),
    pytest.param(
        changed(CONV, bias_dynamic_weights_lib=(1, 12, 18)),
        FITTING,
        "bias_dynamic_weights_lib must be [1, 18, 12], but is [1, 12, 18]",
        id="bias of the matrix",
    ),
    pytest.param(
        changed(CONV, bias_dynamic_conv=(7,)),
        FITTING,
        "no 3×3 convolution of any → 7 channels has a matrix of 18×12; kernel_size was assumed",
        id="bias of the channels",
    ),
    pytest.param(CONV, {"padding": 0, "kernel_size": 5}, "no 5×5 convolution of any → 6", id="kernel"),
    pytest.param(CONV, {"padding": 0, "kernel_size": [3, 3, 3]}, "one or two numbers", id="three numbers"),
    pytest.param(CONV, {"padding": 0, "out_channels": 12}, "must be [12], but is [6]", id="contradiction"),
    pytest.param(CONV, {"padding": [1, 2, 3]}, "padding must be one, two or four", id="three paddings"),
    pytest.param(CONV, {"padding": 0, "output_padding": 1}, "needs transpose=True", id="output padding"),
    pytest.param(CONV, {}, "padding must be said by options", id="padding"),
    pytest.param(
        DELTA_CONV,
        FITTING,
        "48×48 are 1 → 256, 2 → 128, 4 → 64, 8 → 32 and 5 more channels",
        id="channels",
    ),
    pytest.param(
        DELTA_CONV | {"conv.bias_dynamic_conv": torch.ones(16)},
        FITTING,
        "a DynamicConv2dDelta has no bias_dynamic_conv",
        id="a bias of Delta",
    ),
    pytest.param(
        {"c.offset_dynamic_value": torch.ones(1)},
        {},
        "has offset_dynamic_value, but no tensors of a",
        id="alone",
    ),
    pytest.param(DELTA, {"stride": 2}, "'**': stride concerns no layer", id="an idle option"),
]


@pytest.mark.parametrize(("state", "options", "text"), CASES)
def test_problem(state, options, text):
    """What is missing, contradictory or unsaid is named with the layer."""
    assert any(text in line for line in problems(state, {"**": options} if options else None))


def test_every_problem_at_once():
    """All layers and problems stand in one error, those alike in one line."""
    state = at("a", changed(DELTA, extras=None)) | at("b", changed(DELTA, extras=None))
    state |= at("c", changed(MOBIUS, projections=(1, 2, 6, 8, 2), inversions=(1, 9, 1, 1, 2))) | DELTA_CONV
    lines = problems(state, {"conv": {"padding": 0}})
    assert len(lines) == 4
    assert lines[0].strip() == "a.mix, b.mix: as a TensorComposerDelta, it lacks extras"
    assert [line.split()[4] for line in lines[1:3]] == ["inversions", "projections"]


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"fc.weight": torch.ones(2, 2)}, id="a linear layer"),
        pytest.param({"context_transform.weight": torch.ones(2, 2)}, id="a name alone"),
        pytest.param({"a.weights": torch.ones(2, 2), "a.extras": torch.ones(1)}, id="names without shapes"),
    ],
)
def test_no_checkpoint_of_dyna(state):
    """A state dict without any such layer is refused, with its names."""
    with pytest.raises(ArchitectureError, match=f"no checkpoint with layers of dyna.*{'|'.join(state)}"):
        read(state)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param({"**": {"kind": "conv"}}, "kind: 'conv' is no value", id="kind"),
        pytest.param({"**": {"stride": 0}}, "stride: 0 is no value", id="value"),
        pytest.param({"**": "defaults"}, "an object of options or 'plain', not 'defaults'", id="word"),
        pytest.param({"[": {}}, "'\\[': ", id="glob"),
    ],
)
def test_options_that_cannot_be_meant(options, text):
    """Options that no layer can have are refused before anything is read."""
    with pytest.raises(OptionError, match=text):
        read(DELTA, options=options)


def test_a_model_without_such_layers():
    """A model in which nothing stands for a layer of dyna is refused."""
    with pytest.raises(ArchitectureError, match=r"\(Linear\) has no layer of bioconvert that stands for"):
        prepare(DELTA, torch.nn.Linear(2, 2))


def test_a_class_that_nothing_becomes():
    """A tree with another class is refused, with those that there are."""
    with pytest.raises(ArchitectureError, match="there is no layer 'Linear'"):
        LayersOnly({"a": {"class": "Linear"}})
