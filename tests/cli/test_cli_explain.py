"""What explain says of modules under rules, and of the names that rules may have."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bioconvert.core import registry
from bioconvert.core.errors import OptionError
from bioconvert.ruleset import select
from bioconvert.ruleset.clauses import clauses
from bioconvert.surgery.explain import explain
from bioconvert.surgery.look import Look

MODULE = """\
from torch import nn

def net():
    blocks = [nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)) for _ in range(3)]
    return nn.Sequential(nn.Linear(4, 4, bias=False), *blocks, nn.Linear(4, 2))
"""
RULES = """\
version: 1
name: mine
rules:
  - name: head
    match: {path: "4"}
    keep: true
  - name: hidden
    match: {type: Linear, followed_by: [ReLU], not: [first]}
    replace: {with: YatLinear, activation: drop}
  - name: biased
    match: {type: linear, where: {bias: true, in_features: ">=4"}}
    replace: {with: YatLinear, epsilon: 0.01}
    attach: [fuzzy_lr]
  - name: nowhere
    match: {path: "nothing.**"}
    replace: {with: YatLinear}
"""


@pytest.fixture
def files(tmp_path):
    """A factory, its checkpoint and rules in the working directory."""
    namespace = {}
    exec(MODULE, namespace)
    (tmp_path / "explained_net.py").write_text(MODULE)
    (tmp_path / "mine.yaml").write_text(RULES)
    save_file(namespace["net"]().state_dict(), tmp_path / "net.safetensors")
    return ("net.safetensors", "--arch", "explained_net:net", "--rules", "mine.yaml")


class TestModules:
    def test_each_condition_is_told(self, bioconvert, files):
        """Of each rule, every condition stands with whether it is met, what it wants and what there is."""
        (module,) = bioconvert("explain", "0", *files, "--json").document["modules"]
        told = {
            (verdict["rule"], clause["key"]): (clause["holds"], clause["wanted"], clause["found"])
            for verdict in module["verdicts"]
            for clause in verdict["clauses"]
        }
        assert told["head", "path"] == (False, "4", "it is 0")
        assert told["hidden", "type"] == (True, "Linear", "it is a Linear")
        assert told["hidden", "not: first"] == (False, "not the first of its family", "it is of 'linear'")
        assert told["biased", "where: bias"] == (False, "true", "it is None")
        assert told["biased", "where: in_features"] == (True, ">=4", "it is 4")
        assert [verdict["selected"] for verdict in module["verdicts"]] == [False] * 4

    def test_what_becomes_of_it(self, bioconvert, files):
        """The rule that wins says what is done, with resolved options and new tensors; others say who won."""
        (module,) = bioconvert("explain", "1.0", *files, "--json").document["modules"]
        hidden, biased = module["verdicts"][1], module["verdicts"][2]
        (won,) = hidden["doings"]
        lost, attached = biased["doings"]
        assert (won["applied"], won["how"]) == (True, "Linear → YatLinear; ReLU dropped")
        assert won["options"]["bias_mode"] == "pre"
        assert isinstance(won["options"]["epsilon"], float)
        assert won["adds"] == {"alpha": [1]}
        assert any("weight and bias are kept" in warning for warning in won["warnings"])
        assert (lost["applied"], lost["how"]) == (False, "rule 'hidden' comes first")
        assert (attached["action"], attached["applied"]) == ("attach fuzzy_lr", True)

    def test_what_must_follow(self, bioconvert, files):
        """Where the data flow isn't what the rule asks for, the next rule's turn comes, and both are told."""
        (module,) = bioconvert("explain", "1.2", *files, "--json").document["modules"]
        hidden, biased = module["verdicts"][1], module["verdicts"][2]
        assert [(c["key"], c["holds"]) for c in hidden["clauses"]][-1] == ("followed_by", False)
        assert hidden["doings"][0]["how"].startswith("`followed_by`: it is followed by Linear")
        assert biased["doings"][0]["applied"]

    def test_kept_modules(self, bioconvert, files):
        """A rule that keeps a module is what others are refused by."""
        (module,) = bioconvert("explain", "4", *files, "--json").document["modules"]
        assert [doing["action"] for doing in module["verdicts"][0]["doings"]] == ["keep"]
        assert module["verdicts"][2]["doings"][0]["how"] == "a rule keeps '4' as it is"

    def test_alike_modules_are_folded(self, bioconvert, files):
        """A glob explains modules that fare alike once; --all explains each."""
        ran = bioconvert("explain", "*.0", *files)
        assert ran.code == 0
        assert ran.out.startswith("{1..3}.0  Linear\n"), ran.out
        assert max(map(len, ran.out.splitlines())) <= 80
        assert "\n2.0  Linear" in bioconvert("explain", "*.0", *files, "--all").out

    @pytest.mark.parametrize("name", ["9.9", "[", "re:(", "re:(a*)*b"])
    def test_unknown_names(self, bioconvert, files, name):
        """A name that no module has, and what is no pattern, end in 2."""
        ran = bioconvert("explain", name, *files)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.splitlines()[-1].startswith("error: ")

    def test_rules_are_needed(self, bioconvert, files):
        """A model without rules is a mistake of usage."""
        ran = bioconvert("explain", "0", *files[:3])
        assert (ran.code, ran.err) == (2, "error: say which rules to explain: --rules NAME|FILE\n")

    def test_nothing_is_changed(self):
        """Explaining leaves the model as it was."""
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        explain(model, "yat", "**")
        assert [type(module).__name__ for module in model] == ["Linear", "ReLU", "Linear"]
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def test_unknown_module(self):
        """The library names what is nearest."""
        with pytest.raises(OptionError, match=r"no module is named 'hed'\. Did you mean 'head'"):
            explain(nn.ModuleDict({"head": nn.Linear(2, 2)}), "identity", "hed")


MATCHES = [
    {"type": "Linear"},
    {"type": ["linear", "Conv2d"], "where": {"bias": True}},
    {"type": "linear", "not": ["first", "**.2"]},
    {"path": "re:[12]\\..*"},
    {"parameter": "**.weight"},
    {"type": "F.linear"},
]


@pytest.mark.parametrize("match", MATCHES, ids=str)
def test_clauses_agree_with_selection(match):
    """A module is selected if, and only if, it meets every clause that is told of it."""
    from bioconvert.ruleset import RuleSet

    namespace = {}
    exec(MODULE, namespace)
    rule = {"match": match, "replace": {"with": "YatLinear"}}
    (rule,) = RuleSet.from_dict({"version": 1, "rules": [rule]}).rules
    candidates = Look(namespace["net"]()).candidates
    selected = select(rule, candidates)
    for candidate in candidates:
        own = [each for each in selected if each.candidate is candidate]
        assert bool(own) == all(clause.holds for clause in clauses(rule.match, candidate, candidates, own))


class TestNames:
    @pytest.mark.parametrize(
        "name", [*registry.replacements.names(), *registry.mechanisms.names(), *registry.nodes.names()]
    )
    def test_everything_registered_is_explained(self, bioconvert, name):
        """Each name of a rule file has a summary, and each option a type and a meaning."""
        found = bioconvert("explain", name, "--json").document["registered"]
        assert all(each["summary"] for each in found)
        options = [option for each in found for option in each["options"]]
        assert [option["name"] for option in options if not (option["type"] and option["meaning"])] == []
        assert max(map(len, bioconvert("explain", name).out.splitlines())) <= 80

    def test_layers_beside_the_rules(self, bioconvert):
        """A layer that no rule makes is explained by its class."""
        (found,) = bioconvert("explain", "NoiseIn", "--json").document["registered"]
        assert (found["kind"], found["use"], found["options"][0]["name"]) == ("layer", "", "rate")

    def test_unknown_name(self, bioconvert):
        """A name that nothing has is an error with the nearest one."""
        ran = bioconvert("explain", "YatLiner")
        assert (ran.code, ran.out) == (2, "")
        assert "Did you mean 'YatLinear'?" in ran.err
        known = ran.err.partition("Known: ")[2].partition(", …")[0].split(", ")
        assert set(known) <= set(registry.replacements.names())
