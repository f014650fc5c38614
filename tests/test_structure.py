"""The shape of the package: the order of its parts, no cycles, no long files."""

import ast
from pathlib import Path

import pytest

import bioconvert

ROOT = Path(bioconvert.__file__).parent
LONGEST = 400
ORDER = [
    {"__main__"},
    {"cli"},
    {"__init__"},
    {"api"},
    {"integrations"},
    {"checkpoint", "compat", "report"},
    {"surgery"},
    {"replacements", "plasticity", "organism"},
    {"graph"},
    {"ruleset", "layers"},
    {"functional"},
    {"core"},
    {"version"},
]
"""From the user's hand down; a part may import what stands in a later row."""
RANK = {name: rank for rank, row in enumerate(ORDER) for name in row}
FILES = sorted(path for path in ROOT.rglob("*.py") if "_rules" not in path.parts)


def part(path: Path) -> str:
    """Give the package, or top-level module, that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_name(path: Path) -> str:
    parts = ("bioconvert", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, *, everywhere: bool = True) -> set[str]:
    """Give the dotted names of our own modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if everywhere else _run_on_import(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "bioconvert"}


def _run_on_import(tree: ast.AST):
    """Give the nodes that are executed on import: not those in functions or for typing alone."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not typing_only:
            stack.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
class TestEveryFile:
    def test_has_a_place_in_the_order(self, path):
        """Every file belongs to a part whose place is known."""
        assert part(path) in RANK

    def test_imports_only_downward(self, path):
        """A file imports its own part and those below it: nothing above, nothing beside."""
        own = part(path)
        for name in imported(path):
            pieces = name.split(".")
            other = pieces[1] if len(pieces) > 1 and pieces[1] in RANK else own
            assert other == own or RANK[other] > RANK[own], f"{own} imports {other} ({name})"

    def test_is_short_enough_to_hold_one_concept(self, path):
        """No file is longer than 400 lines."""
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_no_import_cycles():
    """No module imports itself, by whatever way, while it is being imported."""
    modules = {module_name(path): path for path in FILES}
    edges = {
        name: {other for other in imported(path, everywhere=False) if other in modules and other != name}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"cycle: {' -> '.join((*above, name))}"
        if name not in done:
            for other in edges[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in modules:
        visit(name, ())


NEUTRAL = {
    "bioconvert.layers.acting",
    "bioconvert.layers.acting.acts_as_original",
    "bioconvert.layers.acting.every_layer_called",
    "bioconvert.layers.acting.joined",
    "bioconvert.layers.acting.with_idle_parameters",
    "bioconvert.layers.dropped",
    "bioconvert.layers.dropped.Dropped",
    "bioconvert.layers.owners",
    "bioconvert.layers.tolerance",
    "bioconvert.layers.tracing",
    "bioconvert.layers.tracing.traced_call",
    "bioconvert.layers.tracing.tracer_of",
    "bioconvert.layers.tolerance.insist",
    "bioconvert.layers.tolerance.tolerate",
    "bioconvert.layers",
}
"""What says whether a layer acts as the original, what a dropped activation becomes, who registers owners."""


def test_the_engine_knows_no_concrete_layer():
    """Surgery, graph and core name no layer of ours but the one that stands for a dropped activation."""
    for folder in ("surgery", "graph", "core"):
        for path in (ROOT / folder).rglob("*.py"):
            layers = {name for name in imported(path) if name.startswith("bioconvert.layers")}
            assert layers <= NEUTRAL, path
