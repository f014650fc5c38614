"""What an installation from a wheel holds."""

import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel, with the build backend that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("torch_bioconvert-*.whl")
    return zipfile.ZipFile(path)


def test_the_rules_come_along(wheel):
    """Every file of the top-level rules folder is part of the package."""
    expected = {f"bioconvert/_rules/{path.name}" for path in (ROOT / "rules").glob("*.yaml")}
    assert expected
    assert expected <= set(wheel.namelist())


def test_every_source_file_comes_along(wheel):
    """No package is forgotten, nor the templates of pages and the marker of typed code."""
    package = ROOT / "bioconvert"
    files = [path for kind in ("*.py", "*.j2") for path in package.rglob(kind)]
    sources = {path.relative_to(ROOT).as_posix() for path in files}
    assert sources | {"bioconvert/py.typed"} <= set(wheel.namelist())


def test_nothing_else_comes_along(wheel):
    """Tests and examples stay at home."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert len(tops) == 2
    assert "bioconvert" in tops


def test_the_script_and_the_plugins_are_declared(wheel):
    """The command and our own replacements are entry points."""
    (text,) = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "bioconvert = bioconvert.cli.main:run" in text
    assert "[bioconvert.plugins]" in text
    assert {point.value for point in entry_points(group="bioconvert.plugins")} >= {"bioconvert.replacements"}
