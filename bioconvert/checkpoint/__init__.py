"""Checkpoints: reading any, writing ours, finding the architecture, proving and reverting a folder.

Names are imported when first used, so that headers and manifests can be read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.checkpoint.architectures.architecture import (
        Architecture,
        architecture_in,
        choose_architecture,
        parse_arch,
    )
    from bioconvert.checkpoint.architectures.identify import find_architecture
    from bioconvert.checkpoint.architectures.torchvision_ops import import_torchvision
    from bioconvert.checkpoint.files.header import Header, TensorEntry, read_header
    from bioconvert.checkpoint.folders.manifest import Manifest, read_manifest
    from bioconvert.checkpoint.folders.verifying import Finding, verify_folder
    from bioconvert.checkpoint.formats.layout import Layout, locate
    from bioconvert.checkpoint.formats.reading import Checkpoint, read_checkpoint
    from bioconvert.checkpoint.models.assigning import load_into
    from bioconvert.checkpoint.models.loading import load_model
    from bioconvert.checkpoint.models.reverting import revert_folder
    from bioconvert.checkpoint.models.saving import save_model

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
        "Architecture": f"{_PACKAGE}.architectures.architecture",
        "Checkpoint": f"{_PACKAGE}.formats.reading",
        "Finding": f"{_PACKAGE}.folders.verifying",
        "Header": f"{_PACKAGE}.files.header",
        "Layout": f"{_PACKAGE}.formats.layout",
        "Manifest": f"{_PACKAGE}.folders.manifest",
        "TensorEntry": f"{_PACKAGE}.files.header",
        "architecture_in": f"{_PACKAGE}.architectures.architecture",
        "choose_architecture": f"{_PACKAGE}.architectures.architecture",
        "find_architecture": f"{_PACKAGE}.architectures.identify",
        "import_torchvision": f"{_PACKAGE}.architectures.torchvision_ops",
        "load_into": f"{_PACKAGE}.models.assigning",
        "load_model": f"{_PACKAGE}.models.loading",
        "locate": f"{_PACKAGE}.formats.layout",
        "parse_arch": f"{_PACKAGE}.architectures.architecture",
        "read_checkpoint": f"{_PACKAGE}.formats.reading",
        "read_header": f"{_PACKAGE}.files.header",
        "read_manifest": f"{_PACKAGE}.folders.manifest",
        "revert_folder": f"{_PACKAGE}.models.reverting",
        "save_model": f"{_PACKAGE}.models.saving",
        "verify_folder": f"{_PACKAGE}.folders.verifying",
    },
)
