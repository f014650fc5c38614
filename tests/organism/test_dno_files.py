"""Files of dno: those that it writes, ours, damaged and hostile ones."""

import io
import json
import logging
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
from networks import ROWS, diamond, linear, open_gates
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import (
    ArchitectureError,
    CheckpointError,
    ConversionError,
    CorruptFileError,
    OptionError,
    UnsafeFileError,
)
from bioconvert.graph.resizing import resize
from bioconvert.organism import (
    DnoConfig,
    DynamicNetwork,
    GPTModel,
    IdentityWrapper,
    SeedBlock,
    load_dno,
    save_dno,
)
from bioconvert.organism.dno_archive import read_archive, write_archive

NODE = {"creation_step": 3, "energy_score": 0.5, "activation_count": 7, "frozen": False, "tag": "general"}
CONFIG = {"training_phase": "adaptive", "d_model": 4, "n_heads": 2, "growth_alpha": 0.5, "monologue_depth": 5}


def held(module, prefix):
    """Give the tensors of what a node holds, by dno's names."""
    return {f"modules_dict.{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def written(path, nodes, edges, weights, history=(), config=CONFIG, extra=()):
    """Write a file as dno does."""
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    topology = {
        "nodes": nodes,
        "edges": edges,
        "inputs": [],
        "outputs": [],
        "step": 40,
        "history": list(history),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("topology.json", json.dumps(topology))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("weights.pt", buffer.getvalue())
        for name, data in extra:
            archive.writestr(name, data)
    return path


def theirs(path, **changes):
    """Write a chain of a Linear, a seed with a frozen part and a transformer block, the first one cloned."""
    a, clone, block = linear(), linear(), GPTModel(DnoConfig(d_model=4, n_heads=2), causal=False)
    seed = SeedBlock(input_dim=4, hidden_dim=3)
    nodes = [
        {**NODE, "uuid": "a", "type": "Linear", "frozen": True},
        {**NODE, "uuid": "s", "type": "Sequential", "mask_config": {"0": True}},
        {**NODE, "uuid": "g", "type": "GPTModel"},
        {**NODE, "uuid": "f4-15", "type": "BaseEvolvableModule", "tag": "expert_x", "gamma": 0.25},
    ]
    weights = (
        held(a, "a.child_module")
        | held(seed, "s")
        | held(block, "g.child_module")
        | held(clone, "f4-15.child_module.child_module")
        | {"modules_dict.f4-15.gamma": torch.tensor([0.25])}
    )
    history = [{"step": 0, "type": "MITOSIS", "details": "Cloned a -> f4-15 (expert_x)"}]
    given = {
        "nodes": nodes,
        "edges": {"a": ["s"], "s": ["g"], "g": [], "f4-15": ["s"]},
        "weights": weights,
        "history": history,
        **changes,
    }
    return written(path, **given), (a, clone, seed, block)


class TestFilesOfDno:
    def test_become_networks(self, tmp_path):
        """Values, edges, tags, frozen parts and gates; a clone is a branch of what it is a clone of."""
        path, (a, clone, seed, block) = theirs(tmp_path / "n.dno")
        network = load_dno(path).eval()
        h = a(ROWS) + 0.25 * clone(ROWS)
        assert torch.equal(network(ROWS), block.eval()(seed(h)))
        assert network.parents == {"a": (), "s": ("a",), "g": ("s",)}
        assert network.manager.get_module("expert_x").dynamic_id == "a+1"
        assert network.config.d_model == 4
        assert (network.record["step"], network.members["g"].node_record["born"]) == (40, 3)
        held = {
            name.removeprefix("modules_dict.")
            for name, p in network.named_parameters()
            if not p.requires_grad
        }
        assert held == {
            "a.child_module.weight",
            "a.child_module.bias",
            "s.child_module.0.weight",
            "s.child_module.0.bias",
        }

    def test_are_saved_as_folders(self, tmp_path):
        """What was read is a network like any other."""
        network = load_dno(theirs(tmp_path / "n.dno")[0]).eval()
        bc.save(network, tmp_path / "out")
        assert torch.equal(bc.load(tmp_path / "out")(ROWS), network(ROWS))

    def test_a_factory_makes_what_the_file_does_not_tell(self, tmp_path):
        """It is asked for every class, and may give nothing."""
        layers = nn.Sequential(linear(), nn.Tanh(), linear())
        nodes = [{**NODE, "uuid": "a", "type": "Sequential"}, {**NODE, "uuid": "b", "type": "Linear"}]
        weights = held(layers, "a.child_module") | held(linear(), "b.child_module")
        path = written(tmp_path / "n.dno", nodes, {"a": ["b"]}, weights)
        asked = []

        def factory(kind):
            asked.append(kind)
            return nn.Sequential(linear(), nn.Tanh(), linear()) if kind == "Sequential" else None

        assert torch.equal(load_dno(path, factory)(ROWS), linear()(layers(ROWS)))
        assert asked == ["Sequential", "Linear"]

    def unknown(self, path):
        """Write a file of which two nodes in three can't be made."""
        wide = nn.Sequential(linear(4, 8), nn.Tanh(), linear(8, 6))
        nodes = [
            {**NODE, "uuid": "a", "type": "Sequential"},
            {**NODE, "uuid": "b", "type": "Linear"},
            {**NODE, "uuid": "c", "type": "Odd"},
        ]
        weights = held(wide, "a.child_module") | held(linear(6, 2), "b.child_module")
        return written(path, nodes, {"a": ["b"], "b": ["c"]}, weights)

    def test_nodes_that_can_not_be_made_are_all_named(self, tmp_path):
        """With class and reason."""
        path = self.unknown(tmp_path / "n.dno")
        with pytest.raises(
            ArchitectureError, match=r"(?s)2 of 3 nodes can't be made:.*'a' \(Sequential\).*'c' \(Odd\)"
        ):
            load_dno(path)

    def test_repair_keeps_edges_and_widths_and_says_so(self, tmp_path, caplog):
        """A pass-through has the widths of the weights that are there."""
        path = self.unknown(tmp_path / "n.dno")
        with caplog.at_level(logging.WARNING, "bioconvert"):
            network = load_dno(path, repair=True)
        padded = torch.cat([ROWS, torch.zeros(3, 2)], dim=1)
        assert torch.equal(network(ROWS), linear(6, 2)(padded))
        assert network.parents == {"a": (), "b": ("a",), "c": ("b",)}
        assert [event["node"] for event in network.manager.history if event["event"] == "repair"] == [
            "a",
            "c",
        ]
        assert caplog.text.count("a pass_through stands for it") == 2

    def test_a_named_fallback_takes_its_place(self, tmp_path):
        """Where the width fits; otherwise that is an error."""
        nodes = [{**NODE, "uuid": "a", "type": "Odd"}]
        path = written(tmp_path / "n.dno", nodes, {}, held(linear(), "a.child_module"))
        network = load_dno(path, repair=True, fallback="GPTModel")
        assert isinstance(network.members["a"].child_module, GPTModel)
        with pytest.raises(ArchitectureError, match="a GPTModel of width 4 can't stand for 'a'"):
            load_dno(self.unknown(path), repair=True, fallback="GPTModel")
        with pytest.raises(OptionError, match="fallback must be one of pass_through, GPTModel, not 'Linear'"):
            load_dno(path, repair=True, fallback="Linear")

    @pytest.mark.parametrize(
        ("factory", "said"),
        [
            (lambda kind: 1 / 0, "module_factory failed: division by zero"),
            (lambda kind: 3, "must give a module or None, and gave a int"),
            (lambda kind: linear(4, 3), "its tensors don't fit a Linear: size mismatch"),
        ],
    )
    def test_a_factory_that_fails_is_a_reason(self, tmp_path, factory, said):
        """As any other."""
        path = written(
            tmp_path / "n.dno", [{**NODE, "uuid": "a", "type": "Odd"}], {}, held(linear(), "a.child_module")
        )
        with pytest.raises(ArchitectureError, match=said):
            load_dno(path, factory)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"edges": {"a": ["nobody"]}}, "'a' to 'nobody', which aren't both nodes"),
            ({"edges": {"a": ["s"], "s": ["g"], "g": ["s"], "f4-15": ["s"]}}, "a circle among 'g', 's'"),
            ({"nodes": [{"uuid": "a"}]}, "its topology can't be read"),
            ({"config": {"d_model": -3}}, "d_model must be a whole number"),
            ({"history": "x"}, "its topology can't be read"),
        ],
    )
    def test_a_topology_that_is_none_is_refused(self, tmp_path, changes, said):
        """The reason is told."""
        with pytest.raises(CorruptFileError, match=said):
            load_dno(theirs(tmp_path / "n.dno", **changes)[0])


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self):
        return print, ("run",)


