"""The names that users of dno know: its quickstart, its lifecycle, and each name by itself."""

import math

import pytest
import torch
from networks import ROWS, diamond, linear, open_gates, train
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.organism import (
    BaseEvolvableModule,
    DnoConfig,
    DynamicNetwork,
    GPTModel,
    GrowthEngine,
    IdentityWrapper,
    OrganismManager,
    SeedBlock,
    SurvivalEngine,
    load_dno,
    print_organism_status,
)


def engine(**config):
    """Give a network that may grow, and its engine."""
    network = diamond(training_phase="adaptive", **config)
    return network, GrowthEngine(network, network.config)


def test_quickstart_runs_with_the_import_changed():
    """A seed is planted, an expert injected, all else frozen."""
    config = DnoConfig(training_phase="adaptive", d_model=64, entropy_threshold=0.5)
    manager = OrganismManager()
    network = DynamicNetwork(manager, config)
    seed = BaseEvolvableModule(nn.Linear(64, 64))
    seed.dynamic_id = "seed_cortex"
    seed.set_specialty("general")
    network.add_layer(seed)
    growth = GrowthEngine(network, config)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    growth.inject_layer("seed_cortex", "expert_math", optimizer=optimizer)
    growth.freeze_all_except("expert_math")
    assert len(manager.registry) == 2
    expert = manager.get_module("expert_math")
    assert {id(p) for p in network.parameters() if p.requires_grad} == {
        id(p) for p in (*expert.parameters(), network.organism.seats[expert.dynamic_id].branch.gate)
    }


def test_lifecycle_runs_with_the_import_changed(tmp_path, capsys):
    """Infancy, adulthood with one birth, survival, affinity and a file, in the order that dno tells."""
    torch.manual_seed(0)
    config = DnoConfig(
        training_phase="scratch",
        entropy_threshold=0.6,
        evolution_cooldown_steps=5,
        entropy_baseline_window=5,
        max_param_count=100_000_000,
        d_model=16,
        n_heads=4,
        grace_period=100,
    )
    manager = OrganismManager()
    network = DynamicNetwork(manager, config)
    seed = BaseEvolvableModule(nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10)))
    seed.dynamic_id = "seed_cortex"
    seed.set_specialty("general")
    network.add_layer(seed)
    optimizer, criterion = torch.optim.Adam(network.parameters(), lr=1e-3), nn.CrossEntropyLoss()
    inputs, targets = torch.randn(8, 16), torch.arange(8)

    def step():
        optimizer.zero_grad()
        output = network(inputs)
        loss = criterion(output, targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(3):
        step()
    config.training_phase = "adaptive"
    growth, history, births = GrowthEngine(network, config), [], []
    for number in range(20):
        loss = step()
        history.append(0.9 if number >= 10 else 0.3)
        triggered, reason = growth.check_growth_trigger(
            entropy_history=history[-10:], current_step=number, current_loss=loss
        )
        if triggered:
            births.append((number, reason))
            growth.mitosis(parent_uuid="seed_cortex", optimizer=optimizer, specialty_tag="expert_coding_v1")
        growth.stabilize_optimizer(optimizer)
    assert births == [(10, "entropy rose above 1.3 times its baseline")]
    growth.inject_layer("seed_cortex", "expert_math_v1", optimizer=optimizer, base_lr=0.001)
    growth.freeze_all_except("expert_math_v1")
    step()
    survival = SurvivalEngine(manager, config)
    for module in manager.registry.values():
        survival.calculate_information_gain(module, inputs, network(inputs))
    survival.apply_selective_decay(optimizer)
    assert survival.garbage_collect(network) == 0
    best, results = growth.probe_expert_affinity([inputs])
    assert set(results) == {"general", "expert_coding_v1", "expert_math_v1"}
    assert best is None or results[best] == min(results.values())
    network.save_dno(tmp_path / "organism.dno")
    network.save_standard(tmp_path / "checkpoint.pt")
    twin = DynamicNetwork.load_dno(tmp_path / "organism.dno", module_factory=lambda _: None)
    assert torch.equal(twin(inputs), network(inputs))
    assert torch.equal(load_dno(tmp_path / "organism.dno")(inputs), network(inputs))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True).keys() == network.state_dict().keys()
    print_organism_status(manager)
    shown = capsys.readouterr().out
    assert "expert_math_v1" in shown
    assert "1 input, 1 output" in shown
    assert "born by growth: 2" in manager.summarize_evolution()


