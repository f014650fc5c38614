"""What the shell completes: rule sets, architectures, names to explain. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from bioconvert.core.errors import BioconvertError

_KINDS = ("torchvision:", "timm:", "hf:")
_MOST = 500


def rule_sets(incomplete: str) -> list[str]:
    """Complete the name of a built-in rule set."""
    from bioconvert.ruleset.builtin import builtin_names

    return _matching(builtin_names(), incomplete)


def rule_sets_and_files(incomplete: str) -> list[str]:
    """Complete the name of a built-in rule set, or that of a rule file in the working directory."""
    files = (str(path) for pattern in ("*.yaml", "*.yml") for path in sorted(Path().glob(pattern)))
    return [*rule_sets(incomplete), *_matching(files, incomplete)]


def architectures(incomplete: str) -> list[str]:
    """Complete the kind of an architecture."""
    return _matching(_KINDS, incomplete)


def documented(incomplete: str) -> list[str]:
    """Complete the first word of a command whose document has a schema."""
    from bioconvert.cli.documents import documented_commands

    return _matching((name.partition(" ")[0] for name in documented_commands()), incomplete)


def explained(context: typer.Context, incomplete: str) -> list[str]:
    """Complete what can be explained: registered names, and modules where the checkpoint is known."""
    from bioconvert.cli.registered import registered_names

    checkpoint = context.params.get("checkpoint")
    modules = _modules(Path(str(checkpoint))) if checkpoint else ()
    return _matching((*modules, *registered_names()), incomplete)


def _modules(checkpoint: Path) -> Iterator[str]:
    """Name the modules of a checkpoint whose header can be read at once."""
    from bioconvert.checkpoint.files.sniff import sniff
    from bioconvert.checkpoint.formats.layout import locate
    from bioconvert.checkpoint.formats.stored import find_tensors

    try:
        if any(sniff(file) != "safetensors" for file in locate(checkpoint).files):
            return
        names = find_tensors(checkpoint).tensors
    except BioconvertError:
        return  # the command itself says what is wrong
    yield from dict.fromkeys(name.rpartition(".")[0] for name in names)


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name and name.startswith(incomplete)})[:_MOST]
