"""The commands about rule sets."""

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from bioconvert.ruleset import builtin_names

GOOD = "version: 1\nname: mine\nrules:\n  - match: {type: [Linear]}\n    replace: {with: YatLinear}\n"
BAD = """\
version: 1
name: mine
rules:
  - name: blocks
    match: {type: [Conv2d]}
    replace: {with: YatConv2D}
  - name: synapses
    match: {type: [linear]}
    attatch: []
"""


def test_list_names_and_describes(bioconvert):
    """Every built-in set is listed with its description."""
    listed = bioconvert("rules", "list", "--json").document["rules"]
    text = bioconvert("rules", "list").out
    assert "yat" in [entry["name"] for entry in listed]
    assert all(entry["name"] in text and entry["description"] for entry in listed)


def test_shown_set_is_a_rule_file(bioconvert, tmp_path):
    """What `rules show` prints is a rule file that checks and says the same."""
    shown = bioconvert("rules", "show", "yat")
    (tmp_path / "copy.yaml").write_text(shown.out)
    assert bioconvert("rules", "check", "copy.yaml").code == 0
    assert yaml.safe_load(shown.out) == bioconvert("rules", "show", "yat", "--json").document["rules"]
    assert bioconvert("rules", "show", "copy.yaml").out == shown.out


def test_sound_files_are_ok(bioconvert, tmp_path):
    """A file without problems is a line with the number of its rules."""
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    ran = bioconvert("rules", "check", "a.yaml", "b.yaml")
    assert (ran.code, ran.out, ran.err) == (0, "a.yaml: OK, 1 rule\nb.yaml: OK, 1 rule\n", "")


def test_all_problems_of_all_files_are_shown(bioconvert, tmp_path):
    """Each problem has its place, the line with a caret, and what may have been meant; the code is 2."""
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    (tmp_path / "worse.yaml").write_text(BAD)
    ran = bioconvert("rules", "check", "bad.yaml", "good.yaml", "worse.yaml")
    lines = ran.out.splitlines()
    assert ran.code == 2
    assert "good.yaml: OK, 1 rule" in lines
    assert [line.partition(": ")[0] for line in lines if ".yaml:" in line and "OK" not in line] == [
        "bad.yaml:6:21",
        "bad.yaml:9:5",
        "worse.yaml:6:21",
        "worse.yaml:9:5",
    ]
    assert lines[lines.index("        replace: {with: YatConv2D}") + 1] == " " * 24 + "^"
    assert "Did you mean 'YatConv2d'?" in ran.out
    assert lines[-1] == "4 problems in 2 files."


def test_problems_are_in_the_document(bioconvert, tmp_path):
    """With --json every problem is a value with its place."""
    (tmp_path / "bad.yaml").write_text(BAD)
    ran = bioconvert("rules", "check", "bad.yaml", "--json")
    assert ran.code == 2
    assert ran.document["sound"] == []
    assert [(found["line"], found["column"]) for found in ran.document["problems"]] == [(6, 21), (9, 5)]


def test_schema_is_json(bioconvert):
    """The schema is JSON on stdout and nothing else."""
    schema = json.loads(bioconvert("rules", "schema").out)
    assert schema == bioconvert("rules", "schema", "--json").document["schema"]
    assert "rules" in schema["properties"]


@pytest.mark.parametrize(
    "words", [["rules", "show"], ["rules", "check"], ["plan", "--arch", "a.b:C", "--rules"]]
)
def test_unknown_set_is_named_with_what_was_meant(bioconvert, words):
    """A name that is no rule set and no file is an error with the nearest name."""
    ran = bioconvert(*words, "yatt")
    assert ran.code == 2
    assert "yatt" in ran.err + ran.out
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_rule_sets_are_valid(bioconvert, name):
    """The built-in rule sets meet the published schema."""
    schema = bioconvert("rules", "schema", "--json").document["schema"]
    shown = bioconvert("rules", "show", name, "--json").document["rules"]
    Draft202012Validator(schema).validate(shown)


class TestInit:
    @pytest.mark.parametrize("more", [[], ["--from", "yat"], ["--from", "plastic"]], ids=str)
    def test_what_is_begun_is_sound(self, bioconvert, more):
        """The file that init writes checks, whether it extends a set or not."""
        assert bioconvert("rules", "init", "my rules-1.yaml", *more).code == 0
        ran = bioconvert("rules", "check", "my rules-1.yaml")
        assert (ran.code, ran.err) == (0, "")

    @pytest.mark.parametrize("name", ["true.yaml", "1.yaml", "über: #.yaml", "._-.yaml"])
    def test_any_file_name_gives_a_sound_file(self, bioconvert, name):
        """Whatever the file is called, the name in it is text."""
        assert bioconvert("rules", "init", name).code == 0
        assert bioconvert("rules", "check", name).code == 0

    def test_commented_parts_are_sound_too(self, bioconvert, tmp_path):
        """With the comments taken off the rules in it, the file still checks."""
        bioconvert("rules", "init")
        lines = (tmp_path / "rules.yaml").read_text().splitlines()
        head, rules = lines[: lines.index("rules:")], lines[lines.index("rules:") :]
        bare = [line.replace("  # - name", "  - name").replace("  #   ", "    ") for line in rules]
        bare = [line.replace("# ", "", 1) if line.startswith("      # ") else line for line in bare]
        (tmp_path / "bare.yaml").write_text("\n".join([*head, *bare]) + "\n")
        ran = bioconvert("rules", "check", "bare.yaml")
        assert (ran.code, ran.out) == (0, "bare.yaml: OK, 3 rules\n")

    def test_extending_comes_after_own_rules(self, bioconvert):
        """With --from, the rules of the set follow the file's own."""
        bioconvert("rules", "init", "mine.yaml", "--from", "yat")
        own, *extended = bioconvert("rules", "show", "mine.yaml", "--json").document["rules"]["rules"]
        assert own["keep"] is True
        assert extended == bioconvert("rules", "show", "yat", "--json").document["rules"]["rules"]

    def test_nothing_is_overwritten(self, bioconvert, tmp_path):
        """A file that is there stays, and so does a link to nowhere."""
        (tmp_path / "mine.yaml").write_text(GOOD)
        (tmp_path / "link.yaml").symlink_to(tmp_path / "elsewhere")
        for name in ("mine.yaml", "link.yaml"):
            ran = bioconvert("rules", "init", name)
            assert (ran.code, ran.out) == (2, "")
            assert "is there already" in ran.err
        assert (tmp_path / "mine.yaml").read_text() == GOOD
        assert not (tmp_path / "elsewhere").exists()

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["new.yaml", "--from", "yta"], "no built-in rule set named 'yta'. Did you mean 'yat'?"),
            (["none/new.yaml"], "the folder none must be there already"),
        ],
    )
    def test_refusals(self, bioconvert, tmp_path, words, text):
        """An unknown set and a missing folder are mistakes of usage, and nothing is written."""
        ran = bioconvert("rules", "init", *words)
        assert ran.code == 2
        assert text in ran.err
        assert list(tmp_path.iterdir()) == []
