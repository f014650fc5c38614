"""Names in transformers' files → names in its models, where newer versions call parts of a model otherwise.

A checkpoint of ViT on disk has ``encoder.layer.0.attention.attention.query`` for what its model calls
``layers.0.attention.q_proj``. transformers keeps the list of such changes for each model.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterable
from typing import Any

from torch import nn

from bioconvert.core.errors import ArchitectureError

_log = logging.getLogger("bioconvert")
_MAPPING, _RENAMING = "transformers.conversion_mapping", "transformers.core_model_loading"


def names_in_model(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Map the names in a checkpoint to those that the model has for the same tensors.

    Args:
        model: the model; of any but those of transformers every name stays.
        names: names in its checkpoint.

    Raises:
        ArchitectureError: transformers puts tensors together or apart when it loads them.
    """
    given = list(names)
    known = model.state_dict().keys()
    same = {name: name for name in given}
    changes = [] if known >= set(given) else _changes(model)
    if not changes:
        return same
    found = {name: name if name in known else _renamed(name, changes) for name in given}
    moved = sum(new != old for old, new in found.items())
    if moved == 0 or len(set(found.values())) < len(found):
        return same
    _log.info("%d tensors have the names that %s has for them now", moved, type(model).__name__)
    return found


def _changes(model: nn.Module) -> list[Any]:
    """Give transformers' list of changes for a model; older versions have none."""
    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(model, transformers.PreTrainedModel):
        return []
    try:
        mapping = importlib.import_module(_MAPPING)
        return list(mapping.get_model_conversion_mapping(model))
    except (ImportError, AttributeError, TypeError):
        return []


def _renamed(name: str, changes: list[Any]) -> str:
    loading = importlib.import_module(_RENAMING)
    renamings = [each for each in changes if isinstance(each, loading.WeightRenaming)]
    converters = [each for each in changes if isinstance(each, loading.WeightConverter)]
    found, computed_by = loading.rename_source_key(name, renamings, converters)
    if computed_by is not None:
        raise ArchitectureError(
            f"{name} isn't loaded as it is: transformers computes tensors of this model from several in the "
            "file. Load the model by transformers, convert it in memory, and save it by "
            "bioconvert.integrations.transformers.save_pretrained"
        )
    return str(found)
