"""The structure of a model as text that other tools draw: Mermaid and DOT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bioconvert.report.text import amount

if TYPE_CHECKING:
    from bioconvert.report.html.structure import Node, Structure

_MERMAID = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;", "\\": "#92;"}
_DOT = {"\\": "\\\\", '"': '\\"'}
_MARKED = ("changed", "added", "removed")


def mermaid(structure: Structure) -> str:
    """Write the modules of a model as a Mermaid flowchart; what conversion changed is of another colour."""
    lines = ["flowchart LR"]
    for number, above, node in _numbered(structure.root):
        lines.append(f'  m{number}["{_escaped(_label(node, " — "), _MERMAID)}"]{_class(node)}')
        if above is not None:
            lines.append(f"  m{above} --> m{number}")
    lines += [
        "  classDef changed fill:#cdebdc,stroke:#176a46,color:#16202b",
        "  classDef added fill:#cdebdc,stroke:#176a46,color:#16202b,stroke-dasharray:4 3",
        "  classDef removed fill:#f6d5d1,stroke:#a5352a,color:#16202b",
    ]
    return "\n".join(lines) + "\n"


def dot(structure: Structure) -> str:
    """Write the modules of a model as a DOT graph; what conversion changed is of another colour."""
    colors = {"changed": "#cdebdc", "added": "#cdebdc", "removed": "#f6d5d1"}
    lines = [
        "digraph model {",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor=white];',
    ]
    for number, above, node in _numbered(structure.root):
        fill = f', fillcolor="{colors[node.change]}"' if node.change in colors else ""
        label = "\\n".join(_escaped(part, _DOT) for part in _label(node, "\n").split("\n"))
        lines.append(f'  m{number} [label="{label}"{fill}];')
        if above is not None:
            lines.append(f"  m{above} -> m{number};")
    return "\n".join([*lines, "}"]) + "\n"


def _numbered(root: Node) -> Iterator[tuple[int, int | None, Node]]:
    """Give each node with its number and that of the one above it."""
    waiting: list[tuple[int | None, Node]] = [(None, root)]
    number = 0
    while waiting:
        above, node = waiting.pop()
        yield number, above, node
        waiting += [(number, child) for child in reversed(node.children)]
        number += 1


def _label(node: Node, between: str) -> str:
    name = node.name or "(the model)"
    times = f" × {node.count}" if node.count > 1 else ""
    kind = f"{node.was} → {node.now}" if node.change == "changed" else node.now or node.was
    counted = f"{amount(node.after)} parameters" if node.after else ""
    return between.join(part for part in (name + times, kind, counted) if part)


def _class(node: Node) -> str:
    return f":::{node.change}" if node.change in _MARKED else ""


def _escaped(text: str, by: dict[str, str]) -> str:
    return "".join(by.get(character, character) for character in text)
