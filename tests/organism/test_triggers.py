"""When a model grows: each condition in its order, each signal, each reading that isn't there."""

import itertools

import pytest
import torch
from growing_models import ROWS, growing
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.organism.candidates import Watch, candidate_norm
from bioconvert.organism.control import Readings, absorb, fresh_state, settle
from bioconvert.organism.entropy import output_entropy
from bioconvert.organism.triggers import GrowthConfig, Situation, growth_decision, is_spike

NOW = Situation(step=500, parameters=1000, added=100)
WINDOW = 4
CALM = [0.2] * WINDOW
RISEN = [*CALM, 0.4, 0.4, 0.4]


def config(**options):
    """Give settings with short windows."""
    return GrowthConfig(**{"entropy_baseline_window": WINDOW, "plateau_window": 2, **options})


def state(signals=RISEN, losses=(), **kept):
    """Give what is kept after some readings."""
    settings, found = config(), fresh_state()
    absorb(found, settings, [[1.0, signal] for signal in signals], 1)
    return {**found, "losses": list(losses), **kept}


BORN = {"step": 450, "loss": 1.0}
OLD = {"step": 100, "loss": 1.0}
DECISIONS = [
    pytest.param(config(), state(), NOW, True, "entropy rose above 1.3 times", id="a jump"),
    pytest.param(config(training_phase="scratch"), state(birth=BORN), NOW, False, "'scratch'", id="phase"),
    pytest.param(
        config(training_phase="scratch"), state(request="block"), NOW, False, "'scratch'", id="phase, asked"
    ),
    pytest.param(config(), state(birth=BORN, best=0.9), NOW, False, "50 of 100 steps", id="cooldown"),
    pytest.param(
        config(evolution_cooldown_steps=50), state(birth=BORN, best=0.9), NOW, True, "rose", id="cooled down"
    ),
    pytest.param(
        config(max_param_count=10), state(birth=OLD, best=1.0), NOW, False, "not come down", id="no better"
    ),
    pytest.param(config(), state(birth=OLD, best=None), NOW, False, "not come down", id="nothing since"),
    pytest.param(config(), state(birth=OLD, best=0.9), NOW, True, "rose", id="better"),
    pytest.param(
        config(min_loss_improvement=0.2), state(birth=OLD, best=0.9), NOW, False, "by 0.2", id="a bit better"
    ),
    pytest.param(config(max_param_count=1099), state([]), NOW, False, "1,100 parameters", id="parameters"),
    pytest.param(config(max_param_count=1100), state(), NOW, True, "rose", id="just enough parameters"),
    pytest.param(
        config(vram_limit_gb=1),
        state([]),
        Situation(500, 1000, 100, memory=2**30, added_memory=1),
        False,
        "more than 1 GiB",
        id="memory",
    ),
    pytest.param(config(), state([0.2, 0.9]), NOW, False, "2 of 3 readings", id="too few"),
    pytest.param(config(), state([0.2] * 5), NOW, False, "baseline: 2 of 4", id="no baseline"),
    pytest.param(config(), state([*CALM, 0.2, 0.25, 0.3]), NOW, False, "near its baseline", id="no jump"),
    pytest.param(config(), state([*RISEN, 0.2, 0.2]), NOW, True, "rose", id="a jump since the last decision"),
    pytest.param(
        config(trigger="plateau"), state(losses=[1, 1, 1]), NOW, False, "3 of 4 readings", id="short losses"
    ),
    pytest.param(
        config(trigger="plateau"), state(losses=[3, 3, 2, 2]), NOW, False, "comes down", id="falling losses"
    ),
    pytest.param(
        config(trigger="plateau"), state(losses=[2, 2, 1.99, 2]), NOW, True, "has stayed", id="a plateau"
    ),
    pytest.param(config(trigger="manual"), state(), NOW, False, "nothing was requested", id="not asked"),
    pytest.param(
        config(trigger="manual"), state([], request="block", birth=BORN), NOW, True, "by hand", id="asked"
    ),
    pytest.param(
        config(max_param_count=10), state(request="block"), NOW, False, "parameters", id="asked for too much"
    ),
]


@pytest.mark.parametrize(("settings", "kept", "now", "grows", "reason"), DECISIONS)
def test_the_first_thing_against_growth_is_the_reason(settings, kept, now, grows, reason):
    """Phase, cooldown, loss, caps, three readings, baseline, jump: in this order, each alone."""
    decision = growth_decision(settings, kept, now)
    assert decision.grows is grows
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trigger": "entropie"}, "Did you mean 'entropy'"),
        ({"training_phase": "adaptiv"}, "Did you mean 'adaptive'"),
        ({"kind": "with"}, "Did you mean 'width'"),
        ({"kind": "width", "by": "gradmax"}, "by can't be 'gradmax'"),
        ({"check_every": 0}, "check_every must be at least 1, not 0"),
        ({"max_param_count": 0}, "max_param_count must be positive, not 0"),
        ({"entropy_threshold": 2.3}, "between 0 and 1, not 2.3"),
    ],
)
def test_settings_are_checked(options, said):
    """A setting that can't be used is an error that names it."""
    with pytest.raises(OptionError, match=said):
        GrowthConfig(**options)


