"""Rule files that extend others, and where rule sets come from."""

import os
from pathlib import Path

import pytest

from bioconvert.core.errors import RuleError
from bioconvert.ruleset import RuleSet, builtin_names, resolve_rules


@pytest.fixture
def write(tmp_path):
    """Give a function that writes a rule file with one rule of the file's name, and gives its path."""

    def make(name, *extends, rules="[{{name: {0}, match: {{path: {0}}}, keep: true}}]"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        listed = ", ".join(f'"{other}"' for other in extends)
        path.write_text(f"version: 1\nextends: [{listed}]\nrules: {rules.format(path.stem)}\n")
        return path

    return make


def names(rule_set):
    """Name the rules."""
    return [rule.name for rule in rule_set.rules]


class TestExtends:
    def test_local_rules_come_first(self, write):
        """What a file extends follows its own rules, in the order in which it is named, depth first."""
        write("b.yaml", "sub/d.yaml")
        write("c.yml")
        write("sub/d.yaml", "e.yaml")
        write("sub/e.yaml")
        assert names(RuleSet.load(write("a.yaml", "./b.yaml", "c.yml"))) == ["a", "b", "d", "e", "c"]

    def test_built_in_names(self, write):
        """A built-in rule set is extended by its name, from a file or a dict."""
        yat = names(resolve_rules("yat"))
        assert names(RuleSet.load(write("a.yaml", "yat", "identity"))) == ["a", *yat]
        assert names(RuleSet.from_dict({"version": 1, "extends": ["yat"]})) == yat

    def test_a_file_counts_once(self, write):
        """A file that is reached on several ways has its rules once: sixty files don't make 2⁶⁰ rules."""
        write("n60.yaml")
        for i in range(60):
            write(f"n{i}.yaml", f"n{i + 1}.yaml", f"./n{i + 1}.yaml")
        rule_set = RuleSet.load(write("a.yaml", "n0.yaml"))
        assert names(rule_set) == ["a", *(f"n{i}" for i in range(61))]

    def test_a_hundred_levels(self, write):
        """A hundred levels are read; one more is a problem of the file that names it."""
        write("n101.yaml")
        for i in range(101):
            write(f"n{i}.yaml", f"n{i + 1}.yaml")
        assert len(RuleSet.load(write("ok.yaml", "n2.yaml")).rules) == 101
        with pytest.raises(RuleError, match=r"n99.yaml:2:11: extends: there are more than 100 levels"):
            RuleSet.load(write("n.yaml", "n0.yaml"))

    def test_rules_know_their_file(self, write):
        """A rule that comes from another file points there."""
        other = write("b.yaml")
        rule = RuleSet.load(write("a.yaml", "b.yaml")).rules[1]
        assert str(rule.problem("x")).startswith(f"{other}:3:9: rule 'b': x")

    def test_problems_of_all_files_are_collected(self, write):
        """A mistake in one file hides none in another; what a faulty file extends is read too."""
        write("b.yaml", rules="[{{nmae: x}}]")
        a = write("a.yaml", "b.yaml", "nothing", rules="[3]")
        with pytest.raises(RuleError) as raised:
            RuleSet.load(a)
        found = [(Path(problem.source).name, problem.line) for problem in raised.value.problems]
        assert found == [("a.yaml", 3), ("b.yaml", 3), ("b.yaml", 3), ("a.yaml", 2)]


PROBLEMS = [
    pytest.param(
        "yatt",
        r"there is no rule set named 'yatt'\. Did you mean 'yat'\? Known: continual, dale, dynamic, identity",
        id="name",
    ),
    pytest.param("b.yaml", r"there is no file 'b\.yaml' in the folder of this one", id="missing"),
    pytest.param(
        "../b.yaml", r"must be a relative path inside the folder of the file, without `\.\.`", id="up"
    ),
    pytest.param("x/../../b.yaml", r"without `\.\.`", id="up and down"),
    pytest.param("/etc/passwd.yaml", r"must be a relative path", id="absolute"),
    pytest.param(r"..\\b.yaml", r"must be a relative path", id="backslash"),
    pytest.param(r"a\0.yaml", r"must be a relative path", id="null byte"),
    pytest.param("a.yaml", r"in a circle: .*a\.yaml → .*a\.yaml", id="itself"),
    pytest.param(
        "link.yaml", r"'link\.yaml' leads out of the folder of the file by a symbolic link", id="link"
    ),
    pytest.param("folder/c.yaml", r"leads out of the folder", id="linked folder"),
    pytest.param("loop.yaml", r"there is no file", id="loop of links"),
]


@pytest.mark.parametrize(("extends", "message"), PROBLEMS)
def test_problems_of_extends(write, tmp_path, extends, message):
    """What can't or may not be extended is a problem at the line that names it; nothing outside is opened."""
    path = write("in/a.yaml", extends)
    write("b.yaml", rules="nonsense")
    write("c.yaml", rules="nonsense")
    (tmp_path / "in" / "link.yaml").symlink_to(tmp_path / "b.yaml")
    (tmp_path / "in" / "folder").symlink_to(tmp_path)
    (tmp_path / "in" / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(RuleError, match=message) as raised:
        RuleSet.load(path)
    assert [(problem.source, problem.line, problem.column) for problem in raised.value.problems] == [
        (str(path), 2, 11)
    ]


def test_circle(write):
    """Files that extend each other are named in order."""
    write("b.yaml", "a.yaml")
    with pytest.raises(RuleError, match=r"b\.yaml:2:11: .*circle: .*a\.yaml → .*b\.yaml → .*a\.yaml"):
        RuleSet.load(write("a.yaml", "b.yaml"))


def test_a_dict_has_no_folder():
    """A dict can extend built-in rule sets, but no files."""
    with pytest.raises(RuleError, match=r"extends: 'b\.yaml' is a path, and only a file has a folder"):
        RuleSet.from_dict({"version": 1, "extends": ["b.yaml"]})


class TestResolve:
    def test_every_form(self, write):
        """A name, a path as text or Path, a dict and a rule set all stand for a rule set."""
        path = write("a.yaml")
        content = RuleSet.load(path).to_dict()
        for form in (path, str(path), content, RuleSet.load(path)):
            assert names(resolve_rules(form)) == ["a"]
        assert resolve_rules("yat").name == "yat"

    def test_a_name_stands_for_the_built_in_set(self, tmp_path, monkeypatch):
        """A file that is called like a built-in rule set is not taken for it; a Path is always a file."""
        monkeypatch.chdir(tmp_path)
        Path("yat").write_text("version: 1\nname: mine")
        assert resolve_rules("yat").name == "yat"
        assert resolve_rules(Path("yat")).name == "mine"
        assert resolve_rules("./yat").name == "mine"

    def test_a_file_without_suffix(self, tmp_path, monkeypatch):
        """A text that is no built-in name is the path of a file that exists; its name is the file's."""
        monkeypatch.chdir(tmp_path)
        Path("mine").write_text("version: 1")
        assert resolve_rules("mine").name == "mine"

    def test_a_list_is_joined(self, write):
        """The rules of a list count in its order; the names are joined."""
        joined = resolve_rules([write("a.yaml"), "identity", write("b.yaml")])
        assert (joined.name, names(joined)) == ("a+identity+b", ["a", "b"])

    def test_a_list_of_one_or_none(self):
        """A list of one is what is in it; an empty list does nothing."""
        yat = resolve_rules("yat")
        assert resolve_rules([yat]) is yat
        assert resolve_rules([]).rules == ()

    def test_problems_of_a_list_are_collected(self, write):
        """Every member of a list is checked."""
        with pytest.raises(RuleError) as raised:
            resolve_rules(["yatt", write("a.yaml", rules="3"), [], {"version": 1, "x": 2}])
        assert len(raised.value.problems) == 4


RULES = [
    pytest.param(
        "yatt",
        r"^<rules>: there is no rule set named 'yatt'\. Did you mean 'yat'\? Known: continual",
        id="name",
    ),
    pytest.param("", r"there is no rule set named ''", id="empty"),
    pytest.param("x" * 10_000, r"there is no rule set named 'x+…'", id="long"),
    pytest.param("no/such", r"^no/such: the file can't be read: No such file", id="path"),
    pytest.param("none.yaml", r"^none\.yaml: the file can't be read: No such file", id="suffix"),
    pytest.param("a\0.yaml", r"^a \.yaml: the file can't be read: embedded null byte", id="null byte"),
    pytest.param("x" * 10_000 + ".yaml", r"the file can't be read: File name too long", id="long path"),
    pytest.param(Path("/"), r"^/: the file can't be read: it is a folder", id="folder"),
    pytest.param(
        Path("/dev/zero"), r"^/dev/zero: the file can't be read: it is no regular file", id="device"
    ),
    pytest.param(3, r"rules are a name, a path, a dict, a RuleSet or a list of these, not int", id="number"),
    pytest.param([["yat"]], r"a list of rules holds no other lists", id="list of lists"),
]


@pytest.mark.parametrize(("rules", "message"), RULES)
def test_what_is_no_rule_set(rules, message):
    """Whatever can't be a rule set is an error that says what can."""
    with pytest.raises(RuleError, match=message):
        resolve_rules(rules)


def test_a_pipe_is_not_waited_for(tmp_path):
    """A named pipe is refused without being opened."""
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(RuleError, match="it is no regular file"):
        resolve_rules(tmp_path / "pipe.yaml")


def test_a_checkpoint_among_the_rules(tmp_path):
    """A binary file is named as such, without a line of it."""
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04\0\0archive/data.pkl\x80\x02")
    with pytest.raises(RuleError, match=r"a\.pt: a rule file is text in YAML, this one is binary$"):
        resolve_rules(tmp_path / "a.pt")


def test_an_unreadable_encoding(tmp_path):
    """A file that is not UTF-8 is a problem with the place of the first bad byte."""
    (tmp_path / "a.yaml").write_bytes(b"version: 1\nname: caf\xe9\n")
    with pytest.raises(RuleError, match=r"a\.yaml:2:10: the file is not UTF-8 text"):
        resolve_rules(tmp_path / "a.yaml")


def test_built_in_names():
    """The built-in rule sets are known by name."""
    assert builtin_names() == (
        "continual",
        "dale",
        "dynamic",
        "identity",
        "plastic",
        "yat",
        "yat-all",
        "yat-cnn",
    )
