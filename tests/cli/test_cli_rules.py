"""The commands about rule sets."""

import json

import pytest
import yaml

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
