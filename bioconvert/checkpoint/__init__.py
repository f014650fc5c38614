"""Checkpoints: reading any, writing ours, finding the architecture, proving and reverting a folder.

Names are imported when first used, so that headers and manifests can be read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.checkpoint.architecture import (
        Architecture,
        architecture_in,
        choose_architecture,
        parse_arch,
    )
    from bioconvert.checkpoint.assigning import load_into
    from bioconvert.checkpoint.header import Header, TensorEntry, read_header
    from bioconvert.checkpoint.identify import find_architecture
    from bioconvert.checkpoint.layout import Layout, locate
    from bioconvert.checkpoint.loading import load_model
    from bioconvert.checkpoint.manifest import Manifest, read_manifest
    from bioconvert.checkpoint.reading import Checkpoint, read_checkpoint
    from bioconvert.checkpoint.reverting import revert_folder
    from bioconvert.checkpoint.saving import save_model
    from bioconvert.checkpoint.torchvision_ops import import_torchvision
    from bioconvert.checkpoint.verifying import Finding, verify_folder

__all__ = [
    "Architecture",
    "Checkpoint",
    "Finding",
    "Header",
    "Layout",
    "Manifest",
    "TensorEntry",
    "architecture_in",
    "choose_architecture",
    "find_architecture",
    "import_torchvision",
    "load_into",
    "load_model",
    "locate",
    "parse_arch",
    "read_checkpoint",
    "read_header",
    "read_manifest",
    "revert_folder",
    "save_model",
    "verify_folder",
]

_PACKAGE = "bioconvert.checkpoint"
__getattr__ = lazy_exports(
    __name__,
    {
        "Architecture": f"{_PACKAGE}.architecture",
        "Checkpoint": f"{_PACKAGE}.reading",
        "Finding": f"{_PACKAGE}.verifying",
        "Header": f"{_PACKAGE}.header",
        "Layout": f"{_PACKAGE}.layout",
        "Manifest": f"{_PACKAGE}.manifest",
        "TensorEntry": f"{_PACKAGE}.header",
        "architecture_in": f"{_PACKAGE}.architecture",
        "choose_architecture": f"{_PACKAGE}.architecture",
        "find_architecture": f"{_PACKAGE}.identify",
        "import_torchvision": f"{_PACKAGE}.torchvision_ops",
        "load_into": f"{_PACKAGE}.assigning",
        "load_model": f"{_PACKAGE}.loading",
        "locate": f"{_PACKAGE}.layout",
        "parse_arch": f"{_PACKAGE}.architecture",
        "read_checkpoint": f"{_PACKAGE}.reading",
        "read_header": f"{_PACKAGE}.header",
        "read_manifest": f"{_PACKAGE}.manifest",
        "revert_folder": f"{_PACKAGE}.reverting",
        "save_model": f"{_PACKAGE}.saving",
        "verify_folder": f"{_PACKAGE}.verifying",
    },
)
