"""Registering builders and finding them."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError
from torch import nn

from bioconvert.core.options import checked_options, option_names
from bioconvert.core.registry import Registry, is_layer, layer, owner, owner_for, replacements


def build(module, site, *, rate: Annotated[float, Field(gt=0)] = 1.0, mode: Literal["a", "b"] = "a"):
    """Take two options."""


def other(module, site, *, rate: Annotated[float, Field(gt=0)] = 2.0):
    """Take another set of options."""


@pytest.fixture
def registry():
    registry = Registry("replacement")
    registry.register("Thing", build, ("torch.nn.Linear", "torch.nn.Conv2d"))
    return registry


class TestRegistry:
    def test_finds_by_name_and_class(self, registry):
        """The builder for a class is found under its name."""
        assert registry.find("Thing", nn.Linear).build is build

    def test_finds_for_a_subclass(self, registry):
        """A subclass is built by its nearest ancestor's builder."""
        assert registry.find("Thing", type("Sub", (nn.Linear,), {})).of == "torch.nn.Linear"

    def test_finds_nothing_for_another_class(self, registry):
        """A class that nothing is registered for has no builder."""
        assert registry.find("Thing", nn.Embedding) is None

    def test_refuses_a_second_registration(self, registry):
        """A name is taken once for each class."""
        with pytest.raises(ValueError, match=r"registered for torch\.nn\.Linear already"):
            registry.register("Thing", build, ("torch.nn.Linear",))

    def test_refuses_other_options_under_the_same_name(self, registry):
        """A name has the same options for every class, so that a rule can be checked without a model."""
        with pytest.raises(ValueError, match="same options"):
            registry.register("Thing", other, ("torch.nn.Conv1d",))

    def test_an_unknown_name_says_what_is_known(self, registry):
        """The error suggests the nearest name."""
        with pytest.raises(KeyError, match="Did you mean 'Thing'"):
            registry.entries("thing")

    def test_our_own_layers_come_through_the_entry_points(self):
        """The built-in replacements are plugins like anyone's."""
        assert "YatLinear" in replacements.names()


class TestLayers:
    def test_a_registered_class_is_returned_unchanged(self):
        """The decorator gives back what it was given; subclasses count too."""
        cls = type("Mine", (nn.Module,), {})
        assert layer(cls) is cls
        assert is_layer(type("Sub", (cls,), {}))
        assert not is_layer(nn.Linear)

    def test_a_second_registration_is_refused(self):
        """A layer is registered once."""
        cls = layer(type("Other", (nn.Module,), {}))
        with pytest.raises(ValueError, match="registered already"):
            layer(cls)


class TestOwners:
    def test_a_registered_class_is_returned_unchanged(self):
        """The decorator gives back what it was given, and it is found for the class that it is for."""
        cls = type("CallingBilinear", (nn.Bilinear,), {"forward": lambda self, *inputs: None})
        assert owner("torch.nn.Bilinear")(cls) is cls
        assert owner_for(nn.Bilinear) is cls

    def test_a_second_registration_is_refused(self):
        """A class has one owner."""
        cls = owner("torch.nn.Fold")(type("CallingFold", (nn.Fold,), {}))
        with pytest.raises(ValueError, match=r"registered for torch\.nn\.Fold already: CallingFold"):
            owner("torch.nn.Fold")(cls)

    def test_the_nearest_ancestor_decides(self):
        """A subclass is looked up by its nearest ancestor with an owner, whose forward it must still have."""
        cls = owner("torch.nn.Unfold")(type("CallingUnfold", (nn.Unfold,), {"forward": lambda self, x: x}))
        assert owner_for(type("Inheriting", (nn.Unfold,), {})) is cls
        assert owner_for(type("Own", (nn.Unfold,), {"forward": lambda self, x: x})) is None
        assert owner_for(cls) is None

    def test_there_is_none_for_other_classes(self):
        """A class without a registered ancestor has no owner; what isn't imported is never looked for."""
        owner("no_such_package.Thing")(type("CallingThing", (), {}))
        assert owner_for(nn.Linear) is None
        assert owner_for(int) is None


OPTIONS = [
    pytest.param({}, {"rate": 1.0, "mode": "a"}, id="defaults"),
    pytest.param({"rate": 2}, {"rate": 2.0, "mode": "a"}, id="an integer for a float"),
    pytest.param({"mode": "c"}, ValidationError, id="unknown choice"),
    pytest.param({"rate": "2"}, ValidationError, id="text for a number"),
    pytest.param({"rate": 0}, ValidationError, id="out of bounds"),
    pytest.param({"speed": 1}, ValidationError, id="unknown option"),
]


@pytest.mark.parametrize(("given", "expected"), OPTIONS)
def test_options_are_checked_against_the_signature(given, expected):
    """Names, types and bounds come from the builder's keyword parameters, and from nowhere else."""
    if isinstance(expected, dict):
        assert checked_options(build, given) == expected
    else:
        with pytest.raises(expected):
            checked_options(build, given)


def test_option_names_keep_the_order_of_the_signature():
    """The module and the site are no options."""
    assert option_names(build) == ("rate", "mode")
