"""Fixtures for the tests of checkpoints."""

import pytest


@pytest.fixture
def transformers():
    """Give transformers, importable beside a torchvision whose operators don't load."""
    pytest.importorskip("transformers")
    from bioconvert.checkpoint.torchvision_ops import import_with_torchvision

    return import_with_torchvision("transformers")