class TestHostileFiles:
    def write(self, path, entries):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries:
                archive.writestr(name, data)
        return path

    def whole(self, **changed):
        buffer = io.BytesIO()
        torch.save({}, buffer)
        entries = {"topology.json": "{}", "config.json": "{}", "weights.pt": buffer.getvalue(), **changed}
        return list(entries.items())

    def test_code_in_the_weights_is_not_run(self, tmp_path, capsys):
        """The file is refused."""
        buffer = io.BytesIO()
        torch.save({"a": Evil()}, buffer)
        path = self.write(tmp_path / "n.dno", self.whole(**{"weights.pt": buffer.getvalue()}))
        with pytest.raises(UnsafeFileError, match="would run code when loaded; nothing was run"):
            load_dno(path)
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize(
        ("entries", "kind", "said"),
        [
            ({"../evil.py": "x"}, UnsafeFileError, r"but has '\.\./evil\.py'"),
            (
                {"topology.json": "0" * (72 << 20)},
                UnsafeFileError,
                "topology.json unpacks from .* to 75497472",
            ),
            ({"weights.pt": b"\0" * (80 << 20)}, UnsafeFileError, "weights.pt unpacks from"),
            ({"topology.json": "[1]"}, CorruptFileError, "topology.json must hold an object, not a list"),
            ({"config.json": "{"}, CorruptFileError, "config.json is no JSON"),
            ({"weights.pt": b"junk"}, CorruptFileError, "is damaged, or no zip file"),
            ({"weights.pt": pickle.dumps({})}, CorruptFileError, "is damaged, or no zip file"),
        ],
    )
    def test_what_is_no_such_file_is_refused(self, tmp_path, entries, kind, said):
        """Bombs, places outside, and what isn't what it should be."""
        with pytest.raises(kind, match=said):
            load_dno(self.write(tmp_path / "n.dno", self.whole(**entries)))

    def test_a_bomb_inside_the_weights_is_refused(self, tmp_path):
        """What torch writes is never packed."""
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("w/data.pkl", b"\0" * 100_000)
        path = self.write(tmp_path / "n.dno", self.whole(**{"weights.pt": inner.getvalue()}))
        with pytest.raises(UnsafeFileError, match="unpacks to more"):
            load_dno(path)

    def test_tensors_that_claim_more_than_there_is_are_refused(self, tmp_path):
        """An expanded tensor is small in the file."""
        buffer = io.BytesIO()
        torch.save({"a": torch.zeros(1).expand(1 << 28)}, buffer)
        path = self.write(tmp_path / "n.dno", self.whole(**{"weights.pt": buffer.getvalue()}))
        with pytest.raises(UnsafeFileError, match="but its tensors claim 1073741824"):
            load_dno(path)

    @pytest.mark.parametrize("values", [[1], {"a": 1}, {1: torch.ones(1)}])
    def test_what_is_no_state_is_refused(self, tmp_path, values):
        """Dense tensors by name and nothing else."""
        buffer = io.BytesIO()
        torch.save(values, buffer)
        path = self.write(tmp_path / "n.dno", self.whole(**{"weights.pt": buffer.getvalue()}))
        with pytest.raises(CorruptFileError, match="must hold dense tensors by name"):
            load_dno(path)

    def test_a_file_cut_short_anywhere_is_refused(self, tmp_path):
        """As is one that isn't there."""
        whole = theirs(tmp_path / "n.dno")[0].read_bytes()
        for size in range(0, len(whole) - 1, len(whole) // 23):
            (tmp_path / "cut.dno").write_bytes(whole[:size])
            with pytest.raises(CheckpointError):
                load_dno(tmp_path / "cut.dno")
        with pytest.raises(CheckpointError, match="must be a file"):
            load_dno(tmp_path / "none.dno")

    def test_a_changed_byte_is_noticed(self, tmp_path):
        """By the checksum of its entry, or by what the file holds."""
        whole = bytearray(theirs(tmp_path / "n.dno")[0].read_bytes())
        at = whole.find(b"weights.pt") + 200
        whole[at] ^= 0xFF
        (tmp_path / "n.dno").write_bytes(whole)
        with pytest.raises(CheckpointError):
            load_dno(tmp_path / "n.dno")


class TestOurFiles:
    def grown(self):
        network = diamond(training_phase="adaptive", d_model=8, n_heads=2)
        network.add_layer(IdentityWrapper(linear(2, 2)), ["head"], name="id")
        network.add_layer(SeedBlock(input_dim=2, hidden_dim=3), ["id"], name="seed")
        network.members["seed"].apply_mask({"2": True})
        network.organism.grow("left", tag="expert_l")
        network.organism.grow("seed", tag="expert_s")
        network.organism.prune(network.organism.grow("left"))
        network.organism.freeze_all_except("expert_l", "head")
        return open_gates(network)

    def test_come_back_exactly_without_a_factory(self, tmp_path):
        """Outputs, records, history, settings and what learns."""
        network = self.grown()
        save_dno(network, tmp_path / "n.dno")
        twin = load_dno(tmp_path / "n.dno")
        assert torch.equal(twin(ROWS), network(ROWS))
        assert twin.record == network.record
        assert twin.config == network.config
        assert twin.parents == network.parents
        assert {n: p.requires_grad for n, p in twin.named_parameters()} == {
            n: p.requires_grad for n, p in network.named_parameters()
        }
        records = {name: node.node_record for name, node in network.manager.registry.items()}
        assert {name: node.node_record for name, node in twin.manager.registry.items()} == records
        assert [name for name, _ in twin.named_parameters()] == [
            name for name, _ in network.named_parameters()
        ]

    def test_tell_what_dno_reads(self, tmp_path):
        """Nodes, edges and tensors have its names; a branch is a node with a gate."""
        self.grown().save_dno(tmp_path / "n.dno")
        with zipfile.ZipFile(tmp_path / "n.dno") as archive:
            topology = json.loads(archive.read("topology.json"))
            names = set(torch.load(io.BytesIO(archive.read("weights.pt")), weights_only=True))
        nodes = {node["uuid"]: node for node in topology["nodes"]}
        assert nodes["left+1"]["gamma"] == 0.5
        assert nodes["seed"]["mask_config"] == {"2": True}
        assert topology["edges"]["left+1"] == ["head"]
        assert {"type": "MITOSIS", "step": 0, "details": "Cloned left -> left+1 (expert_l)"} in topology[
            "history"
        ]
        assert "modules_dict.left+1.child_module.child_module.1.weight" in names
        assert "modules_dict.left+1.gamma" in names

    @pytest.mark.parametrize("told", [[], {"blueprint": []}, {"blueprint": {"members": 3}}], ids=str)
    def test_what_they_tell_beyond_dno_is_not_believed(self, tmp_path, told):
        """Where that part is damaged, the file is refused."""
        path = save_dno(diamond(), tmp_path / "n.dno")
        file = read_archive(path)
        write_archive(path, replace(file, topology={**file.topology, "bioconvert": told}))
        with pytest.raises(CorruptFileError, match="it can't be put together"):
            load_dno(path)

    def test_layers_with_new_widths_come_back(self, tmp_path):
        """As they are now."""
        network = diamond()
        resize(
            network.members["head"].child_module,
            {"weight": torch.ones(3, 4), "bias": torch.ones(3)},
            {"out_features": 3},
        )
        save_dno(network, tmp_path / "n.dno")
        assert torch.equal(load_dno(tmp_path / "n.dno")(ROWS), network(ROWS))

    @pytest.mark.parametrize("kind", ["converted", "nested", "empty"])
    def test_what_a_file_can_not_tell_is_refused(self, tmp_path, kind):
        """Nothing is written."""
        network = diamond()
        if kind == "converted":
            bc.convert(
                network,
                {"version": 1, "rules": [{"match": {"type": "linear"}, "replace": {"with": "YatLinear"}}]},
            )
        elif kind == "nested":
            network.add_layer(diamond(), ["stem"])
        else:
            network = DynamicNetwork()
        with pytest.raises(OptionError, match=r"can't tell of a? ?(YatLinear|DynamicNetwork)|has no nodes"):
            save_dno(network, tmp_path / "n.dno")
        assert list(tmp_path.iterdir()) == []

    def test_a_class_that_is_gone_is_named(self, tmp_path):
        """As any node that can't be made again."""
        save_dno(diamond(), tmp_path / "n.dno")
        self.change(
            tmp_path / "n.dno", "torch.nn.modules.activation.Tanh", "torch.nn.modules.activation.Gone"
        )
        with pytest.raises(
            ConversionError, match=r"there is no class 'torch\.nn\.modules\.activation\.Gone'"
        ):
            load_dno(tmp_path / "n.dno")

    def test_a_class_that_is_no_module_is_not_made(self, tmp_path):
        """A file can't have anything else made."""
        save_dno(diamond(), tmp_path / "n.dno")
        self.change(tmp_path / "n.dno", "torch.nn.modules.activation.Tanh", "subprocess.Popen")
        with pytest.raises(ConversionError, match=r"subprocess\.Popen is no module class"):
            load_dno(tmp_path / "n.dno")

    def change(self, path, old, new):
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        entries["topology.json"] = entries["topology.json"].replace(old.encode(), new.encode())
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
