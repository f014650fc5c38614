"""Defaults of options from pyproject.toml."""

import pytest

SOUND = """\
[tool.other]
bioconvert = "a word"

[tool.bioconvert]
rules = "mine.yaml"
seed = 7
all = true

[tool.bioconvert.plan]
seed = 8
arch-args = {width = 3}
input-shape = "2,3"

[tool.bioconvert."rules init"]
from = "yat"
"""
RULES = "version: 1\nname: mine\nrules:\n  - match: {type: Linear}\n    replace: {with: YatLinear}\n"
CODE = "from torch import nn\n\ndef net(width):\n    return nn.Sequential(nn.Linear(width, 2), nn.ReLU())\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose file sets defaults."""
    (tmp_path / "pyproject.toml").write_text(SOUND)
    (tmp_path / "mine.yaml").write_text(RULES)
    (tmp_path / "default_net.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


class TestSoundFiles:
    def test_defaults_are_used(self, bioconvert, project):
        """Options that aren't given come from the file, that of the command before that of all."""
        ran = bioconvert("plan", "--arch", "default_net:net", "--json")
        assert ran.code == 0, ran.err
        assert (ran.document["rules"], ran.document["seed"]) == ("mine", 8)

    def test_what_is_given_wins(self, bioconvert, project):
        """An option on the command line replaces the file's, also one that may be given again."""
        ran = bioconvert("plan", "--arch", "default_net:net", "--rules", "identity", "--seed", "1", "--json")
        assert (ran.document["rules"], ran.document["seed"]) == ("identity", 1)

    def test_folders_below_find_the_file(self, bioconvert, project, monkeypatch):
        """The file of a folder above counts, and paths in it are relative to it."""
        (project / "below").mkdir()
        (project / "below" / "pyproject.toml").write_text("[tool.ruff]\n")
        monkeypatch.chdir(project / "below")
        assert bioconvert("plan", "--arch", "default_net:net", "--json").document["rules"] == "mine"

    def test_groups_of_commands(self, bioconvert, project):
        """A command of a group is named whole."""
        assert bioconvert("rules", "init", "new.yaml", "--json").document["extends"] == "yat"

    def test_help_shows_them(self, bioconvert, project):
        """The help names the default that holds here."""
        assert "[default: 8]" in bioconvert("plan", "--help").out
        assert "[default: 7]" in bioconvert("drift", "--help").out


def test_other_projects_mean_nothing(bioconvert, tmp_path):
    """A file that doesn't speak of bioconvert isn't even parsed."""
    (tmp_path / "pyproject.toml").write_text("[tool.ruff\n")
    assert bioconvert("version").code == 0


WRONG = [
    pytest.param("[tool.bioconvert\n", "is no TOML", id="no TOML"),
    pytest.param("[tool]\nbioconvert = 3\n", "tool.bioconvert must be a table", id="no table"),
    pytest.param("[tool.bioconvert]\nsed = 1\n", "no key 'sed'. Did you mean 'seed'? Known: ", id="a key"),
    pytest.param("[tool.bioconvert.plann]\n", "no key 'plann'. Did you mean 'plan'?", id="a command"),
    pytest.param(
        "[tool.bioconvert.plan]\nout = 'x'\n",
        "tool.bioconvert.plan has no key 'out'",
        id="an option of others",
    ),
    pytest.param(
        "[tool.bioconvert]\nseed = 'x'\n", "tool.bioconvert.seed must be a whole number, not 'x'", id="text"
    ),
    pytest.param("[tool.bioconvert]\nseed = true\n", "must be a whole number, not True", id="a flag"),
    pytest.param("[tool.bioconvert]\nall = 1\n", "all must be true or false, not 1", id="a number"),
    pytest.param("[tool.bioconvert]\nrules = [1]\n", "rules must be text, or a list of it", id="a list"),
    pytest.param("[tool.bioconvert]\njson = true\n", "has no key 'json'", id="what only fits a call"),
    pytest.param(
        "[tool.bioconvert]\nunsafe-pickle = true\n", "must be given as --unsafe-pickle each", id="unsafe"
    ),
    pytest.param(
        "[tool.bioconvert.convert]\noverwrite = true\n", "given as --overwrite each", id="overwrite"
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
class TestWrongFiles:
    def test_is_an_error_of_usage(self, bioconvert, tmp_path, text, message):
        """Every command says what is wrong, in which file, and what is known; the code is 2."""
        (tmp_path / "pyproject.toml").write_text(text)
        ran = bioconvert("version")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(f"error: {tmp_path / 'pyproject.toml'}: ")
        assert message in ran.err
        assert "Traceback" not in ran.err


def test_all_mistakes_at_once(bioconvert, tmp_path):
    """Each mistake is told, and once."""
    (tmp_path / "pyproject.toml").write_text("[tool.bioconvert]\nsed = 1\nseed = 'x'\n[tool.bioconvert.no]\n")
    assert len(bioconvert("version").err.splitlines()) == 3


def test_help_works_all_the_same(process, tmp_path):
    """A wrong file doesn't stand between a user and the help; the document of the failure is one of usage."""
    (tmp_path / "pyproject.toml").write_text("[tool.bioconvert]\nsed = 1\n")
    assert process("plan", "--help").code == 0
    ran = process("version", "--json")
    assert (ran.code, ran.document["command"], ran.document["error"]["kind"]) == (2, "version", "option")