class TestConfig:
    def test_defaults_are_those_of_the_page(self):
        """Growth is off, and each threshold is where users expect it."""
        config = DnoConfig()
        assert (config.training_phase, config.entropy_threshold, config.entropy_spike_factor) == (
            "scratch",
            0.6,
            1.3,
        )
        assert (config.max_param_count, config.vram_limit_gb, config.grace_period) == (1e9, 12, 100)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({}, (512, 8, 5e-4)),
            ({"d_model": 64}, (64, 4, 5e-4)),
            ({"d_model": 1024}, (1024, 16, 1e-4)),
            ({"initial_params_estimate": 1_000_000}, (256, 4, 5e-4)),
            ({"manual_mode": True}, (None, None, None)),
        ],
    )
    def test_sizes_follow_the_expected_number_of_parameters(self, given, expected):
        """Unless everything is set by hand."""
        config = DnoConfig(**given)
        assert (config.d_model, config.n_heads, config.learning_rate) == expected

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"training_phase": "adult"}, "training_phase must be one of"),
            ({"entropy_spike_factor": 0}, "entropy_spike_factor must be above 0"),
            ({"grace_period": -1}, "grace_period must be a whole number from 0"),
            ({"grace_period": 1.5}, "grace_period must be a whole number"),
            ({"d_model": 0}, "d_model must be a whole number from 1"),
            ({"dropout_rate": 1.0}, "dropout_rate must be from 0 to below 1"),
            ({"utility_threshold": math.nan}, "utility_threshold must be a number"),
            ({"manual_mode": 1}, "manual_mode must be True or False"),
            ({"grace_period": -1, "d_model": 0}, "grace_period .*; d_model"),
        ],
    )
    def test_values_that_can_not_be_are_all_named(self, given, said):
        """Each with what must hold."""
        with pytest.raises(OptionError, match=said):
            DnoConfig(**given)

    def test_an_unknown_setting_is_named(self):
        """With what may have been meant."""
        with pytest.raises(OptionError, match=r"no setting 'grace_time'\. Did you mean 'grace_period'"):
            DnoConfig.from_dict({"grace_time": 3})


class TestGrowthTrigger:
    @pytest.mark.parametrize(
        ("config", "entropies", "said"),
        [
            ({"training_phase": "scratch"}, [9.0] * 99, "phase 'scratch' locks growth"),
            ({"max_param_count": 10}, [9.0] * 99, "parameters would be more than 10"),
            ({}, [0.5, 0.5], "2 of 3 readings"),
            ({}, [0.5] * 30, "baseline: 27 of 50 readings"),
            ({}, [0.5] * 60, "entropy is near its baseline"),
        ],
    )
    def test_says_what_speaks_against_growth(self, config, entropies, said):
        """The first reason, in order."""
        network = diamond(**{"training_phase": "adaptive", **config})
        grows, reason = GrowthEngine(network, network.config).check_growth_trigger(entropies, 100, 1.0)
        assert not grows
        assert said in reason

    def test_windows_that_overlap_count_each_reading_once(self):
        """The last ten of a history, step by step, make up a baseline longer than that."""
        _, growth = engine(entropy_baseline_window=20)
        history, found = [], []
        for step in range(40):
            history.append(1.5 if step >= 30 else 1.0 + step % 2 / 50)
            found.append(growth.check_growth_trigger(history[-10:], step))
        assert [step for step, (grows, _) in enumerate(found) if grows] == [31]

    def test_a_birth_needs_time_and_a_better_loss(self):
        """After one, neither its cooldown nor a loss that stays lets another happen."""
        _, growth = engine(entropy_baseline_window=2, evolution_cooldown_steps=10)
        spiked = [1.0, 1.0, 9.0, 9.0, 9.0]
        assert growth.check_growth_trigger(spiked, 0, 1.0)[0]
        growth.mitosis("stem")
        assert growth.check_growth_trigger(spiked, 5, 1.0) == (False, "5 of 10 steps since the last birth")
        assert growth.check_growth_trigger(spiked, 20, 1.0)[1].startswith("the loss has not come down")
        assert growth.check_growth_trigger(spiked, 21, 0.5)[0]

    def test_readings_are_saved(self, tmp_path):
        """An engine of a loaded network goes on from the baseline of the one before."""
        network, growth = engine(entropy_baseline_window=5)
        growth.check_growth_trigger([1.0] * 8, 0)
        network.save_dno(tmp_path / "n.dno")
        twin = load_dno(tmp_path / "n.dno")
        again = GrowthEngine(twin, twin.config)
        assert [again.check_growth_trigger([9.0], step)[0] for step in (1, 2)] == [True, False]


