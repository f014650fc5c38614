"""Which modules a rule selects."""

import pytest
from torch import nn

from bioconvert.core import registry
from bioconvert.core.errors import RuleError
from bioconvert.ruleset import Candidate, select


class Scaled(nn.Linear):
    """A Linear with a forward of its own."""

    def forward(self, x):
        """Scale the input first."""
        return super().forward(2 * x)


class Named(nn.Linear):
    """A Linear with nothing of its own but the name."""


class Yat(nn.Linear):
    """Stand for one of our layers."""

    def forward(self, x):
        """Square the output."""
        return super().forward(x) ** 2


class Awkward(nn.Module):
    """A module with an attribute that can't be read."""

    @property
    def size(self):
        """Fail."""
        raise RuntimeError("not yet")


# A look-alike: a class called Linear that inherits from torch's and computes something else.
Lookalike = type("Linear", (Scaled,), {"__module__": "lookalikes"})


@pytest.fixture(autouse=True)
def our_layers(monkeypatch):
    """Register one layer."""
    monkeypatch.setattr(registry, "_layers", {Yat})


def candidates(modules):
    """Give the candidates for modules by name; names of one module are separated by blanks."""
    return [Candidate(tuple(names.split(" ")), type(module), module) for names, module in modules.items()]


MODEL = candidates(
    {
        "": nn.Sequential(),
        "stem": nn.Conv2d(3, 16, 7, stride=2, device="meta"),
        "bn": nn.BatchNorm2d(16, device="meta"),
        "layer1.conv": nn.Conv2d(16, 16, 3, padding="same", device="meta"),
        "layer1.wide": nn.Conv2d(16, 64, (3, 1), groups=2, bias=False, device="meta"),
        "layer2.conv alias.conv": nn.Conv1d(16, 16, 3, device="meta"),
        "layer2.downsample.0": nn.Conv2d(16, 16, 1, device="meta"),
        "fc1": nn.Linear(4, 4, device="meta"),
        "scaled": Scaled(4, 4, device="meta"),
        "named": Named(4, 4, device="meta"),
        "lazy": nn.LazyLinear(4, device="meta"),
        "yat": Yat(4, 4, device="meta"),
        "fc2": nn.Linear(4, 2, device="meta"),
        "awkward": Awkward(),
    }
)


def names(selections):
    """Give the canonical names of what is selected without a refusal."""
    return [found.candidate.names[0] for found in selections if found.refusal is None]


def refusals(selections):
    """Give the refusals by canonical name."""
    return {found.candidate.names[0]: found.refusal for found in selections if found.refusal is not None}


SELECTED = [
    pytest.param({"type": "Conv1d"}, ["layer2.conv"], id="class"),
    pytest.param({"type": "torch.nn.Conv1d"}, ["layer2.conv"], id="public path"),
    pytest.param({"type": "torch.nn.modules.conv.Conv1d"}, ["layer2.conv"], id="qualified name"),
    pytest.param({"type": "timm.Conv1d"}, [], id="another path"),
    pytest.param({"type": ["Conv1d", "BatchNorm2d"]}, ["bn", "layer2.conv"], id="two classes"),
    pytest.param({"type": "Conv"}, [], id="no such class"),
    pytest.param({"type": "norm"}, ["bn"], id="family"),
    pytest.param(
        {"type": "conv", "path": "layer?.conv"}, ["layer1.conv", "layer2.conv"], id="family and path"
    ),
    pytest.param({"type": "linear"}, ["fc1", "named", "lazy", "yat", "fc2"], id="family with our layers"),
    pytest.param({"type": "Linear"}, ["fc1", "fc2"], id="exact class"),
    pytest.param({"type": "Named"}, ["named"], id="a class of the user's"),
    pytest.param(
        {"type": ["linear", "Scaled"], "path": "s*"}, ["scaled"], id="family and a class of the user's"
    ),
    pytest.param(
        {"type": "Linear", "subclasses": True},
        ["fc1", "scaled", "named", "lazy", "yat", "fc2"],
        id="class with subclasses",
    ),
    pytest.param(
        {"type": "linear", "subclasses": True},
        ["fc1", "scaled", "named", "lazy", "yat", "fc2"],
        id="family with subclasses",
    ),
    pytest.param({"path": ""}, [""], id="the model"),
    pytest.param({"path": "fc?"}, ["fc1", "fc2"], id="glob"),
    pytest.param({"path": ["fc1", "bn"]}, ["bn", "fc1"], id="two globs"),
    pytest.param({"path": "re:layer[12].conv"}, ["layer1.conv", "layer2.conv"], id="regular expression"),
    pytest.param({"path": "alias.**"}, ["layer2.conv"], id="another name of the module"),
    pytest.param(
        {"type": "conv", "not": "alias.*"},
        ["stem", "layer1.conv", "layer1.wide", "layer2.downsample.0"],
        id="another name excepted",
    ),
    pytest.param(
        {"type": "conv", "not": ["layer1.**", "**.downsample.*", "re:s.*"]}, ["layer2.conv"], id="exceptions"
    ),
    pytest.param(
        {"type": "conv", "not": "first"},
        ["layer1.conv", "layer1.wide", "layer2.conv", "layer2.downsample.0"],
        id="not the first",
    ),
    pytest.param(
        {"type": "conv", "not": "last"},
        ["stem", "layer1.conv", "layer1.wide", "layer2.conv"],
        id="not the last",
    ),
    pytest.param(
        {"type": "Conv1d", "not": ["first", "last"]}, ["layer2.conv"], id="first and last of the family"
    ),
    pytest.param(
        {"type": "Conv2d", "path": "layer*.**", "not": "first"},
        ["layer1.conv", "layer1.wide", "layer2.downsample.0"],
        id="first of all, not of those selected",
    ),
    pytest.param(
        {"type": ["conv", "linear"], "path": "*", "not": ["first", "last"]},
        ["named", "lazy", "yat"],
        id="per family",
    ),
    pytest.param({"path": "awkward", "not": "first"}, [], id="first of a class without a family"),
    pytest.param({"type": "conv", "where": {"groups": 2}}, ["layer1.wide"], id="number"),
    pytest.param(
        {"type": "conv", "where": {"kernel_size": 3}}, ["layer1.conv", "layer2.conv"], id="number and tuple"
    ),
    pytest.param({"type": "conv", "where": {"kernel_size": [3, 1]}}, ["layer1.wide"], id="list and tuple"),
    pytest.param(
        {"type": "conv", "where": {"in_channels": ">=16", "out_channels": ">16"}},
        ["layer1.wide"],
        id="two conditions",
    ),
    pytest.param({"type": "conv", "where": {"bias": None}}, ["layer1.wide"], id="null"),
    pytest.param(
        {"type": "Conv2d", "where": {"bias": True, "padding": "same"}}, ["layer1.conv"], id="true and text"
    ),
    pytest.param(
        {"path": "**", "where": {"in_features": "!=5"}},
        ["fc1", "scaled", "named", "lazy", "yat", "fc2"],
        id="attribute of some",
    ),
    pytest.param({"path": "**", "where": {"size": "!=5"}}, [], id="attribute that can't be read"),
]