class TestReadings:
    def test_a_birth_resets_the_baseline(self):
        """After a birth three readings and a window are needed again."""
        kept = state()
        settle(kept, 500, 0.7)
        assert kept["birth"] == {"step": 500, "loss": 0.7}
        assert (kept["signals"], kept["losses"], kept["best"], kept["request"]) == ([], [], None, None)

    def test_the_baseline_moves_with_the_window(self):
        """A slow rise is no jump, one as large at once is."""
        slow = [0.2 * 1.02**i for i in range(100)]
        assert not any(is_spike(slow[:i], WINDOW, 1.3) for i in range(100))
        assert is_spike([*slow, *[slow[-1] * 1.5] * 3], WINDOW, 1.3)

    def test_numbers_that_are_not_finite_are_left_out(self):
        """One bad batch is in no mean."""
        kept = fresh_state()
        rows = Readings([torch.tensor([1.0, 0.5]), torch.tensor([torch.nan, torch.inf])]).values()
        assert rows == [[1.0, 0.5], [None, None]]
        absorb(kept, config(), rows, 1)
        assert (kept["losses"], kept["signals"], kept["best"]) == ([1.0], [0.5], 1.0)

    def test_the_curve_stays_short(self):
        """However long training is, the curve has some hundreds of points, evenly spread."""
        kept, settings = fresh_state(), config()
        for step in range(3000):
            absorb(kept, settings, [[1.0, 0.2]], step)
        steps = [point[0] for point in kept["curve"]]
        assert 256 <= len(steps) <= 512
        assert len({b - a for a, b in itertools.pairwise(steps)}) == 1
        assert steps[-1] > 2980


class TestEntropy:
    @pytest.mark.parametrize(
        ("outputs", "expected"),
        [
            pytest.param(torch.zeros(3, 7), 1.0, id="unsure"),
            pytest.param(torch.eye(4) * 1e4, 0.0, id="sure"),
            pytest.param(torch.zeros(2, 5, 3), 1.0, id="sequences"),
            pytest.param(torch.eye(4)[:, :, None, None].expand(4, 4, 2, 9) * 1e4, 0.0, id="pictures"),
            pytest.param({"loss": torch.tensor(3.0), "logits": torch.zeros(2, 3)}, 1.0, id="a mapping"),
            pytest.param((torch.tensor(3.0), [torch.zeros(2, 3).half()]), 1.0, id="a tuple"),
            pytest.param(torch.zeros(5000, 3), 1.0, id="many rows"),
        ],
    )
    def test_is_a_share_of_the_largest(self, outputs, expected):
        """It is 0 where the model is sure and 1 where all classes are alike, whatever their number."""
        assert output_entropy(outputs).item() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize(
        ("outputs", "said"),
        [
            (torch.zeros(4, 1), "a single output has no entropy"),
            (torch.tensor(1.0), "must hold logits"),
            ({"ids": torch.zeros(2, 3).long()}, "must hold logits"),
        ],
    )
    def test_needs_classes(self, outputs, said):
        """Outputs without classes are an error that says so."""
        with pytest.raises(OptionError, match=said):
            output_entropy(outputs)


class TestCandidateGradients:
    @pytest.mark.parametrize("shape", [(5,), (3, 5)])
    def test_the_norm_is_the_largest_that_a_linear_branch_could_get(self, shape):
        """It is the largest singular value of the gradient of a branch that isn't there, nearly."""
        numbers = torch.Generator().manual_seed(0)
        x = torch.randn(8, *shape[:-1], 5, generator=numbers)
        gradient = torch.randn(8, *shape[:-1], 3, generator=numbers)
        gradient = gradient + 3 * x[..., :3]
        full = gradient.flatten(0, -2).mT @ x.flatten(0, -2)
        expected = torch.linalg.matrix_norm(full, 2)
        assert 0.97 * expected < candidate_norm(x, gradient) < 1.0001 * expected

    def test_pictures_are_pooled(self):
        """Input and output of other sizes are summed up for each sample."""
        assert candidate_norm(torch.randn(4, 3, 8, 8), torch.randn(4, 6, 4, 4)).ndim == 0
        assert candidate_norm(None, torch.full((2, 2), 2.0)).item() == 4.0

    def test_copies_of_a_watched_node_are_not_watched(self):
        """What watches a node doesn't go into its branches, and can be taken off."""
        model = growing()
        organism = bc.Organism(model)
        watch = Watch(organism.seats)
        born = organism.grow("block")
        model(ROWS).square().sum().backward()
        first = watch.scores()
        assert len(first) == 1
        assert first[0] > 0
        assert [hook._found for hook in born._forward_hooks.values()] == [None]
        watch.remove()
        model(ROWS).square().sum().backward()
        assert watch.scores() == [torch.zeros(())]

    def test_silent_nodes_score_nothing(self):
        """Without a backward pass, or with a gradient of zero, the score is zero and finite."""
        x = torch.randn(4, 5)
        assert candidate_norm(x, torch.zeros(4, 3)).item() == 0.0
        model = bc.convert(nn.Sequential(nn.Linear(4, 2)), {"version": 1, "rules": [_WRAP]})
        watch = Watch(bc.Organism(model).seats)
        with torch.no_grad():
            model(ROWS)
        assert [score.item() for score in watch.scores()] == [0.0]


_WRAP = {"match": {"path": "0"}, "wrap": {}}
