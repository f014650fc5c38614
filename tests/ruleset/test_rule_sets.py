"""Rule sets as plain values, and the rule sets that come with the package."""

import copy
import json
import pickle
import subprocess
import sys

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bioconvert.core.errors import RuleError
from bioconvert.ruleset import RuleSet, builtin_names, resolve_rules
from bioconvert.ruleset.plain import rule_to_plain

IDENTIFIERS = st.from_regex(r"[A-Za-z_][a-z]{0,5}", fullmatch=True)
PATTERNS = st.sampled_from(["**", "layer*.**", "", "fc?", "re:layer[0-9].*"])
LINKS = st.lists(IDENTIFIERS, min_size=1, max_size=3).map("|".join)
CONDITIONS = st.sampled_from([1, 0.5, None, True, "same", [3, 3], ">=16", "!=1", ">2, <=64", "!=zeros"])
MATCHES = st.fixed_dictionaries(
    {"type": st.lists(IDENTIFIERS | st.sampled_from(["linear", "torch.nn.Linear"]), min_size=1, max_size=3)},
    optional={
        "path": st.lists(PATTERNS, min_size=1, max_size=3) | PATTERNS,
        "subclasses": st.booleans(),
        "where": st.dictionaries(IDENTIFIERS, CONDITIONS, max_size=3),
        "not": st.lists(PATTERNS | st.sampled_from(["first", "last"]), max_size=3),
    },
)
REPLACES = st.fixed_dictionaries(
    {"with": st.sampled_from(["YatLinear", "YatConv2d"])},
    optional={
        "activation": st.sampled_from(["keep", "drop"]),
        "norm": st.just("keep"),
        "epsilon": st.just("auto") | st.floats(1e-9, 1e9),
        "alpha": st.sampled_from(["learnable", "none", 2.0, 1]),
        "spherical": st.booleans(),
    },
)
MECHANISMS = st.fixed_dictionaries(
    {
        "rejuvenate": st.fixed_dictionaries(
            {"every": st.integers(), "sizes": st.none() | st.lists(st.integers(), max_size=3)}
        )
    }
)
ACTIONS = st.fixed_dictionaries(
    {"replace": REPLACES},
    optional={
        "attach": st.lists(MECHANISMS | st.just("fuzzy_lr"), max_size=2, unique_by=str).filter(
            lambda items: sum("rejuvenate" in item for item in items) < 2
        ),
        "wrap": st.fixed_dictionaries({}, optional={"tag": st.text("aé \n-:"), "depth": st.integers(1, 9)}),
        "optional": st.booleans(),
        "name": st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=9),
    },
)
RULES = st.builds(
    lambda match, links, actions: {"match": {**match, "followed_by": links}, **actions},
    MATCHES,
    st.lists(
        st.builds(lambda link, end: link + end, LINKS, st.sampled_from(["", "?"])), min_size=1, max_size=2
    ),
    ACTIONS,
) | st.builds(lambda match: {"match": match, "keep": True}, MATCHES)
SETS = st.fixed_dictionaries(
    {"version": st.just(1), "rules": st.lists(RULES, max_size=3)},
    optional={
        "description": st.text("aé \n-:"),
        "extends": st.sampled_from([["identity"], ["yat", "yat-all"]]),
    },
)
# The stand-ins for what is registered are the same for every example.
shared_fixtures = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


@shared_fixtures
@given(SETS)
def test_rule_sets_read_back(content):
    """What a rule set gives as a dict is JSON of the file's shape, from which the same rule set is read."""
    rule_set = RuleSet.from_dict(content)
    plain = rule_set.to_dict()
    assert RuleSet.from_dict(json.loads(json.dumps(plain))) == rule_set
    assert RuleSet.from_dict(plain).to_dict() == plain


@shared_fixtures
@given(SETS)
def test_text_and_dict_agree(content):
    """A rule set says the same as YAML and as a dict."""
    assert RuleSet.from_text(json.dumps(content)) == RuleSet.from_dict(content)


