"""A torchvision whose operators don't load can be imported all the same."""

import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("torchvision") is None, reason="needs torchvision")


def run(code):
    """Run code in a process of its own, where torchvision isn't imported yet."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_missing_operators_are_declared_and_said_to_be():
    """Where torchvision's operators fail, they are declared with one warning, and timm imports too."""
    out = run(
        """
        import logging, sys
        records = []
        handler = logging.Handler()
        handler.emit = lambda record: records.append(record.getMessage())
        logging.getLogger("bioconvert").addHandler(handler)
        try:
            import torchvision
            fine = True
        except RuntimeError:
            fine = False
        from bioconvert.checkpoint.architectures.torchvision_ops import (
            import_torchvision,
            import_with_torchvision,
        )

        found = import_torchvision()
        assert found is import_torchvision() is sys.modules["torchvision"]
        assert found.models.list_models()
        assert len(records) == (0 if fine else 1), records
        from importlib.util import find_spec
        if find_spec("timm") is not None:
            assert import_with_torchvision("timm").is_model("resnet18")
        print("ok")
        """
    )
    assert out == ["ok"]


@pytest.mark.slow
def test_operators_that_someone_declared_are_left_alone():
    """Where the operators are there, nothing is declared and nothing is said."""
    out = run(
        """
        import logging, torch
        library = torch.library.Library("torchvision", "DEF")
        try:
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        except RuntimeError:
            pass
        logging.getLogger("bioconvert").addHandler(logging.StreamHandler(__import__("sys").stdout))
        from bioconvert.checkpoint.architectures.torchvision_ops import import_torchvision
        import_torchvision()
        print("ok")
        """
    )
    assert out == ["ok"]


def test_another_failure_is_passed_on(monkeypatch):
    """An import that fails for another reason fails for that reason."""
    from bioconvert.checkpoint.architectures import torchvision_ops

    def broken(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(torchvision_ops.importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="something else"):
        torchvision_ops.import_torchvision()
