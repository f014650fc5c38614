"""Converted models of transformers in folders that both sides can use."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bioconvert.checkpoint import load_model, save_model
from bioconvert.checkpoint.architectures.torchvision_ops import import_with_torchvision
from bioconvert.checkpoint.folders.config_mark import MARK, WEIGHTS
from bioconvert.checkpoint.folders.provenance import Origin
from bioconvert.checkpoint.formats.layout import CONFIG, MANIFEST
from bioconvert.checkpoint.tensors.wrappers import bare
from bioconvert.core.errors import CheckpointError, OptionError
from bioconvert.core.lazy import lazy_exports
from bioconvert.graph.classes import original_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from bioconvert.integrations.transformers_trainer import BioCallback as BioCallback

__getattr__ = lazy_exports(__name__, {"BioCallback": "bioconvert.integrations.transformers_trainer"})
_GENERATION = "generation_config.json"


def from_pretrained(path: str | os.PathLike[str], *, verify: bool = True) -> PreTrainedModel:
    """Load a converted model of transformers from the folder that it was saved to.

    The same as :func:`bioconvert.load`, and the settings for generating text from the folder's
    ``generation_config.json``. Train flags are as they were when the model was saved.

    Args:
        path: a folder that :func:`save_pretrained`, ``bioconvert.save`` or ``bioconvert convert`` wrote.
        verify: whether the tensors' hashes are checked.

    Raises:
        CheckpointError: bioconvert didn't write the folder, or it holds no model of transformers.
        CorruptFileError: a file is damaged or was changed.
        ArchitectureError: transformers can't build the model.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> import bioconvert as bc
        >>> config = BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, vocab_size=9)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save_pretrained(bc.convert(BertModel(config), "plastic"), folder)
        ...     type(from_pretrained(folder)).__name__
        'BertModel'
    """
    transformers = import_with_torchvision("transformers")
    folder = Path(path)
    if not (folder / MANIFEST).exists():
        raise CheckpointError(_advice(folder))
    model: Any = load_model(folder, verify=verify)
    if not isinstance(model, transformers.PreTrainedModel):
        raise CheckpointError(
            f"{folder}: holds a {type(model).__name__}, which isn't a model of transformers; "
            "load it by bioconvert.load"
        )
    if (folder / _GENERATION).is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    model.name_or_path = str(folder)
    loaded: PreTrainedModel = model
    return loaded


def save_pretrained(
    model: PreTrainedModel,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    source: Origin | None = None,
) -> Path:
    """Write a model of transformers, converted or not, to a folder.

    What ``bioconvert.save`` writes, and ``config.json`` and, for a model that generates text,
    ``generation_config.json``. The configuration of a converted model is marked, so that ``from_pretrained``
    of transformers itself fails instead of putting the weights into the original classes; ``bioconvert
    revert`` makes a folder that transformers loads.

    Args:
        model: the model.
        path: the folder to write.
        overwrite: whether a folder that isn't empty may be replaced.
        source: what was converted, for the record and for the files beside the weights, as a tokenizer's.

    Returns:
        The folder.

    Raises:
        OptionError: no model of transformers.
        TargetError: the folder is in use or can't be written.
    """
    transformers = import_with_torchvision("transformers")
    inner = bare(model)
    if not isinstance(inner, transformers.PreTrainedModel):
        raise OptionError(
            f"the model must be one of transformers, not a {type(inner).__name__}; bioconvert.save saves any"
        )
    with tempfile.TemporaryDirectory() as made:
        return save_model(
            inner, path, overwrite=overwrite, source=source, beside=_configuration(inner, Path(made))
        )


def _configuration(model: Any, folder: Path) -> list[Path]:
    """Write the files that transformers itself writes beside weights."""
    config = copy.deepcopy(model.config)
    for key in (MARK, WEIGHTS):  # of a configuration that was read from a converted folder
        vars(config).pop(key, None)
    config.architectures = [original_class(model).__name__]
    config.dtype = str(model.dtype).removeprefix("torch.")
    config.save_pretrained(folder)
    if model.can_generate() and model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    return [folder / name for name in (CONFIG, _GENERATION) if (folder / name).exists()]


def _advice(folder: Path) -> str:
    """Say what a folder is that isn't ours, and what to do with it."""
    if not folder.is_dir():
        return f"{folder}: there is no such folder; nothing is downloaded"
    if (folder / CONFIG).exists():
        return (
            f"{folder}: is a folder of transformers that bioconvert did not write. Load it there and "
            f"convert the model, or convert the folder: bioconvert convert {folder} --rules … --out …"
        )
    return f"{folder}: must be a folder that bioconvert wrote, with a {MANIFEST} in it"
