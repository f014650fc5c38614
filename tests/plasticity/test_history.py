"""The history of the weights: what is noted when, and how it is shown, written and kept."""

import json

import pytest
import torch
from plain_mechanisms import attach, registered
from torch import nn

import bioconvert as bc
from bioconvert.plasticity.history import History, Note
from bioconvert.plasticity.numbers import effective_rank


@pytest.fixture(scope="module", autouse=True)
def _plain():
    with registered():
        yield


def trained(*, every=2, steps=4):
    torch.manual_seed(0)
    net = bc.convert(
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), attach({"plain_slow": {"factor": 0.5}})
    )
    with torch.no_grad():
        net[0].weight[:2] = 0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    plasticity = bc.Plasticity(net, history=every).bind(optimizer)
    for _ in range(steps):
        net(torch.ones(1, 6)).sum().backward()
        optimizer.step()
    return plasticity


def test_is_noted_every_so_many_steps():
    """Each weight is noted after every `history` steps."""
    noted = [(note.step, note.parameter) for note in trained(every=2, steps=5).history]
    assert noted == [(step, name) for step in (2, 4) for name in ("0.weight", "2.weight")]


def test_nothing_is_noted_unasked():
    """Without `history`, nothing is worked out."""
    history = trained(every=0).history
    assert len(history) == 0
    assert str(history) == "nothing noted: Plasticity(model, history=<steps>)"


def test_numbers():
    """Zero weights, dead units and rank are those of the weight; a mechanism's bear its name."""
    first = trained().history.notes[0].numbers
    assert first["zero weights"] == pytest.approx(2 / 8)
    assert first["dead units"] == pytest.approx(2 / 8)
    assert 1 < first["effective rank"] <= 6
    assert first["plain_slow mean rate"] == pytest.approx(0.75)


RANKS = [
    pytest.param(torch.eye(5), 5, id="identity"),
    pytest.param(torch.ones(5, 9), 1, id="rank 1"),
    pytest.param(torch.diag(torch.tensor([3.0, 3.0, 0.0])), 2, id="rank 2"),
    pytest.param(torch.zeros(3, 4), 0, id="zero"),
    pytest.param(torch.eye(4, dtype=torch.bfloat16), 4, id="half precision"),
]


@pytest.mark.parametrize(("matrix", "expected"), RANKS)
def test_effective_rank(matrix, expected):
    """With n equal singular values and no others, it is n."""
    assert effective_rank(matrix) == pytest.approx(expected, abs=1e-5)


def test_the_rank_of_what_is_not_finite_is_unknown():
    """A NaN is reported as such, not raised."""
    assert effective_rank(torch.tensor([[float("nan")]])) != effective_rank(torch.eye(1))


def test_the_table_fits_a_terminal():
    """No line is wider than 80 columns, however long a number's name is, and each number has a line."""
    history = trained().history
    history.notes.append(Note(6, "2.weight", {"a" * 90: 1e-9, "effective rank": 2.0}))
    lines = str(history).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["2", "weights,", "steps", "2-6", "first", "last", "least", "greatest"]
    assert [line[:14] for line in lines[2:4]] == ["zero weights  ", "dead units    "]


def test_json_and_back():
    """What `to_dict` gives is JSON, and makes the same history again."""
    history = trained().history
    again = History.from_dict(json.loads(history.to_json()))
    assert again.to_dict() == history.to_dict()
    assert again.notes == history.notes


def test_is_kept_in_the_state():
    """A resumed run goes on with the history of the one before."""
    first, second = trained(), trained(steps=0)
    second.load_state_dict(first.state_dict())
    assert second.history.notes == first.history.notes


class Writer:
    """Takes note of what is written."""

    def __init__(self):
        self.written = []

    def add_scalar(self, tag, scalar_value, global_step):
        self.written.append((tag, scalar_value, global_step))


@pytest.mark.parametrize(("given", "expected"), [({}, 4), ({"step": 9}, 9)])
def test_is_written_to_tensorboard(given, expected):
    """The last numbers of each weight are written, at the step given or their own."""
    writer, history = Writer(), trained().history
    history.write(writer, **given)
    assert {step for _, _, step in writer.written} == {expected}
    assert len(writer.written) == sum(len(note.numbers) for note in history.notes[-2:])
    assert ("plasticity/0.weight/plain_slow mean rate", 0.75, expected) in writer.written
