"""What nodes are worth, and which of them die of it."""

import copy
import json
import math
import pickle

import pytest
import torch
from growing_models import ROWS, Residual, growing, train, wrapping
from small_models import seeded
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.organism.survival import Survival
from bioconvert.organism.utilities import RATE, Utility, information_gain, taylor, utility_in


def grown(gates=(0.5,), **options):
    """Give an organism whose block has branches, and its model."""
    model = growing(**options)
    organism = bc.Organism(model)
    for number, gate in enumerate(gates, 1):
        organism.grow("block", tag=f"expert_{number}")
        with torch.no_grad():
            model.block.grown[str(number)].gate.fill_(gate)
    return organism, model


def measured(organism, model, steps=1, **options):
    """Measure a model while it does some passes."""
    survival = Survival(organism, **options)
    with survival:
        for _ in range(steps):
            model(ROWS).square().mean().backward()
    return survival


class NoSync(TorchDispatchMode):
    """Fails where a number is fetched from its device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Look at every operation."""
        assert func is not torch.ops.aten._local_scalar_dense.default
        assert func not in (torch.ops.aten.is_nonzero.default, torch.ops.aten.equal.default)
        return func(*args, **(kwargs or {}))


class TestMeasures:
    def test_information_is_a_divergence(self):
        """It is what torch computes of softmaxed features, averaged over all rows."""
        x, y = torch.randn(5, 7, 4).double(), torch.randn(5, 7, 4).double()
        expected = F.kl_div(y.log_softmax(-1), x.softmax(-1), reduction="sum") / 35
        assert information_gain(x, y).item() == pytest.approx(expected.item(), rel=1e-5)

    def test_features_of_pictures_lie_in_the_second_dimension(self):
        """For four dimensions, channels are what is compared."""
        x, y = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
        rows = [each.movedim(1, -1).reshape(-1, 3) for each in (x, y)]
        assert torch.allclose(information_gain(x, y), information_gain(*rows))

    def test_taylor_is_exact_for_linear_losses(self):
        """Each sample's loss without the activation differs by just as much."""
        a, g = torch.tensor([[1.0, -2.0], [3.0, 0.5]]), torch.tensor([[0.5, 1.0], [2.0, 2.0]])
        assert taylor(a, g).item() == pytest.approx(1.5 + 7.0)

    def test_means_follow_at_a_tenth(self):
        """A new value counts a tenth; what isn't finite doesn't count."""
        utility = Utility()
        for value in (2.0, 4.0, math.nan, math.inf, 4.0):
            utility.add("taylor", torch.tensor(value))
        first = 2 + RATE * 2
        assert utility.values() == {"taylor": [pytest.approx(first + RATE * (4 - first)), 5]}