class TestRates:
    def test_new_parameters_start_at_ten_times_the_base(self):
        """And come down to it over the steps of stabilisation, whatever the optimizer's own rate is."""
        network, growth = engine(stabilization_steps=4)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.5)
        born = growth.inject_layer("stem", "expert_a", optimizer=optimizer, base_lr=0.01)
        (group,) = [g for g in optimizer.param_groups if g.get("name") == born.dynamic_id]
        rates = [group["lr"]]
        for _ in range(6):
            train(network, optimizer, 1)
            growth.stabilize_optimizer(optimizer)
            rates.append(group["lr"])
        assert rates == pytest.approx([0.1, 0.0775, 0.055, 0.0325, 0.01, 0.01, 0.01])

    def test_a_base_that_is_no_rate_is_refused(self):
        """Nothing grows."""
        network, growth = engine()
        with pytest.raises(OptionError, match="base_lr must be above 0, not 0"):
            growth.mitosis("stem", base_lr=0)
        assert len(network.manager.registry) == 4


class TestAffinity:
    def test_the_surest_expert_claims_the_data(self):
        """And takes part alone; nothing claims what all are unsure of."""
        network, growth = engine(entropy_threshold=0.5)
        for tag, gate in (("expert_a", 0.0), ("expert_b", 90.0)):
            born = growth.inject_layer("head", tag)
            with torch.no_grad():
                network.organism.seats[born.dynamic_id].branch.gate.fill_(gate)
        best, entropies = growth.probe_expert_affinity([ROWS], include_core=False)
        assert best == "expert_b" == min(entropies, key=entropies.get)
        active = {node.tag for node in network.organism.nodes() if node.node_record["active"]}
        assert active == {"general", "expert_b"}
        open_gates(network, 0.0)
        network.config.entropy_threshold = 0.01
        assert growth.probe_expert_affinity([ROWS])[0] is None

    def test_without_experts_only_the_core_may_claim(self):
        """Where that isn't asked, there is nobody."""
        _, growth = engine()
        assert growth.probe_expert_affinity([ROWS], include_core=False) == (None, {})


class TestSurvival:
    def chain(self):
        """Give a chain of three whose middle does nothing, and the engine."""
        network = DynamicNetwork(config=DnoConfig(grace_period=0, pruning_decay_constant=0.5))
        network.add_layer(linear(), name="a")
        network.add_layer(IdentityWrapper(linear()), ["a"], name="b")
        network.add_layer(linear(), ["b"], name="c")
        return network, SurvivalEngine(network.manager, network.config)

    def measure(self, network, survival):
        for member in network.members.values():
            survival.calculate_information_gain(member, ROWS, member(ROWS))

    def test_an_idle_node_goes_and_its_child_is_rewired(self):
        """The others stay, and compute what they did."""
        network, survival = self.chain()
        expected = network(ROWS)
        self.measure(network, survival)
        assert survival.garbage_collect(network) == 1
        assert network.parents == {"a": (), "c": ("a",)}
        assert torch.equal(network(ROWS), expected)

    def test_a_dying_node_fades(self):
        """Its weights shrink by the decay; those of the others stay."""
        network, survival = self.chain()
        self.measure(network, survival)
        before = {name: p.clone() for name, p in network.named_parameters()}
        survival.apply_selective_decay(torch.optim.Adam(network.parameters()))
        for name, parameter in network.named_parameters():
            factor = 0.5 if ".b." in name else 1.0
            assert torch.equal(parameter, factor * before[name])

    def test_another_network_is_refused(self):
        """The manager serves its own."""
        _, survival = self.chain()
        with pytest.raises(OptionError, match="the one that the manager serves"):
            survival.garbage_collect(diamond())

    def test_shapes_that_differ_have_no_gain(self):
        """Nothing is noted."""
        network, survival = self.chain()
        assert survival.calculate_information_gain(network.members["a"], ROWS, ROWS[:, :2]) is None


