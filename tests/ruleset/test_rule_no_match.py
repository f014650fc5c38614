"""Why a rule matches nothing."""

import pytest
from torch import nn

from bioconvert.ruleset import Candidate, RuleSet, no_match

MODULES = {
    "": nn.Sequential(),
    "stem": nn.Conv2d(3, 16, 7),
    "layer1.conv": nn.Conv2d(16, 16, 3),
    "fc": nn.Linear(4, 4),
}
MODEL = [Candidate((name,), type(module), module) for name, module in MODULES.items()]

REASONS = [
    pytest.param(
        {"type": "Conv2D"},
        r"the model has no 'Conv2D' modules\. Did you mean 'Conv2d'\? Known: Conv2d, Linear, Sequential, ",
        id="type",
    ),
    pytest.param(
        {"type": "torch.nn.Conv3d"},
        r"no 'torch\.nn\.Conv3d' modules\. Did you mean 'Conv2d'\?",
        id="dotted path",
    ),
    pytest.param({"type": "linera"}, r"no 'linera' modules\. Did you mean '(l|L)inear'\?", id="family"),
    pytest.param(
        {"type": ["norm", "recurrent"]},
        r"no 'norm' or 'recurrent' modules\. Its modules are: Conv2d, Linear, Sequential",
        id="families",
    ),
    pytest.param(
        {"path": "layer1.cnv"},
        r"of 4 modules, none is named 'layer1\.cnv'; the nearest name is 'layer1\.conv'",
        id="path",
    ),
    pytest.param(
        {"type": "linear", "path": "q"},
        r"of 1 module of that type, none is named 'q'; a name is 'fc'",
        id="path of that type",
    ),
    pytest.param({"path": ["x", "re:y"]}, r"is named 'x' or 're:y'; a name is 'stem'", id="paths"),
    pytest.param(
        {"type": "conv", "where": {"groups": 2}},
        r"of 2 modules, none meets the condition on groups; found: 1 \(",
        id="where",
    ),
    pytest.param(
        {"type": "conv", "where": {"kernel_size": 1}},
        r"condition on kernel_size; found: \(7, 7\), \(3, 3\)",
        id="values",
    ),
    pytest.param(
        {"type": "conv", "where": {"bias": None}},
        r"condition on bias; found: a Parameter",
        id="parameter",
    ),
    pytest.param(
        {"type": "conv", "where": {"in_chanels": 3}},
        r"of 2 modules, none has an attribute 'in_chanels'; did you mean 'in_channels'\?",
        id="attribute",
    ),
    pytest.param({"type": "conv", "where": {"zzz": 3}}, r"has an attribute 'zzz' \(", id="unknown attribute"),
    pytest.param(
        {"type": "linear", "not": "first"}, r"`not: first` excepts all that is left \(1 module\)", id="first"
    ),
    pytest.param(
        {"type": "conv", "not": ["last", "stem"]},
        r"`not: last` excepts all that is left \(1 module\)",
        id="last",
    ),
    pytest.param(
        {"type": "conv", "not": ["layer*.**", "stem"]},
        r"`not` excepts all that is left \(2 modules\)",
        id="exceptions",
    ),
    pytest.param(
        {"type": "conv", "followed_by": ["BatchNorm2d?", "ReLU|GELU"]},
        r"of 2 modules that meet the rest, none is followed by BatchNorm2d\?, then ReLU\|GELU",
        id="followed by",
    ),
    pytest.param(
        {"type": "conv"},
        r"2 modules meet its conditions, and none was changed",
        id="nothing of that kind",
    ),
]


@pytest.mark.parametrize(("match", "reason"), REASONS)
def test_the_reason_is_the_condition_that_leaves_nothing(rule, match, reason):
    """The problem names the condition that leaves no module over, and what may have been meant."""
    message = no_match(rule(match), MODEL).message
    assert message.startswith("rule 1: it matches nothing: ")
    assert message.endswith(" (`optional: true` if that is all right)")
    with pytest.raises(ValueError, match=reason):
        raise ValueError(message)


def test_an_empty_model(rule):
    """A model without modules matches no type."""
    for match in ({"type": "linear"}, {"path": "a"}):
        assert "the model has no modules" in no_match(rule(match), []).message


@pytest.mark.timeout(10)
def test_a_slow_pattern_is_named(rule):
    """A regular expression that takes too long is the problem."""
    model = [Candidate(("a," * 3000,), nn.Identity, nn.Identity())]
    assert "takes more than 1 s" in no_match(rule({"path": "re:(?:.*,){40}P"}), model).message


def test_it_points_at_the_rule():
    """The problem stands where the rule was read."""
    text = "version: 1\nrules:\n  - {name: x, match: {path: q}, keep: true}\n"
    problem = no_match(RuleSet.from_text(text, "mine.yaml").rules[0], MODEL)
    assert str(problem).startswith("mine.yaml:3:5: rule 'x': it matches nothing: ")