class TestWatching:
    def test_tells_what_each_node_gives(self):
        """Activations are those of the block by itself, and of branches behind their gates."""
        organism, model = grown((0.5, 0.0))
        found = measured(organism, model).utilities()
        plain = seeded(Residual)
        x = plain.stem(ROWS)
        own = plain.block(x.clone())
        added = model.block.grown["1"](x)
        assert found["block"]["activation"] == pytest.approx(own.abs().mean().item(), rel=1e-4)
        assert found["block+1"]["activation"] == pytest.approx(added.abs().mean().item(), rel=1e-4)
        assert found["block"]["information"] == pytest.approx(information_gain(x, own).item(), rel=1e-4)
        expected = information_gain(own, own + added).item()
        assert found["block+1"]["information"] == pytest.approx(expected, rel=1e-2)
        assert found["block+2"] == {"information": 0.0, "taylor": 0.0, "activation": 0.0}

    def test_taylor_is_the_gradient_of_a_gate(self):
        """Of one sample, a branch's score is its gate times the gate's gradient."""
        organism, model = grown()
        survival = Survival(organism)
        with survival:
            model(ROWS[:1]).square().sum().backward()
        gate = model.block.grown["1"].gate
        expected = (gate * gate.grad).abs().item()
        assert survival.utilities()["block+1"]["taylor"] == pytest.approx(expected, rel=1e-4)

    def test_changes_nothing_and_waits_for_nothing(self):
        """Outputs and gradients keep every bit, and no step fetches a number."""
        organism, model = grown()
        model(ROWS).square().sum().backward()
        y, expected = model(ROWS), [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        survival = Survival(organism).bind(optimizer)
        organism.get("block+1").node_record["dying"] = True
        survival.decay = 0.0
        with NoSync():
            z = model(ROWS)
            z.square().sum().backward()
            optimizer.step()
        assert torch.equal(y, z)
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), expected, strict=True))
        survival.unbind()
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    def test_without_gradients_there_is_no_taylor(self):
        """Evaluation is measured, too, but for what needs a backward pass."""
        organism, model = grown()
        with torch.no_grad(), Survival(organism) as survival:
            model(ROWS)
        assert survival.utilities()["block+1"]["taylor"] is None
        assert survival.utilities()["block+1"]["activation"] > 0

    def test_a_branch_born_meanwhile_is_measured(self):
        """Who is born between two steps is seen from the next one on."""
        organism, model = grown(())
        with Survival(organism) as survival:
            model(ROWS)
            organism.grow("block")
            model.block.grown["1"].gate.data.fill_(1.0)
            model(ROWS)
        assert survival.utilities()["block+1"]["activation"] > 0

    def test_a_branch_born_meanwhile_is_measured_once(self):
        """What watches the block isn't copied with it: a closed branch is worth nothing, and counted once."""
        organism, model = grown(())
        with Survival(organism):
            born = organism.grow("block")
            model(ROWS)
        assert utility_in(born.node_record).values() == {"activation": [0.0, 1], "information": [0.0, 1]}

    def test_branches_come_and_go_meanwhile(self):
        """A birth after a death is one like any other."""
        organism, model = grown()
        with Survival(organism):
            model(ROWS)
            organism.prune("block+1")
            born = organism.grow("block")
            model(ROWS)
        assert utility_in(born.node_record).values()["activation"] == [0.0, 1]

    def test_copies_of_a_watched_model_are_not_watched(self):
        """Neither a deep copy nor a pickle measures anything."""
        organism, model = grown()
        with Survival(organism):
            twins = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        for twin in twins:
            twin(ROWS)
            assert all("utility" not in node.node_record for node in bc.Organism(twin).nodes())

    def test_routed_branches_count_as_much_as_they_add(self):
        """What a router weighs down is worth that much less."""
        organism, model = grown((0.5, 0.5))
        plain = measured(organism, model).utilities()
        organism.route("general", top_k=2, load_balance=0.1)
        for node in organism.nodes():
            node.node_record.pop("utility")
        found = measured(organism, model).utilities()
        ratio = found["block+1"]["activation"] / plain["block+1"]["activation"]
        assert 0.3 < ratio < 0.37
        assert found["block"]["activation"] == pytest.approx(plain["block"]["activation"], rel=1e-4)

    def test_a_change_of_shape_has_no_information(self):
        """Where input and output can't be compared, activations still can."""
        model = bc.convert(nn.Sequential(nn.Linear(4, 6)), wrapping("0"))
        found = measured(bc.Organism(model), model).utilities()["0"]
        assert found["information"] is None
        assert found["activation"] > 0

    def test_what_is_compiled_is_not_measured(self):
        """A compiled model runs as ever, and tells nothing."""
        organism, model = grown()
        with Survival(organism) as survival:
            torch.compile(model, backend="eager", fullgraph=True)(ROWS)
        assert survival.utilities()["block"]["activation"] is None

    def test_samples_of_a_refit_do_not_count(self):
        """Measuring goes on undisturbed while something else is pruned."""
        organism, model = grown((0.5, 0.5))
        with Survival(organism) as survival:
            model(ROWS)
            before = survival.utilities()
            organism.prune("expert_2", refit=[ROWS * 100])
        assert survival.utilities()["block"] == before["block"]


class TestRecords:
    def test_hold_plain_numbers_wherever_they_go(self, tmp_path):
        """Copies, and what is loaded, go on with the same means as if nothing had been."""
        organism, model = grown()
        measured(organism, model, steps=3)
        bc.save(model, tmp_path / "saved")
        twins = [copy.deepcopy(model), bc.load(tmp_path / "saved", factory=Residual)]
        expected = measured(organism, model).utilities()
        for twin in twins:
            record = twin.block.node_record
            assert json.loads(json.dumps(record)) == record
            assert record["utility"]["activation"][1] == 3
            assert measured(bc.Organism(twin), twin).utilities() == expected

    def test_revert_leaves_nothing(self):
        """Hooks and means go with the node."""
        organism, model = grown()
        measured(organism, model)
        bc.revert(model)
        assert "node_record" not in vars(model.block)

    def test_clones_begin_anew(self):
        """A branch of what was measured wasn't."""
        organism, model = grown()
        measured(organism, model)
        assert "utility" not in organism.grow("expert_1").node_record


def give(organism, **values):
    """Say what nodes are worth."""
    for tag, value in values.items():
        record = organism.get(tag).node_record
        record.pop("utility", None)
        utility_in(record).add("information", torch.tensor(value))


