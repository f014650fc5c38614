"""Following a layer's output across the borders of containers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.graph.flow import Graphs
from bioconvert.graph.trace import Untraceable
from bioconvert.graph.tree import ModuleTree
from bioconvert.graph.walk import Mismatch
from bioconvert.ruleset import Link

RELU = Link(alternatives=("ReLU", "GELU"))
NORM = Link(alternatives=("BatchNorm2d",), optional=True)


def following(model, layer, *links):
    return Graphs(ModuleTree(model)).following(layer, links)


class Inner(nn.Module):
    """Ends with its layer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x)


class Outer(nn.Module):
    """Has the activation of the layer inside its child."""

    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.out = nn.Linear(4, 4)

    def forward(self, x):
        return self.out(F.relu(self.inner(x)))


class Pair(nn.Module):
    """Gives two layers' outputs back."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.a(x), self.b(x)


class UsesPair(nn.Module):
    """Applies an activation to one element of its child's output."""

    def __init__(self):
        super().__init__()
        self.pair = Pair()

    def forward(self, x):
        first, second = self.pair(x)
        return F.gelu(first) + second


class Activation(nn.Module):
    """A container that begins with an activation."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(self.act(x))


class Shared(nn.Module):
    """Calls a container that begins with an activation for two different layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.act = Activation()

    def forward(self, x):
        return self.act(self.a(x)) + self.act(self.b(x))


class Twice(nn.Module):
    """Calls one child twice, with different activations behind it."""

    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x):
        return F.gelu(self.inner(F.relu(self.inner(x))))


class TestAcrossContainers:
    def test_an_activation_in_the_parent_is_found(self):
        """The layer's container ends with the layer, and its caller goes on with relu."""
        model = Outer()
        (chain,) = following(model, model.inner.fc, RELU).chains
        assert chain.activation_name == "ReLU"
        assert [segment.place.name for segment in chain.segments] == ["inner", ""]

    def test_an_element_of_a_tuple_is_followed(self):
        """Only what happens to the layer's own element counts."""
        model = UsesPair()
        (chain,) = following(model, model.pair.a, RELU).chains
        assert chain.activation_name == "GELU"
        with pytest.raises(Mismatch, match="followed by add"):
            following(model, model.pair.b, RELU)

    def test_an_activation_in_a_child_is_found(self):
        """The next module is a container that begins with the activation."""
        model = nn.Sequential(nn.Linear(4, 4), Activation())
        (chain,) = following(model, model[0], RELU).chains
        assert chain.activations[0].module is model[1].act

    def test_a_child_that_others_call_too_is_left_alone(self):
        """What it does belongs to another path as well."""
        model = Shared()
        with pytest.raises(Mismatch, match="Activation, which is shared with another path"):
            following(model, model.a, RELU)

    def test_every_call_of_a_container_counts(self):
        """A container that is called twice gives two chains."""
        model = Twice()
        chains = following(model, model.inner.fc, RELU).chains
        assert sorted(chain.activation_name for chain in chains) == ["GELU", "ReLU"]

    def test_who_reaches_into_a_container_counts_too(self):
        """A wrapper that runs the children of its child is followed as well as that child's own forward."""

        class Wrapper(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Outer()

            def forward(self, x):
                return torch.tanh(self.inner.inner.fc(x))

        model = Wrapper()
        with pytest.raises(Mismatch, match="followed by tanh"):
            following(model, model.inner.inner.fc, RELU)

    def test_nested_sequentials_are_looked_through(self):
        """Ends and beginnings of several containers may lie between layer and activation."""
        model = nn.Sequential(
            nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3))),
            nn.Sequential(nn.BatchNorm2d(4), nn.Sequential(nn.Identity(), nn.ReLU())),
        )
        (chain,) = following(model, model[0][0][0], NORM, RELU).chains
        assert chain.norm is model[1][0]
        assert chain.activations[0].module is model[1][1][1]

    def test_the_end_of_the_model_is_the_end(self):
        """Nothing follows the last layer."""
        model = Outer()
        with pytest.raises(Mismatch, match="the model's end"):
            following(model, model.out, RELU)

    def test_an_optional_pattern_may_end_at_a_border(self):
        """Where nothing must follow, an untraceable caller is no obstacle."""

        class Branches(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Inner()

            def forward(self, x):
                return self.inner(x) if x.sum() > 0 else x

        model = Branches()
        (chain,) = following(model, model.inner.fc, NORM).chains
        assert chain.hits == ()
        with pytest.raises(Untraceable, match="Branches ''"):
            following(model, model.inner.fc, RELU)

    def test_questions_about_shape_are_no_use(self):
        """Who looks at a tensor's size or type doesn't share its numbers."""

        class Looks(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(4, 4)

            def forward(self, x):
                y = self.fc(x)
                torch._assert(y.ndim == 2, "a matrix")
                return F.relu(y).view(y.size(0), -1).to(y.dtype)

        model = Looks()
        assert following(model, model.fc, RELU).chains[0].activation_name == "ReLU"


def test_timm_norm_and_activation_modules(timm):
    """`BatchNormAct2d` is a normalisation with an activation behind it."""
    from timm.layers import BatchNormAct2d

    model = nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4))
    for chain in following(model, model[0], NORM, RELU).chains:
        assert chain.norm is model[1]
        assert chain.activations[0].module is model[1].act


def test_reasons_name_untraceable_containers():
    """What could not be seen is told, container by container."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x) if x.sum() > 0 else x

    model = nn.Sequential(Branches())
    graphs = Graphs(ModuleTree(model))
    with pytest.raises(Untraceable):
        graphs.following(model[0].fc, (RELU,))
    assert list(graphs.untraceable) == ["0"]
