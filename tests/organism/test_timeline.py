"""The picture and the tables that tell how a model grew."""

import json
from xml.etree import ElementTree

import pytest
import torch
from growing_models import Residual, growing, train, wrapping
from small_models import seeded

import bioconvert as bc
from bioconvert.organism.lives import lives

SVG = "{http://www.w3.org/2000/svg}"


def lived():
    """Give an organism with births, a death, and spans of freezing."""
    model = bc.convert(seeded(Residual), wrapping(["block", "stem"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    organism = bc.Organism(model).bind(optimizer)
    train(model, optimizer, 10)
    organism.grow("block", tag="expert_a")
    organism.grow("block", tag="<b> & co")
    train(model, optimizer, 10)
    organism.freeze_all_except("expert_a")
    train(model, optimizer, 5)
    organism.prune("block+2")
    organism.unfreeze()
    train(model, optimizer, 5)
    return organism


def drawn(organism, folder):
    """Draw and read the picture."""
    organism.timeline(folder / "timeline.svg")
    return ElementTree.parse(folder / "timeline.svg").getroot()


def texts(root):
    """Give what is written in the picture."""
    return [element.text for element in root.iter(f"{SVG}text")]


class TestThePicture:
    def test_tells_every_node(self, tmp_path):
        """Each node has its name and tag, branches behind their block, also those that died."""
        root = drawn(lived(), tmp_path)
        labels = [text for text in texts(root) if "(" in text]
        assert labels == [
            "stem (general)",
            "block (general)",
            "└ block+1 (expert_a)",
            "└ block+2 (<b> & co)",
        ]

    def test_says_what_happened_in_a_line(self, tmp_path):
        """Steps, births, deaths and parameters are in its title."""
        said = texts(drawn(lived(), tmp_path))
        assert "30 steps · 2 branches born, 1 pruned · 88 parameters at first, 147 now" in said
        assert "optimizer steps" in said

    def test_draws_the_loss_where_it_is_known(self, tmp_path):
        """Without a callback there is no curve of the loss, with one there is."""
        organism = lived()
        assert "loss" not in texts(drawn(organism, tmp_path))
        organism.record["control"]["growth"] = {"curve": [[4, 0.9, 0.5], [8, 0.2, None]]}
        assert {"loss", "0.9", "0.55", "0.2"} <= set(texts(drawn(organism, tmp_path)))

    @pytest.mark.parametrize("grows", [False, True])
    def test_is_drawn_of_an_organism_that_never_stepped(self, tmp_path, grows):
        """Before the first step the picture is whole."""
        organism = bc.Organism(growing())
        if grows:
            organism.grow("block")
        root = drawn(organism, tmp_path)
        assert root.tag == f"{SVG}svg"
        assert "block (general)" in texts(root)

    def test_everything_lies_inside(self, tmp_path):
        """No mark or bar lies outside the picture."""
        root = drawn(lived(), tmp_path)
        width, height = float(root.get("width")), float(root.get("height"))
        for bar in root.iter(f"{SVG}rect"):
            if bar.get("x") is not None:
                assert 0 <= float(bar.get("x")) <= float(bar.get("x")) + float(bar.get("width")) <= width
                assert 0 <= float(bar.get("y")) <= height - 18

    def test_is_the_same_after_loading(self, tmp_path):
        """A loaded model tells the same story."""
        organism = lived()
        organism.timeline(tmp_path / "before.svg")
        bc.save(organism.model, tmp_path / "saved")
        bc.Organism(bc.load(tmp_path / "saved")).timeline(tmp_path / "after.svg")
        assert (tmp_path / "after.svg").read_bytes() == (tmp_path / "before.svg").read_bytes()


class TestLives:
    def test_have_spans(self):
        """Births, deaths and spans of freezing come from the history."""
        organism = lived()
        found = {life.name: life for life in lives(organism.status(), organism.history, organism.step)}
        assert [(life.born, life.died) for life in found.values()] == [
            (0, None),
            (0, None),
            (10, None),
            (10, 25),
        ]
        assert found["stem"].frozen == [(20, 25)]
        assert found["block+1"].frozen == []

    def test_follow_novelty(self):
        """Novel data freeze the core, familiar ones the experts."""
        rows = [
            {"id": "a", "tag": "general", "age": 9, "of": None},
            {"id": "a+1", "tag": "expert_1", "age": 9, "of": "a"},
        ]
        history = [{"step": 3, "event": "novel"}, {"step": 5, "event": "familiar"}]
        history.append({"step": 6, "event": "widen", "node": "a"})
        core, expert = lives(rows, history, 9)
        assert (core.frozen, expert.frozen) == ([(3, 5)], [(5, None)])
        assert core.events == [(6, "widen")]


TABLE = """\
node       tag       age  parameters    gate  state
stem       general    30          20          learns
block      general    30          58          learns
└ block+1  expert_a   20          58  {gate}  learns
step 30: 3 nodes, of which branches: 1; parameters in nodes: 136"""


class TestTables:
    def test_print_shows_a_table(self):
        """Printing an organism tells of every node; its short form counts them."""
        organism = lived()
        gate = organism.get("expert_a").node_record["id"]
        size = organism.model.block.grown["1"].gate.item()
        assert gate == "block+1"
        assert str(organism) == TABLE.format(gate=f"{size:+.3f}")
        assert repr(organism) == "<Organism: 3 nodes, 1 of them branches, step 30>"

    def test_lines_fit_a_terminal(self):
        """Long names and tags are cut from the left, so that no line is longer than 80."""
        organism = lived()
        node = organism.get("expert_a")
        node.set_specialty("expert_of_rather_many_things")
        node.node_record["id"] = "model.encoder.layers.11.attention.output.dense.LayerNorm+1"
        node.node_record["immortal"] = True
        lines = str(organism).splitlines()
        assert max(map(len, lines)) <= 80
        assert any("LayerNorm+1  …r_many_things" in line for line in lines)

    def test_status_rows_are_plain(self):
        """What the tables show is plain values."""
        rows = lived().status()
        assert json.loads(json.dumps(rows)) == rows