def test_plain_values_share_nothing():
    """The dict holds no list twice, for which YAML would write an alias that can't be read."""
    text = yaml.safe_dump(resolve_rules(["yat", "yat-all", "yat"]).to_dict())
    assert "&id" not in text
    assert len(RuleSet.from_text(text).rules) == 15


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_rule_sets_can_be_copied(copied):
    """Copies are equal, and their rules still know where they stand."""
    original = resolve_rules("yat")
    assert copied(original) == original
    assert str(copied(original).rules[0].problem("x")) == str(original.rules[0].problem("x"))


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_rule_sets(name, monkeypatch):
    """Every built-in rule set is sound and called like its file; what serves any model has optional rules."""
    # They are made for what is registered, and not for the stand-ins of the other tests.
    monkeypatch.undo()
    rule_set = resolve_rules(name)
    assert rule_set.name == name
    assert rule_set.description.endswith(".")
    assert all(rule.optional for rule in rule_set.rules) is (name != "yat-cnn")


def test_the_yat_policy():
    """`yat` takes an activation along with each layer, and leaves the stem and the head."""
    *convs, linear = resolve_rules("yat").rules
    assert [rule.match.type for rule in convs] == [("Conv1d",), ("Conv2d",), ("Conv3d",)]
    assert all(rule.match.not_first and not rule.match.not_last for rule in convs)
    assert (linear.match.type, linear.match.not_first, linear.match.not_last) == (("linear",), False, True)
    for rule in (*convs, linear):
        activation = rule.match.followed_by[-1]
        assert rule.replace.activation == "drop"
        assert {"ReLU", "GELU", "SiLU"} <= set(activation.alternatives)
        assert not {"Sigmoid", "Tanh", "Softmax"} & set(activation.alternatives)
        assert not activation.optional


def test_yat_all_has_no_conditions():
    """`yat-all` takes every linear and convolutional layer and keeps the activations."""
    for rule in resolve_rules("yat-all").rules:
        assert list(rule_to_plain(rule)["match"]) == ["type"]
        assert rule.replace.activation == "keep"


def test_identity_has_no_rules():
    """`identity` does nothing."""
    assert resolve_rules("identity").rules == ()


TEXTS = st.text() | st.text("ab:- \n[]{}\"'*&!|>?#%@`,1.\t\\", max_size=60)
KEYS = st.sampled_from(
    [
        "version",
        "extends",
        "rules",
        "match",
        "type",
        "path",
        "where",
        "not",
        "replace",
        "with",
        "attach",
        "keep",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.binary()
    | st.sampled_from(
        ["yat", "linear", "YatLinear", "fuzzy_lr", "re:(a+)+", "**.a", ">=1", "first", "../x.yaml"]
    )
    | st.builds(object)
    | st.sets(st.integers())
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS | st.text() | st.integers(), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=30,
)
HEADS = st.just({}) | st.just({"version": 1})


def is_valid_or_rule_error(read, *, placed):
    """Say whether reading gives a rule set, or problems that all have a place."""
    try:
        return isinstance(read(), RuleSet)
    except RuleError as error:
        return bool(error.problems) and all(problem.line or not placed for problem in error.problems)


@shared_fixtures
@given(TEXTS)
def test_any_text_is_a_rule_set_or_a_rule_error(text):
    """No text makes reading fail in any other way, and every problem has its line."""
    assert is_valid_or_rule_error(lambda: RuleSet.from_text(text), placed=True)


@shared_fixtures
@given(HEADS, TREES, TREES)
def test_any_dict_is_a_rule_set_or_a_rule_error(head, rules, more):
    """No dict makes reading fail in any other way."""
    for content in ({**head, "rules": rules}, {**head, "rules": [{"match": rules, "replace": more}]}, more):
        assert is_valid_or_rule_error(lambda content=content: RuleSet.from_dict(content), placed=False)


@shared_fixtures
@given(HEADS, TREES)
def test_any_tree_as_text_is_a_rule_set_or_a_rule_error(head, tree):
    """YAML of any shape is a rule set or has problems with their lines."""
    text = json.dumps(
        {**head, "rules": [tree, {"match": tree, "attach": tree, "wrap": tree}]}, default=str, skipkeys=True
    )
    assert is_valid_or_rule_error(lambda: RuleSet.from_text(text), placed=True)


def test_nothing_loads_torch():
    """Reading the built-in rule sets and writing the schema needs no torch."""
    code = (
        "import sys, bioconvert.ruleset as r\n"
        "[r.resolve_rules(name) for name in r.builtin_names()]\n"
        "r.json_schema()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
