"""Fixtures for the tests of rule sets: builders of their own, so that no layer need be installed."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from bioconvert.core import registry
from bioconvert.core.change import Change
from bioconvert.core.registry import Registry
from bioconvert.ruleset import RuleSet


def yat(
    layer,
    site,
    *,
    bias_mode: Literal["pre", "post"] = "pre",
    alpha: Literal["learnable", "exponent", "none"] | float = "learnable",
    epsilon: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto",
    spherical: bool = False,
    drop_connect: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    init: Literal["auto", "keep", "closed_form"] = "auto",
) -> Change:
    """Stand for the Yat layers."""
    return Change()


def fuzzy_lr(module, site, *, distribution: str = "lognormal", nu: float = 0.16) -> Change:
    """Stand for a mechanism."""
    return Change()


def rejuvenate(module, site, *, every: int, sizes: list[int] | None = None) -> Change:
    """Stand for a mechanism with an option that has no default."""
    return Change()


def block(module, site, *, tag: str | None = None, depth: Annotated[int, Field(ge=1)] = 1) -> Change:
    """Stand for a node."""
    return Change()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Replace what is registered by a few builders of the tests' own."""
    # Plugins register once in a process: that must not happen in the stand-ins.
    registry.load_plugins()
    kinds = {name: Registry(getattr(registry, name).kind) for name in ("replacements", "mechanisms", "nodes")}
    for name, stand_in in kinds.items():
        monkeypatch.setattr(registry, name, stand_in)
    kinds["replacements"].register("YatLinear", yat, ["torch.nn.Linear"])
    for dims in "123":
        for kind in ("Conv", "ConvTranspose"):
            kinds["replacements"].register(f"Yat{kind}{dims}d", yat, [f"torch.nn.{kind}{dims}d"])
    kinds["mechanisms"].register("fuzzy_lr", fuzzy_lr, [""])
    kinds["mechanisms"].register("rejuvenate", rejuvenate, [""])
    kinds["nodes"].register("block", block, [""])
    return kinds


@pytest.fixture
def rule():
    """Give a function that makes one rule from its ``match``, by default one that keeps what it selects."""

    def make(match, **rest):
        rules = [{"match": match, **(rest or {"keep": True})}]
        return RuleSet.from_dict({"version": 1, "rules": rules}).rules[0]

    return make