class TestDying:
    def test_is_who_is_worth_too_little(self):
        """Below the threshold a branch is dying, above it recovers; the block is left out."""
        organism, _ = grown((0.5, 0.5), grace=0)
        survival = Survival(organism, threshold=0.01)
        give(organism, general=0.0, expert_1=0.001, expert_2=0.5)
        assert survival.mark() == ["block+1"]
        assert organism.status()[1]["dying"]
        give(organism, expert_1=0.2)
        assert survival.mark() == []

    def test_blocks_die_where_they_may(self):
        """With ``blocks``, those of the model itself are judged, too."""
        organism, _ = grown(grace=0)
        give(organism, general=0.0, expert_1=0.5)
        assert Survival(organism, blocks=True).mark() == ["block"]

    def test_immortal_young_and_unknown_nodes_live(self):
        """Within its grace, immortal or never measured, no node is marked."""
        organism, _ = grown((0.5, 0.5, 0.5), grace=5)
        organism.record["step"] = 5
        for tag, born in (("expert_1", 1), ("expert_2", 0), ("expert_3", 0)):
            organism.get(tag).node_record["born"] = born
        organism.get("expert_2").node_record["immortal"] = True
        give(organism, expert_1=0.0, expert_2=0.0)
        survival = Survival(organism)
        assert survival.mark() == []
        organism.record["step"] = 6
        assert survival.mark() == ["block+1"]

    def test_other_measures_are_relative(self):
        """By Taylor score or activation, what counts is the share of the mean over all nodes."""
        organism, model = grown((1.0, 1e-4), grace=0)
        survival = measured(organism, model, by="activation", threshold=0.01)
        assert survival.mark() == ["block+2"]

    def test_decay_shrinks_the_dying_only(self):
        """Weights and gate of a dying node shrink by the share; frozen ones and all others stay."""
        organism, model = grown((0.5, 0.5, 0.5))
        for tag in ("expert_1", "expert_3"):
            organism.get(tag).node_record["dying"] = True
        organism.freeze_all_except("general", "expert_1", "expert_2")
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        Survival(organism, decay=0.25).apply_selective_decay()
        for name, parameter in model.named_parameters():
            factor = 0.75 if "grown.1" in name else 1.0
            assert torch.equal(parameter, before[name] * factor), name

    def test_garbage_is_collected_past_its_grace(self):
        """Who is dying and old enough goes, from the optimizer, too; the rest stays."""
        organism, model = grown((0.5, 0.5, 0.5), grace=3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        organism.bind(optimizer)
        organism.record["step"] = 3
        organism.get("expert_2").node_record.update(dying=True, born=1)
        organism.get("expert_3").node_record.update(dying=True)
        gone = {id(p) for p in model.block.grown["3"].parameters()}
        survival = Survival(organism)
        assert survival.garbage_collect(refit=[ROWS]) == ["block+3"]
        assert [node.dynamic_id for node in organism.nodes()] == ["block", "block+1", "block+2"]
        assert not gone & {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert survival.dying() == ["block+2"]

    def test_blocks_that_nothing_can_stand_for_stay(self, caplog):
        """The log says why a dying block stays; one that keeps the shape goes, once."""
        model = bc.convert(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 6)), wrapping(["0", "1"], grace=0))
        organism = bc.Organism(model)
        for node in organism.nodes():
            node.node_record["dying"] = True
        survival = measured(organism, model, blocks=True)
        assert survival.garbage_collect() == ["0"]
        assert "1 is dying and stays" in caplog.text
        assert torch.equal(model(ROWS), model[1](ROWS))
        assert survival.garbage_collect() == []

    def test_a_node_inside_another_goes_with_it(self):
        """Where a branch and one inside of it are dying, both go."""
        model = bc.convert(seeded(Residual), wrapping(["block", "block.3"], grace=0))
        organism = bc.Organism(model)
        organism.grow("block.3")
        organism.grow("block")
        for name in ("block+1", "block+1.3+1"):
            organism.get(name).node_record["dying"] = True
        assert Survival(organism).garbage_collect()[0] == "block+1"
        assert [node.dynamic_id for node in organism.nodes()] == ["block", "block.3", "block.3+1"]

    def test_bound_to_an_optimizer_all_happens_by_itself(self):
        """Dying nodes are marked now and then and fade from then on, the same after a pause."""

        def run(organism, model, steps):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
            organism.bind(optimizer)
            survival = Survival(organism, decay=0.5).bind(optimizer, every=2)
            train(model, optimizer, steps)
            organism.unbind()
            survival.unbind()
            return model.block.grown["1"].gate.item()

        assert run(*grown((1e-3,), grace=0), 2) == pytest.approx(1e-3)
        assert run(*grown((1e-3,), grace=0), 4) == pytest.approx(0.25e-3)
        organism, model = grown((1e-3,), grace=0)
        run(organism, model, 3)
        twin = copy.deepcopy(model)
        assert run(bc.Organism(twin), twin, 1) == pytest.approx(0.25e-3)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"by": "taste"}, "must be one of information"),
            ({"threshold": -1}, "threshold must be at least 0"),
            ({"decay": 1}, r"decay in \[0, 1\)"),
        ],
    )
    def test_wrong_options_are_told(self, options, said):
        """Errors say what must hold."""
        with pytest.raises(OptionError, match=said):
            Survival(grown()[0], **options)