class TestManager:
    def test_tells_how_nodes_are_wired(self):
        """A branch feeds what its host does."""
        network = diamond()
        network.organism.grow("left", tag="expert_l")
        manager = network.manager
        assert manager.edges == {
            "stem": ("left", "right"),
            "left": ("head",),
            "left+1": ("head",),
            "right": ("head",),
            "head": (),
        }
        assert (manager.inputs, manager.outputs) == (("stem",), ("head",))
        assert manager.get_module("expert_l").dynamic_id == "left+1"
        assert manager.get_module("nobody") is None
        assert [organ["type"] for organ in manager.list_organs()] == [
            "Linear",
            "Sequential",
            "Sequential",
            "Sequential",
            "Linear",
        ]
        assert [event["event"] for event in manager.history] == ["birth"] * 5

    def test_registers(self):
        """As the network's own method does."""
        network = diamond()
        assert network.manager.register(linear(2, 2), ["head"]) == "linear1"


class TestBlueprints:
    def test_a_seed_block_hands_its_mask_on(self):
        """A clone has the same parts frozen, and they stay so when everything else is let go."""
        network = DynamicNetwork()
        block = SeedBlock(input_dim=4, hidden_dim=3)
        block.apply_mask({"layer_0": True})
        network.add_layer(block, name="a")
        clone = network.organism.grow("a")
        network.organism.freeze_all_except(clone.dynamic_id)
        network.organism.unfreeze()
        held = {name for name, p in clone.named_parameters() if not p.requires_grad}
        assert held == {"child_module.0.weight", "child_module.0.bias"}
        assert clone.mask_config == {"0": True}

    def test_an_unknown_part_is_named(self):
        """Nothing is frozen."""
        block = SeedBlock(input_dim=4, hidden_dim=3)
        with pytest.raises(OptionError, match="no part '1x'"):
            block.apply_mask({"0": True, "1x": True})
        assert all(p.requires_grad for p in block.parameters())

    def test_an_identity_wrapper_begins_as_its_input(self):
        """Bit for bit, also around what works in place; the gradient reaches the gate."""
        wrapper = IdentityWrapper(nn.Sequential(nn.ReLU(inplace=True), linear()))
        assert torch.equal(wrapper(ROWS), ROWS)
        wrapper(ROWS).sum().backward()
        assert wrapper.gamma.grad.abs().sum() > 0

    def test_an_identity_wrapper_needs_one_shape(self):
        """What it holds must keep it."""
        with pytest.raises(OptionError, match=r"makes \(3, 2\) of \(3, 4\)"):
            IdentityWrapper(linear(4, 2))(ROWS)

    def test_a_gpt_block_looks_back_only(self):
        """Changing the last place changes no other; a row counts as a sequence of one."""
        block = GPTModel(DnoConfig(d_model=4, n_heads=2, dropout_rate=0.0))
        x = torch.randn(2, 5, 4)
        other = x.clone()
        other[:, -1] = torch.tensor([3.0, -1.0, 2.0, 0.5])
        assert torch.allclose(block(x)[:, :-1], block(other)[:, :-1], atol=1e-6)
        assert not torch.allclose(block(x)[:, -1], block(other)[:, -1])
        assert torch.allclose(block(ROWS), block(ROWS[:, None])[:, 0])

    def test_a_width_without_equal_heads_is_refused(self):
        """The width is a multiple of their number."""
        with pytest.raises(OptionError, match="d_model must be a multiple of n_heads, but is 6 with 4 heads"):
            GPTModel(DnoConfig(d_model=6))

    @pytest.mark.parametrize(
        "made", [lambda: SeedBlock(input_dim=4, hidden_dim=3), lambda: IdentityWrapper(linear())]
    )
    def test_they_grow_as_any_node(self, made):
        """Birth keeps every bit, and an open gate counts."""
        network = DynamicNetwork()
        network.add_layer(made(), name="a")
        expected = network(ROWS)
        network.organism.grow("a")
        assert torch.equal(network(ROWS), expected)
        assert not torch.equal(open_gates(network)(ROWS), expected)
