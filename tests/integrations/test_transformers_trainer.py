"""What the callback does at the events of transformers' trainer, dispatched by its own handler."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.checkpoint.architectures.torchvision_ops import import_with_torchvision
from bioconvert.core.errors import OptionError
from bioconvert.integrations.transformers import BioCallback

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed", allow_module_level=True)

trainer = import_with_torchvision("transformers.trainer_callback")


def rules(*rules):
    """A rule set."""
    return {"version": 1, "name": "trained", "rules": list(rules)}


PLASTIC = {"match": {"type": "linear"}, "attach": [{"crystallize": {"every": 1}}]}
GROWING = {"match": {"path": "0"}, "wrap": {"tag": "general"}}


def network():
    """A small network."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


def trained(model, callback, steps=3):
    """Train as the trainer does, with its handler of callbacks."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handler = trainer.CallbackHandler([trainer.DefaultFlowCallback(), callback], model, None, optimizer, None)
    state, control = trainer.TrainerState(), trainer.TrainerControl()
    handler.on_train_begin(None, state, control)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(3, 4)).square().sum().backward()
        optimizer.step()
    handler.on_train_end(None, state, control)
    return optimizer


@pytest.mark.parametrize(
    ("conversion", "plastic", "growing"),
    [
        pytest.param(rules(PLASTIC), True, False, id="plasticity"),
        pytest.param(rules(GROWING), False, True, id="nodes"),
        pytest.param(rules(PLASTIC, GROWING), True, True, id="both"),
    ],
)
def test_steps_are_counted_while_training(conversion, plastic, growing):
    """What the model has is bound when training begins, counts its steps, and is let go at the end."""
    model, callback = bc.convert(network(), conversion), BioCallback(seed=2)
    optimizer = trained(model, callback)
    assert (callback.plasticity is not None, callback.organism is not None) == (plastic, growing)
    if callback.plasticity is not None:
        assert [each["steps"] for each in callback.state_dict()["optimizers"]] == [3]
    if callback.organism is not None:
        assert callback.organism.step == 3
    before = callback.organism.step if callback.organism is not None else None
    optimizer.step()
    assert before is None or callback.organism.step == before


def test_state_goes_on(tmp_path):
    """Another callback goes on counting from a saved state."""
    model, first = bc.convert(network(), rules(PLASTIC)), BioCallback()
    trained(model, first)
    second = BioCallback(state=first.state_dict())
    trained(model, second)
    assert [each["steps"] for each in second.state_dict()["optimizers"]] == [6]


def test_model_without_anything_to_drive():
    """A model that isn't converted is an error that says what to do."""
    with pytest.raises(OptionError, match="convert it by rules with `attach:` or `wrap:`"):
        trained(network(), BioCallback())


def test_state_needs_training():
    """Before training there is no state."""
    with pytest.raises(OptionError, match="before training begins"):
        BioCallback().state_dict()