@pytest.mark.parametrize(("match", "expected"), SELECTED)
def test_selected(rule, match, expected):
    """A rule selects the modules that meet every condition, in the order given."""
    assert names(select(rule(match), MODEL)) == expected


OWN_FORWARD = (
    "it is a Scaled, a Linear with a forward of its own; say `subclasses: true` to convert it all the same"
)
REFUSED = [
    pytest.param({"type": "linear"}, {"scaled": OWN_FORWARD}, id="family"),
    pytest.param(
        {"type": "Linear"},
        {
            "scaled": OWN_FORWARD,
            "named": (
                "it is a Named, a subclass of Linear, and a class name matches that exact class; "
                "name Named or the family, or say `subclasses: true`"
            ),
            "lazy": (
                "it is a LazyLinear, a subclass of Linear, and a class name matches that exact class; "
                "name LazyLinear or the family, or say `subclasses: true`"
            ),
            "yat": OWN_FORWARD.replace("Scaled", "Yat"),
        },
        id="class",
    ),
    pytest.param({"type": "torch.nn.Linear", "path": "sc*"}, {"scaled": OWN_FORWARD}, id="dotted path"),
    pytest.param({"type": "Linear", "path": "fc*"}, {}, id="not selected anyway"),
    pytest.param({"type": ["Linear", "linear"]}, {"scaled": OWN_FORWARD}, id="meant by another name"),
    pytest.param({"type": "Linear", "subclasses": True}, {}, id="subclasses"),
]


@pytest.mark.parametrize(("match", "expected"), REFUSED)
def test_refused(rule, match, expected):
    """A module that only nearly has the type is selected with the reason why it stays."""
    assert refusals(select(rule(match), MODEL)) == expected


class TestLookalikes:
    model = candidates({"real": nn.Linear(2, 2), "fake": Lookalike(2, 2)})

    def test_a_namesake_with_its_own_forward_is_refused(self, rule):
        """A class that is called Linear, inherits from torch's and computes something else, is no Linear."""
        found = select(rule({"type": "Linear"}), self.model)
        assert names(found) == ["real"]
        assert refusals(found) == {
            "fake": (
                "it is a lookalikes.Linear, a torch.nn.modules.linear.Linear with a forward of its own; "
                "say `subclasses: true` to convert it all the same"
            )
        }

    def test_its_dotted_path_means_it(self, rule):
        """A dotted path names the one or the other."""
        assert names(select(rule({"type": "lookalikes.Linear"}), self.model)) == ["fake"]
        assert names(select(rule({"type": "torch.nn.Linear"}), self.model)) == ["real"]


def test_the_class_to_match_by_counts(rule):
    """A module that was converted is matched by the class that it had before."""
    converted = [Candidate(("a",), nn.Linear, Yat(2, 2))]
    assert names(select(rule({"type": "Linear"}), converted)) == ["a"]


def test_order_is_that_of_the_candidates(rule):
    """First and last go by the order given, which is that of execution where it is known."""
    assert names(select(rule({"type": "Linear", "not": "first"}), MODEL[::-1])) == ["fc1"]


@pytest.mark.timeout(20)
def test_a_slow_pattern_is_an_error_of_its_rule(rule):
    """A regular expression that backtracks without end is given up after a second, and named."""
    model = candidates({"a," * 3000 + str(i): nn.Identity() for i in range(50)})
    with pytest.raises(RuleError, match=r"rule 1: the pattern 're:\(\?:\.\*,\)\{40\}P' takes more than 1 s"):
        select(rule({"path": "re:(?:.*,){40}P"}), model)
    with pytest.raises(RuleError, match=r"the pattern 're:\(\?:\.\*,\)\{40\}P' takes more than 1 s"):
        select(rule({"path": "**", "not": ["re:b", "re:(?:.*,){40}P"]}), model)


def test_a_rule_without_modules_selects_nothing(rule):
    """An empty model is no error here."""
    assert select(rule({"path": "**"}), []) == []
