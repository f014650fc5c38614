"""``bioconvert.json``: what an output folder says of itself, read strictly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from bioconvert.checkpoint.files.dtypes import is_known
from bioconvert.checkpoint.files.shards import check_file_name, check_inside, read_text
from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.core.errors import CorruptFileError

FORMAT_VERSION: Literal[1] = 1
_MAX_MANIFEST = 1 << 30


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class TensorRecord(_Record):
    """Where one tensor lies and what it must be.

    Args:
        file: name of the safetensors file in the folder.
        dtype: number format, by its name in safetensors files; ``"C32"`` and ``"C128"``, which they lack, lie
            there as pairs of reals.
        shape: size of each dimension.
        sha256: hash of its bytes, in hexadecimal digits.
        non_finite: how many of its values are NaN or infinite; left out where none are.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    non_finite: int = 0

    @model_serializer(mode="wrap")
    def _sparingly(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialise(self)
        return fields if self.non_finite else {k: v for k, v in fields.items() if k != "non_finite"}


class FileRecord(_Record):
    """What one file of the folder must be.

    Args:
        size: length in bytes.
        sha256: hash of the whole file, or of the header alone for a file of tensors, which have their own.
    """

    size: int
    sha256: str


class Source(_Record):
    """What was converted.

    Args:
        name: name of the file or folder, without its path.
        format: how it was laid out.
        sha256: hash of the file; of its weight files' names and hashes, for a folder or shards.
        nesting: keys that led to the state dict in it.
        prefix: what stood before every name in it.
    """

    name: str
    format: str
    sha256: str
    nesting: tuple[str, ...] = ()
    prefix: str = ""


class Modes(_Record):
    """The train flags of the modules.

    Args:
        training: that of the model itself.
        exceptions: paths of the modules whose flag is the opposite.
    """

    training: bool = True
    exceptions: tuple[str, ...] = ()


class Manifest(_Record):
    """The content of ``bioconvert.json``.

    Args:
        format_version: version of this format.
        tool: versions of bioconvert and torch that wrote it.
        source: what was converted, if it came from a file.
        rules: the resolved rules.
        conversion: what surgery recorded, to be replayed on a base model; ``None`` for a base model itself.
        architecture: how the base model is built, if that is known.
        ties: groups of tensor names that stand for one tensor; only the first of each is in a file.
        added: names of the tensors that conversion added.
        frozen: names of the parameters without gradient.
        modes: the train flags.
        extra_state: what modules keep in a state dict beside tensors.
        tensors: the model's tensors by name.
        originals: values that conversion overwrote, by the same names.
        files: every other file in the folder, by name.
        prefix: what stands before every name in ``tensors`` and ``ties`` and isn't the model's.
        digest: hash of all the rest of the manifest.
    """

    format_version: Literal[1]
    tool: dict[str, str]
    source: Source | None
    rules: list[Any]
    conversion: dict[str, Any] | None
    architecture: dict[str, Any] | None
    ties: tuple[tuple[str, ...], ...]
    added: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    modes: Modes = Modes()
    extra_state: dict[str, Any] = {}
    tensors: dict[str, TensorRecord]
    originals: dict[str, TensorRecord] = {}
    files: dict[str, FileRecord]
    prefix: str = ""
    digest: str = ""

    @property
    def converted(self) -> bool:
        """Whether the folder holds a converted model."""
        return self.conversion is not None and bool(self.conversion["modules"])

    @property
    def non_finite(self) -> dict[str, int]:
        """How many values of which tensors are NaN or infinite."""
        return {name: record.non_finite for name, record in self.tensors.items() if record.non_finite}

    def bare(self, name: str) -> str:
        """Give a tensor's name in the model."""
        return name.removeprefix(self.prefix)

    @property
    def tensor_files(self) -> set[str]:
        """Names of the files with tensors in them."""
        return {record.file for records in (self.tensors, self.originals) for record in records.values()}


def render_manifest(manifest: Manifest) -> bytes:
    """Give the text of ``bioconvert.json``, its digest filled in; the same manifest gives the same bytes."""
    fields = manifest.model_dump(mode="json")
    fields["digest"] = digest_of(fields)
    return (json.dumps(fields, indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def digest_of(fields: Mapping[str, object]) -> str:
    """Give the hash of a manifest's content, whatever its layout as text."""
    content = {name: value for name, value in fields.items() if name != "digest"}
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")
    ).hexdigest()


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        CheckpointError: no regular file, or not readable.
        CorruptFileError: malformed, of an unknown version, or inconsistent.
        UnsafeFileError: it names files outside its folder.
    """
    text = read_text(path, _MAX_MANIFEST)
    version = parse_object(text, f"{path}: the manifest").get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise CorruptFileError(
            f"{path}: format_version must be {FORMAT_VERSION}, but is {str(version)[:40]}; "
            "if a newer bioconvert wrote it, read it with that"
        )
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CorruptFileError(f"{path}: {place[:200]}: {first['msg']}") from None
    _check(manifest, path)
    return manifest


def _check(manifest: Manifest, path: Path) -> None:
    if manifest.conversion is not None and not isinstance(manifest.conversion.get("modules"), list):
        raise CorruptFileError(f"{path}: the conversion must have a list of modules")
    for name in manifest.files:
        check_file_name(name, path)
        check_inside(path.parent / name)
    for name, record in (*manifest.tensors.items(), *manifest.originals.items()):
        check_file_name(record.file, path)
        if not is_known(record.dtype):
            raise CorruptFileError(
                f"{path}: tensor {name[:200]!r} has the unknown dtype {record.dtype[:40]!r}"
            )
        if record.file not in manifest.files:
            raise CorruptFileError(
                f"{path}: tensor {name[:200]!r} lies in {record.file!r}, which isn't listed"
            )
    for group in manifest.ties:
        if not group or group[0] not in manifest.tensors:
            raise CorruptFileError(f"{path}: the tie of {', '.join(group[:3])} has no tensor to stand for it")
