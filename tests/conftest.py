"""Fixtures for every test."""

import sys
from importlib.util import find_spec

import pytest

from bioconvert.checkpoint.architectures.torchvision_ops import import_torchvision, import_with_torchvision


@pytest.fixture(autouse=True)
def _compiled_anew():
    """Let no test count the compilations of another: torch.compile gives up after some of the same code."""
    yield
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


def _needs(name):
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


@pytest.fixture
def torchvision():
    """Give torchvision, made importable beside a torch that it wasn't built for."""
    _needs("torchvision")
    return import_torchvision()


@pytest.fixture
def timm():
    """Give timm."""
    _needs("timm")
    return import_with_torchvision("timm")


@pytest.fixture
def transformers():
    """Give transformers."""
    _needs("transformers")
    return import_with_torchvision("transformers")
