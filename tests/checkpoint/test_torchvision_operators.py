"""A torchvision whose operators don't load can be imported all the same."""

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("torchvision.version")


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
    """Where torchvision fails at its operators, they are declared, a warning is logged, and the import works."""
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
        from bioconvert.checkpoint.torchvision_ops import import_torchvision
        found = import_torchvision()
        assert found is import_torchvision() is sys.modules["torchvision"]
        assert type(found.models.resnet18(num_classes=2)).__name__ == "ResNet"
        assert len(records) == (0 if fine else 1), records
        print("ok")
        """
    )
    assert out == ["ok"]


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
        from bioconvert.checkpoint.torchvision_ops import import_torchvision
        import_torchvision()
        print("ok")
        """
    )
    assert out == ["ok"]


def test_another_failure_is_passed_on(monkeypatch):
    """An import that fails for another reason fails for that reason."""
    from bioconvert.checkpoint import torchvision_ops

    def broken(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(torchvision_ops.importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="something else"):
        torchvision_ops.import_torchvision()


def test_timm_is_imported_beside_such_a_torchvision():
    """What rests on torchvision can be imported too."""
    pytest.importorskip("timm.version")
    out = run(
        """
        from bioconvert.checkpoint.torchvision_ops import import_with_torchvision
        print(import_with_torchvision("timm").create_model("test_resnet").num_classes)
        """
    )
    assert out == ["1000"]
