"""Fixtures for every test."""

import pytest


@pytest.fixture
def torchvision():
    """Give torchvision, made importable beside a torch that it wasn't built for."""
    pytest.importorskip("bioconvert.checkpoint.torchvision_ops").import_torchvision()
    return pytest.importorskip("torchvision")


@pytest.fixture
def timm(torchvision):
    """Give timm."""
    return pytest.importorskip("timm")


@pytest.fixture
def transformers():
    """Give transformers."""
    return pytest.importorskip("transformers")
