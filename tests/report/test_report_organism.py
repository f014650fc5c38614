"""An organism in a terminal."""

import io

import torch
from growing_models import growing, train
from rich.console import Console

import bioconvert as bc
from bioconvert.report.organism import organism_tables, print_organism


def organism():
    """Give one with three branches, of which one learns and one takes no part."""
    model = growing()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    found = bc.Organism(model).bind(optimizer)
    for name in ("expert_a", "expert_b", "[red]c"):
        found.grow("block", tag=name)
    train(model, optimizer, 1)
    found.prune("expert_b")
    found.freeze_all_except("expert_a")
    found.route("general", "expert_a")
    return found


SHOWN = """\
step 1: 3 nodes, of which branches: 2; parameters in nodes: 174
node       tag       age  parameters    gate  state
block      general     1          58          frozen
└ block+1  expert_a    1          58  +0.000  learns
└ block+3  [red]c      1          58  +0.000  frozen, idle

what happened
0  birth block+1, expert_a, 147 parameters now
0  birth block+2, expert_b, 206 parameters now
0  birth block+3, [red]c, 265 parameters now
1  death block+2, expert_b, 206 parameters now
1  only expert_a learns on
"""


def test_nodes_and_events_fit_in_80_columns(rendered):
    """Each node has a row, and what happened last stands below."""
    found = organism()
    assert rendered(*organism_tables(found.status(), found.step, found.history)) == SHOWN


def test_long_histories_and_many_nodes_end_early(rendered):
    """Thirty nodes and five events are shown, all of them on request."""
    found = organism()
    rows, events = found.status() * 20, found.history * 20
    text = rendered(*organism_tables(rows, 1, events))
    assert "… and 30 more nodes" in text
    assert "what happened last" in text
    assert len(text.splitlines()) == 1 + 1 + 30 + 1 + 1 + 1 + 5
    assert len(rendered(*organism_tables(rows, 1, events, every=True)).splitlines()) > 160


def test_the_status_is_printed():
    """One call prints the tables of a manager."""
    console = Console(file=io.StringIO(), width=80, highlight=False)
    print_organism(organism(), console=console)
    printed = "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())
    assert printed == SHOWN
