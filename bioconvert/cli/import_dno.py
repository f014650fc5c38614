"""``bioconvert import dno``: the networks of dno, as folders of ours."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.options import Checkpoint, Out, Overwrite
from bioconvert.cli.source import find_modules_here, require
from bioconvert.cli.streams import step
from bioconvert.cli.target import check_target
from bioconvert.core.errors import OptionError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bioconvert.organism import DynamicNetwork
    from bioconvert.organism.dno_nodes import Fallback


def dno(
    checkpoint: Checkpoint,
    out: Out,
    factory: Annotated[
        str | None,
        typer.Option(
            "--factory",
            metavar="MODULE:FUNCTION",
            help="Gives the module of a node by the name of its class, which is all that the file tells.",
        ),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put something else in the place of nodes that can't be made.")
    ] = False,
    fallback: Annotated[
        str, typer.Option("--fallback", metavar="pass_through|GPTModel", help="What --repair puts there.")
    ] = "pass_through",
    overwrite: Overwrite = False,
) -> Answer:
    """Read a .dno file, the network of an organism.

    Nodes that can be made from their tensors alone are; others need a factory, or are named. Clones become
    branches of what they are clones of. bc.load(DIR) gives the network. Nothing is written unless everything
    went well.
    """
    target = check_target(out, overwrite=overwrite)
    require(checkpoint)
    find_modules_here()
    with step(f"reading {checkpoint}"):
        from bioconvert.organism import load_dno

        network = load_dno(checkpoint, _function(factory), repair=repair, fallback=cast("Fallback", fallback))
    from bioconvert.checkpoint import save_model

    with step(f"writing {out}"):
        save_model(network, target, overwrite=overwrite)
    repaired = [
        {"node": event["node"], "reason": event["reason"]}
        for event in network.record["history"]
        if event["event"] == "repair"
    ]
    data = {
        "out": str(out),
        "nodes": network.manager.list_organs(),
        "edges": {name: list(fed) for name, fed in network.manager.edges.items()},
        "repaired": repaired,
    }
    return Answer(data, lambda: _text(network, repaired, fallback, out))


def _function(named: str | None) -> Callable[[str], Any] | None:
    if named is None:
        return None
    module, _, name = named.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(f"--factory must be MODULE:FUNCTION, and {named!r} isn't: {error}") from None
    if not callable(found):
        raise OptionError(f"--factory must name a function, not a {type(found).__name__}")
    return cast("Callable[[str], Any]", found)


def _text(
    network: DynamicNetwork, repaired: list[dict[str, str]], fallback: str, out: Path
) -> Iterator[str | RenderableType]:
    from rich.text import Text

    yield Text(str(network.organism))
    for each in repaired:
        yield Text(f"repaired: a {fallback} stands for {each['node']!r}: {each['reason']}")
    if any(name not in network.members for name in network.manager.registry):
        yield "dno averages over all paths through the network; here what a branch gives is added to its node"
    yield f"written to {out}"
    yield f"use it with: import bioconvert as bc; model = bc.load({json.dumps(str(out))})"
