"""Rule files become checked values, or problems with their places."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bioconvert.core.errors import RuleError
from bioconvert.ruleset import Attach, Comparison, Link, RuleSet

FULL = """\
version: 1
name: full
description: Everything that a rule may say.
rules:
  - name: blocks
    match:
      type: [Conv2d]
      subclasses: true
      path: "layer*.**"
      where: {groups: 1, in_channels: ">2, <=64", bias: null, kernel_size: [3, 3]}
      followed_by: [BatchNorm2d?, ReLU|GELU|SiLU?]
      not: [first, last, "**.downsample.*", "re:.*[0-9]"]
    replace: {with: YatConv2d, epsilon: 1e-3, activation: drop, norm: keep}
  - match: {type: linear}
    attach:
      - fuzzy_lr: {nu: 0.3}
      - rejuvenate: {every: 10, sizes: [1, 2]}
    wrap: {tag: general}
    optional: true
  - match: {path: fc}
    keep: true
"""


@pytest.fixture
def full():
    """Give the rule set that says everything."""
    return RuleSet.from_text(FULL)


class TestValues:
    def test_head(self, full):
        """A rule set has a version, a name and a description."""
        assert (full.version, full.name) == (1, "full")
        assert full.description == "Everything that a rule may say."

    def test_match(self, full):
        """Each condition has the form that selection works with."""
        match = full.rules[0].match
        assert (match.type, match.subclasses, match.path) == (("Conv2d",), True, ("layer*.**",))
        assert match.where == {
            "groups": (Comparison(value=1),),
            "in_channels": (Comparison(op=">", value=2), Comparison(op="<=", value=64)),
            "bias": (Comparison(value=None),),
            "kernel_size": (Comparison(value=(3, 3)),),
        }
        assert match.followed_by == (
            Link(alternatives=("BatchNorm2d",), optional=True),
            Link(alternatives=("ReLU", "GELU", "SiLU"), optional=True),
        )
        assert (match.not_first, match.not_last) == (True, True)
        assert match.not_ == ("**.downsample.*", "re:.*[0-9]")
        assert match.parameter is None

    def test_replace_has_every_option(self, full):
        """Options that the file doesn't name have the builder's defaults."""
        replace = full.rules[0].replace
        assert (replace.with_, replace.activation, replace.norm) == ("YatConv2d", "drop", "keep")
        assert replace.options == {
            "bias_mode": "pre",
            "alpha": "learnable",
            "epsilon": 1e-3,
            "spherical": False,
            "drop_connect": 0.0,
            "init": "auto",
        }

    def test_attach_and_wrap(self, full):
        """Mechanisms come in their order, nodes are blocks by default; lists in options are tuples."""
        attach, wrap = full.rules[1].attach, full.rules[1].wrap
        assert [item.mechanism for item in attach] == ["fuzzy_lr", "rejuvenate"]
        assert attach[0].options == {"distribution": "lognormal", "nu": 0.3}
        assert attach[1].options == {"every": 10, "sizes": (1, 2)}
        assert (wrap.kind, wrap.options) == ("block", {"tag": "general", "depth": 1})

    def test_flags_and_names(self, full):
        """A rule without a name is called by its position."""
        assert [rule.name for rule in full.rules] == ["blocks", "rule 2", "rule 3"]
        assert [rule.keep for rule in full.rules] == [False, False, True]
        assert [rule.optional for rule in full.rules] == [False, True, False]

    def test_single_texts_are_lists_of_one(self):
        """Where a list of texts is expected, one text will do; a mechanism without options is its name."""
        (rule,) = RuleSet.from_text(
            "{version: 1, rules: [{match: {type: linear, followed_by: ReLU, not: a}, attach: [fuzzy_lr]}]}"
        ).rules
        assert rule.match.type == ("linear",)
        assert rule.match.followed_by == (Link(alternatives=("ReLU",)),)
        assert rule.match.not_ == ("a",)
        assert rule.attach == (
            Attach(mechanism="fuzzy_lr", options={"distribution": "lognormal", "nu": 0.16}),
        )

    def test_values_are_frozen(self, full):
        """Nothing of a rule set can be changed afterwards."""
        with pytest.raises(ValueError, match="frozen"):
            full.rules[0].keep = True

    def test_a_rule_knows_where_it_stands(self, full):
        """Later problems of a rule point at the line it was read from."""
        problem = full.rules[1].problem("it matches nothing")
        assert str(problem).splitlines() == [
            "<text>:14:5: rule 2: it matches nothing",
            "      - match: {type: linear}",
            "        ^",
        ]

    def test_the_place_is_no_part_of_the_value(self, full):
        """The same rules are equal, wherever they were read."""
        assert RuleSet.from_text("# moved down by a line\n" + FULL, "elsewhere") == full


def rules(*lines):
    """Give a rule file of these rules."""
    return "version: 1\nrules:\n" + "".join(f"  - {line}\n" for line in lines)


REPLACE = "match: {type: linear}, replace: {with: YatLinear"
PROBLEMS = [
    ("[]", 1, 1, r"^a rule file is a mapping with `version: 1` and `rules: \[\.\.\.\]`, not a list$"),
    ("name: x", 1, 1, r"^`version: 1` is missing$"),
    ("version: 2\nfoo: 1", 1, 10, r"^version 2 is unknown; this version of bioconvert reads `version: 1`$"),
    ("version: 1.0", 1, 10, r"^version 1.0 is unknown"),
    ("version: true", 1, 10, r"^version true is unknown"),
    ("version: 1\nrule: []", 2, 1, r"^unknown key 'rule'. Did you mean 'rules'\?$"),
    ("version: 1\nxyz: []", 2, 1, r"^unknown key 'xyz'. Known: version, name, description, extends, rules.$"),
    ("version: 1\nrules: {}", 2, 8, r"^rules: must be a list, not a mapping$"),
    ("version: 1\nrules:", 2, 7, r"^rules: must be a list, not nothing$"),
    ("version: 1\nname: 3", 2, 7, r"^name: must be text, not 3: put quotes around it$"),
    ("version: 1\nname: [a]", 2, 7, r"^name: must be text, not a list: in YAML, `\[0-9\]` is a list"),
    ('version: 1\nname: "a\\eb"', 2, 7, r"^name: a name is one line of printable text"),
    (rules("5"), 3, 5, r"^rule 1: must be a mapping, not 5$"),
    (rules("keep: true"), 3, 5, r"^rule 1: `match` is missing$"),
    (rules("{name: x, match: {}, keep: true}"), 3, 22, r"^rule 'x': match: it needs `type`, `path` or `par"),
    (
        rules("{name: x, match: {typ: a}, keep: true}"),
        3,
        23,
        r"^rule 'x': match: unknown key 'typ'. Did you mean 'type'\?$",
    ),
    (
        rules("{name: x, match: {type: a}, attatch: []}"),
        3,
        33,
        r"^rule 'x': unknown key 'attatch'. Did you mean 'attach'\?$",
    ),
    (
        rules("{match: {type: 'conv*'}, keep: true}"),
        3,
        20,
        r"'conv\*' is no class name or family; a glob .* goes to `path`",
    ),
    (rules("{match: {type: []}, keep: true}"), 3, 20, r"match.type: the list is empty"),
    (
        rules("{match: {type: [a, 3]}, keep: true}"),
        3,
        24,
        r"match.type\[1\]: must be text, not 3: put quotes",
    ),
    (
        rules("{match: {path: {q,k}}, keep: true}"),
        3,
        20,
        r"match.path: must be text or a list of texts, not a mapping: in YAML, `\{q,k\}` is a mapping",
    ),
    (
        rules("{match: {path: [0-9]}, keep: true}"),
        3,
        21,
        r"match.path\[0\]: '0-9': in YAML, `\[0-9\]` is a list",
    ),
    (
        rules("{match: {path: a..b}, keep: true}"),
        3,
        20,
        r"match.path: 'a..b': there is nothing between two dots",
    ),
    (
        rules("{match: {path: 're:('}, keep: true}"),
        3,
        20,
        r"match.path: 're:\(': it is not a regular expression",
    ),
    (rules("{match: {path: a, not: ['b[']}, keep: true}"), 3, 29, r"match.not\[0\]: 'b\[': a glob knows"),
    (
        rules("{match: {path: a, subclasses: yes}, keep: true}"),
        3,
        35,
        r"match.subclasses: must be true or false, not 'yes': in YAML 1.2, yes is text",
    ),
    (rules("{match: {path: a, where: {b: '>'}}, keep: true}"), 3, 34, r"match.where.b: '>' is no comparison"),
    (
        rules("{match: {path: a, where: [b]}, keep: true}"),
        3,
        30,
        r"match.where: must be a mapping, not a list$",
    ),
    (
        rules("{match: {path: a, followed_by: [ReLU||GELU]}, keep: true}"),
        3,
        37,
        r"match.followed_by\[0\]: 'ReLU\|\|GELU': write class names",
    ),
    (
        rules("{match: {path: a, followed_by: [{ReLU: 1}]}, keep: true}"),
        3,
        37,
        r"match.followed_by\[0\]: must be text such as",
    ),
    (
        rules("{match: {parameter: '*.weight'}, wrap: {tag: x}}"),
        3,
        44,
        r"^rule 1: wrap: `wrap` is done to modules; `parameter` selects parameters$",
    ),
    (
        rules("{match: {parameter: '*.weight', followed_by: ReLU}, keep: true}"),
        3,
        50,
        r"^rule 1: match.followed_by: `followed_by` looks at what follows a module",
    ),
    (
        rules("{name: x, match: {path: a}}"),
        3,
        5,
        r"^rule 'x': it does nothing: give it `replace`, `attach`, `wrap` or `keep: true`$",
    ),
    (rules("{name: x, match: {path: a}, attach: []}"), 3, 5, r"^rule 'x': it does nothing"),
    (rules(f"{{{REPLACE}}}, keep: true}}"), 3, 63, r"^rule 1: keep: `keep` means that nothing is done"),
    (
        rules("{match: {type: linear}, replace: {with: YatLiner}}"),
        3,
        45,
        r"^there is no replacement named 'YatLiner'. Did you mean 'YatLinear'\? Known: YatConv1d, ",
    ),
    (rules("{match: {type: linear}, replace: {}}"), 3, 38, r"^rule 1: replace: `with` is missing$"),
    (
        rules("{match: {type: linear}, replace: {with: 3}}"),
        3,
        45,
        r"^rule 1: replace.with: must be text, not 3",
    ),
    (
        rules("{match: {type: linear}, replace: YatLinear}"),
        3,
        38,
        r"^rule 1: replace: must be a mapping, not 'YatLinear'",
    ),
    (
        rules(f"{{{REPLACE}, epsiln: 1}}}}"),
        3,
        56,
        r"^rule 1: replace: YatLinear has no option 'epsiln'. Did you mean 'epsilon'\? Known: alpha, ",
    ),
    (
        rules(f"{{{REPLACE}, epsilon: foo}}}}"),
        3,
        65,
        r"^rule 1: replace.epsilon: must be 'auto' or a number, not 'foo'$",
    ),
    (
        rules(f"{{{REPLACE}, epsilon: aut}}}}"),
        3,
        65,
        r"^rule 1: replace.epsilon: must be 'auto' or a number, not 'aut'. Did you mean 'auto'\?$",
    ),
    (
        rules(f"{{{REPLACE}, epsilon: 0}}}}"),
        3,
        65,
        r"^rule 1: replace.epsilon: must be 'auto' or greater than 0, not 0$",
    ),
    (
        rules(f"{{{REPLACE}, drop_connect: 1}}}}"),
        3,
        70,
        r"^rule 1: replace.drop_connect: must be less than 1, not 1$",
    ),
    (
        rules(f"{{{REPLACE}, spherical: 1}}}}"),
        3,
        67,
        r"^rule 1: replace.spherical: must be true or false, not 1$",
    ),
    (
        rules(f"{{{REPLACE}, activation: dorp}}}}"),
        3,
        68,
        r"^rule 1: replace.activation: must be 'keep' or 'drop', not 'dorp'. Did you mean 'drop'\?$",
    ),
    (
        rules(f"{{{REPLACE}, activation: drop}}}}"),
        3,
        68,
        r"^rule 1: replace.activation: `activation: drop` needs `followed_by`",
    ),
    (
        rules(f"{{{REPLACE}, norm: fold}}}}"),
        3,
        62,
        r"^rule 1: replace.norm: `norm: fold` needs `followed_by` in `match`, which says what is folded$",
    ),
    (
        rules(f"{{{REPLACE}, norm: x}}}}"),
        3,
        62,
        r"^rule 1: replace.norm: must be 'keep', 'fold' or 'drop', not 'x'$",
    ),
    (rules(f"{{{REPLACE}, morph: 5}}}}"), 3, 63, r"^rule 1: replace.morph: must be"),
    (rules(f"{{{REPLACE}, morph: {{steps: 0}}}}}}"), 3, 71, r"^rule 1: replace.morph.steps: must be"),
    (rules(f"{{{REPLACE}, morph: {{}}}}}}"), 3, 63, r"^rule 1: replace.morph: `steps` is missing$"),
    (
        rules(f"{{{REPLACE}, morph: {{steps: 1, stps: 1}}}}}}"),
        3,
        74,
        r"^rule 1: replace.morph: unknown key 'stps'. Did you mean 'steps'",
    ),
    (
        rules("{match: {path: a}, attach: [fuzy_lr]}"),
        3,
        33,
        r"^there is no mechanism named 'fuzy_lr'. Did you mean 'fuzzy_lr'\? Known: fuzzy_lr, rejuvenate.$",
    ),
    (
        rules("{match: {path: a}, attach: {fuzzy_lr: {}}}"),
        3,
        32,
        r"^rule 1: attach: must be a list, not a mapping",
    ),
    (
        rules("{match: {path: a}, attach: [{fuzzy_lr: {nu: x}}]}"),
        3,
        49,
        r"^rule 1: attach\[0\].fuzzy_lr.nu: must be a number, not 'x'$",
    ),
    (
        rules("{match: {path: a}, attach: [{fuzzy_lr: 3}]}"),
        3,
        44,
        r"^rule 1: attach\[0\].fuzzy_lr: options are a mapping",
    ),
    (
        rules("{match: {path: a}, attach: [{a: {}, b: {}}]}"),
        3,
        33,
        r"^rule 1: attach\[0\]: each mechanism is an item of its own",
    ),
    (
        rules("{match: {path: a}, attach: [rejuvenate]}"),
        3,
        33,
        r"^rule 1: attach\[0\]: rejuvenate needs the option 'every'$",
    ),
    (
        rules("{match: {path: a}, attach: [fuzzy_lr, fuzzy_lr]}"),
        3,
        43,
        r"^rule 1: attach\[1\]: 'fuzzy_lr' is attached twice$",
    ),
    (
        rules("{match: {path: a}, wrap: {kind: blok}}"),
        3,
        37,
        r"^there is no node named 'blok'. Did you mean 'block'\? Known: block.$",
    ),
    (
        rules("{match: {path: a}, wrap: {depth: 0}}"),
        3,
        38,
        r"^rule 1: wrap.depth: must be at least 1, not 0$",
    ),
    (rules("{match: {path: a}, wrap: block}"), 3, 30, r"^rule 1: wrap: must be a mapping, not 'block'"),
    ("version: 1\nextends: yat", 2, 10, r"^extends: must be a list, not 'yat'"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), PROBLEMS)
def test_problems(text, line, column, message):
    """Each mistake has one problem, at its line and column, that says what to write instead."""
    with pytest.raises(RuleError) as raised:
        RuleSet.from_text(text, "mine.yaml")
    (problem,) = raised.value.problems
    assert (problem.source, problem.line, problem.column) == ("mine.yaml", line, column)
    with pytest.raises(ValueError, match=message):
        raise ValueError(problem.message)


def test_all_problems_are_raised_once_in_their_order():
    """Problems of syntax, of keys, of names and of options are reported together, from top to bottom."""
    text = rules(
        "{match: {typ: a}, keep: true}",
        f"{{{REPLACE}, alpha: *x, alhpa: 1, drop_connect: 2}}}}",
        "{match: {path: a}, attach: [fuzzy, fuzzy_lr: {mu: 1}], wrap: {kind: x}}",
    )
    with pytest.raises(RuleError) as raised:
        RuleSet.from_text(text + "foo: 1\n", "f")
    places = [(problem.line, problem.column) for problem in raised.value.problems]
    assert places == sorted(places)
    assert [line for line, _ in places] == [3, 4, 4, 4, 5, 5, 5, 6]


def test_the_error_shows_the_line_with_a_caret():
    """The text of the error is that of all problems, each with its line and a caret below the column."""
    with pytest.raises(RuleError) as raised:
        RuleSet.from_text(rules("{match: {type: linear}, replace: {with: YatLiner}}"), "mine.yaml")
    first, line, caret = str(raised.value).splitlines()
    assert first.startswith("mine.yaml:3:45: there is no replacement named 'YatLiner'.")
    assert line[caret.index("^") :].startswith("YatLiner}")


def test_a_value_that_could_not_be_read_has_one_problem():
    """What an alias stood for is not complained about a second time."""
    with pytest.raises(RuleError, match="alias") as raised:
        RuleSet.from_text(rules("{match: {type: *x}, keep: true}"))
    assert len(raised.value.problems) == 1


DICTS = [
    ({}, r"^<dict>: `version: 1` is missing$"),
    ({"version": 1, "rules": 3}, r"^<dict>: rules: must be a list, not 3$"),
    (
        {"version": 1, "rules": [{"match": {"typ": "a"}, "keep": True}]},
        r"^<dict>: rule 1: match: unknown key 'typ'. Did you mean 'type'\?$",
    ),
    (
        {"version": 1, "rules": [{"name": "x", "match": {"type": "a"}, "replace": {"with": "YatLiner"}}]},
        r"^<dict>: rule 'x': replace.with: there is no replacement named 'YatLiner'.",
    ),
    ({"version": 1, "rules": [{"match": {"path": {"a"}}}]}, r"rules\[0\].match.path: set can't stand"),
    ({"version": 1, 3: 4}, r"^<dict>: the rule set: a key must be text, not int$"),
    ({"version": 1, "name": b"x"}, r"^<dict>: name: bytes can't stand in a rule set$"),
    ({"version": 10**2000}, r"^<dict>: version: a number as long as that can't stand in a rule set$"),
]


@pytest.mark.parametrize(("content", "message"), DICTS)
def test_dicts_go_through_the_same_checks(content, message):
    """A problem of a dict has no line; its text says where it is."""
    with pytest.raises(RuleError, match=message) as raised:
        RuleSet.from_dict(content)
    assert len(raised.value.problems) == 1


def test_a_dict_that_contains_itself_is_refused():
    """Nesting without end is a problem, not a crash."""
    content = {"version": 1}
    content["rules"] = [content]
    with pytest.raises(RuleError, match="nested more than 32 levels deep"):
        RuleSet.from_dict(content)


def test_a_dict_that_unfolds_to_billions_is_refused():
    """Lists that share lists are counted as what they unfold to."""
    value = ["lol"]
    for _ in range(28):
        value = [value] * 10
    with pytest.raises(RuleError, match="more than 100,000 values"):
        RuleSet.from_dict({"version": 1, "rules": value})


def test_the_users_dict_stays_as_it_was():
    """Reading a dict changes nothing in it, and later changes to it don't reach the rules."""
    content = {"version": 1, "rules": [{"match": {"path": ["a"]}, "replace": {"with": "YatLinear"}}]}
    rule_set = RuleSet.from_dict(content)
    assert content["rules"] == [{"match": {"path": ["a"]}, "replace": {"with": "YatLinear"}}]
    content["rules"][0]["match"]["path"].append("b")
    assert rule_set.rules[0].match.path == ("a",)


PIECES = st.text(max_size=3) | st.sampled_from(
    ["*", "&a ", "!t ", "{", "]", ": ", "- ", "\n", "\n  ", "'", '"', ">=1", "\t", "?"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(FULL)), st.integers(0, 8), PIECES), min_size=1, max_size=3))
def test_slips_of_the_pen(edits):
    """A file with pieces lost or put in is still a rule set, or has problems that all have a line."""
    text = FULL
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    try:
        found = RuleSet.from_text(text).version == 1
    except RuleError as error:
        found = error.problems and all(problem.line and problem.column for problem in error.problems)
    assert found
