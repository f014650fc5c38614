"""What a plan says is what happens."""

from torch import nn

import bioconvert as bc


def test_the_class_is_named_that_a_layer_becomes(transformers):
    """Where a replacement has a class of its own for a layer, the plan names it and not the rule's word."""
    model = nn.Sequential(transformers.pytorch_utils.Conv1D(4, 8), nn.ReLU())
    plan = bc.plan(model, "yat-all")
    (applied,) = plan.applied
    plan.apply()
    assert applied.reason == f"Conv1D → {type(model[0]).__name__}" == "Conv1D → YatConv1D"
