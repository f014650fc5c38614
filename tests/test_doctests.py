"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import bioconvert

MODULES = [
    info.name
    for info in pkgutil.walk_packages(bioconvert.__path__, "bioconvert.")
    if not info.name.endswith("__main__")
]
NEEDS_TRITON = ("bioconvert.functional.triton_kernels", "bioconvert.functional.triton_yat")
INTEGRATIONS = "bioconvert.integrations."
"""The name of each module there begins with the library that its examples use, which has a fixture."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name, request):
    """Every example gives what it says; torch and nn are at hand, as they are to a reader."""
    if name in NEEDS_TRITON:
        pytest.importorskip("triton", reason="the Triton kernels need the package triton")
    if name.startswith(INTEGRATIONS):
        request.getfixturevalue(name.removeprefix(INTEGRATIONS).partition("_")[0])
    module = importlib.import_module(name)
    found = doctest.testmod(
        module,
        extraglobs={"torch": torch, "nn": torch.nn},
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert found.failed == 0


def test_there_are_examples():
    """The layers and the main functions have one."""
    from bioconvert import api

    assert ">>>" in api.convert.__doc__
    assert ">>>" in api.plan.__doc__
    assert ">>>" in bioconvert.layers.YatLinear.__doc__
