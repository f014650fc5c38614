"""The command reference in README.md, made from the commands themselves.

``python -m tests.support.command_reference`` writes it anew; a test fails where it differs.
"""

import re
from pathlib import Path

import typer
from typer.testing import CliRunner

from bioconvert.cli.main import COMMANDS, GROUPS, app

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- commands: begin -->\n", "<!-- commands: end -->\n"
NAMES = [*COMMANDS, *(f"{group} {name}" for group, commands in GROUPS.items() for name in commands)]
COMMON = ("--json", "--debug", "--help")
"""Options that every command has, told once."""
FAILS = "0; 2, 3 or 4 on failure"
EXAMPLES = {
    "convert": ("convert resnet.pt --arch torchvision:resnet18 --rules yat --out out/", FAILS),
    "plan": ("plan resnet.pt --arch torchvision:resnet18 --rules yat --input-shape 1,3,224,224", FAILS),
    "inspect": ("inspect model.safetensors --depth 2", FAILS),
    "diff": (
        "diff before.safetensors out/",
        "0 where they are equal, 1 where they differ; 2, 3 or 4 on failure",
    ),
    "verify": ("verify out/", "0 if it is sound, 1 if anything isn't; 2, 3 or 4 on failure"),
    "drift": ("drift out/ --inputs samples.npz", FAILS),
    "revert": ("revert out/ --out original/", FAILS),
    "export": ("export onnx out/ --out model.onnx --input-shape 1,3,224,224", FAILS),
    "report": ("report out/ --out report.html", FAILS),
    "resume": ("resume out/", FAILS),
    "explain": ("explain 'layer1.*.conv?' resnet.pt --arch torchvision:resnet18 --rules yat", FAILS),
    "demo": ("demo --out demo-out", FAILS),
    "doctor": ("doctor /data/models", "0 if all is well, 1 with a warning; 2 on failure"),
    "schema": ("schema rules check", FAILS),
    "version": ("version", "0"),
    "rules list": ("rules list", "0"),
    "rules show": ("rules show yat", FAILS),
    "rules check": ("rules check mine.yaml", "0 if the files are sound, 2 if not"),
    "rules schema": ("rules schema", "0"),
    "rules init": ("rules init mine.yaml --from yat", FAILS),
    "import nmn": ("import nmn theirs.pt --out out/ --arch mymodel:Net --generation 0.3", FAILS),
    "import dyna": ("import dyna theirs.pt --out out/ --arch mymodel:Net", FAILS),
    "import dno": ("import dno theirs.dno --out out/ --factory organs:make", FAILS),
}
"""A call of each command, without ``bioconvert``, and the codes that it ends in."""


def reference() -> str:
    """Give the reference: of each command its help, an example and its exit codes."""
    return "\n".join(_entry(name) for name in NAMES)


def parsed(name: str) -> list[str]:
    """Let the command line parse a command's example; give the words of it."""
    words = [word.strip("'") for word in EXAMPLES[name][0].split()]
    command, left = typer.main.get_command(app), words
    while hasattr(command, "commands"):
        command, left = command.commands[left[0]], left[1:]
    command.make_context(name, [*left])
    return words


def replaced(text: str) -> str:
    """Give a README with the reference put between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md must have the lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{reference()}\n{end}{after}"


def _entry(name: str) -> str:
    example, codes = EXAMPLES[name]
    return f"### {name}\n\n```\n{_help(name)}\n\n$ bioconvert {example}\n```\n\nExit codes: {codes}.\n"


def _help(name: str) -> str:
    ran = CliRunner().invoke(
        app, [*name.split(), "--help"], prog_name="bioconvert", env={"COLUMNS": "80"}, catch_exceptions=False
    )
    text = ran.stdout
    for option in COMMON:
        text = re.sub(rf"^  {option} .*\n(?:    +.*\n)*", "", text, flags=re.MULTILINE)
    return re.sub(r"\n+Options:\n$", "", text.removeprefix("Usage: ")).rstrip()


if __name__ == "__main__":
    README.write_text(replaced(README.read_text(encoding="utf-8")), encoding="utf-8")
