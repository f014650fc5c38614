"""Models of transformers, by class name and configuration."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from bioconvert.checkpoint.architectures.kind import Args, Candidate, Kind
from bioconvert.checkpoint.architectures.torchvision_ops import import_with_torchvision
from bioconvert.checkpoint.folders.config_mark import without_mark
from bioconvert.core.classes import import_class, qualified_name
from bioconvert.core.errors import ArchitectureError
from bioconvert.core.suggest import hint
from bioconvert.graph.classes import original_class


def _build(name: str, args: Args) -> nn.Module:
    transformers = import_with_torchvision("transformers")
    cls = _class(transformers, name)
    config = _without_downloads(args)
    model_type = config.pop("model_type", None)
    own = getattr(cls, "config_class", None)
    if model_type in transformers.CONFIG_MAPPING:
        built = transformers.CONFIG_MAPPING[model_type].from_dict(config)
    elif own is not None and own.model_type == model_type:
        built = own.from_dict(config)
    else:
        known = transformers.CONFIG_MAPPING.keys()
        raise ArchitectureError(
            f"transformers knows no model type {model_type!r}. {hint(str(model_type), known)}"
        )
    if getattr(built, "use_pretrained_backbone", False):
        built.use_pretrained_backbone = False  # it would be downloaded, and its weights are in the checkpoint
    model: nn.Module = cls(built)
    return model


def _without_downloads(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what building would fetch: a backbone's weights, and code from a hub's repository."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found[key] = _without_downloads(value)
        elif not (key.endswith("_implementation") and "/" in str(value)):
            found[key] = False if key == "use_pretrained_backbone" else value
    return found


def _class(transformers: Any, name: str) -> Any:
    """Find the model class: one of transformers by its short name, another by its full one."""
    found: Any = import_class(name) if "." in name else getattr(transformers, name, None)
    if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
        models = [each for each in dir(transformers) if each.endswith("Model") or "For" in each]
        raise ArchitectureError(f"transformers has no model class named {name!r}. {hint(name, models)}")
    return found


def _candidates(model: nn.Module) -> Iterator[Candidate]:
    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(model, transformers.PreTrainedModel):
        return
    cls = original_class(model)
    ours = getattr(transformers, cls.__name__, None) is cls
    yield cls.__name__ if ours else qualified_name(cls), _config_of(model)


def _config_of(model: Any) -> dict[str, Any]:
    config = _without_origin(json.loads(model.config.to_json_string(use_diff=False)))
    attention = getattr(model.config, "_attn_implementation", None)
    return {**config, "attn_implementation": attention} if isinstance(attention, str) else config


def from_config(config: Mapping[str, Any]) -> Candidate:
    """Take a ``config.json`` of transformers for class name and configuration.

    Raises:
        ArchitectureError: it names no class.
    """
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ArchitectureError(
            "the config must name the model's class under 'architectures', such as GPT2LMHeadModel"
        )
    if not names[
        0
    ].isidentifier():  # a full name is imported, which only a caller or our manifest may ask for
        raise ArchitectureError(
            f"the config must name a class of transformers, not {names[0][:200]!r}; name your own by "
            "--arch package.module:callable"
        )
    return names[0], _without_origin(config)


def _without_origin(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what depends on where the configuration was loaded from, and by which version."""
    origin = {"_name_or_path", "transformers_version"}
    return {key: value for key, value in without_mark(config).items() if key not in origin}


TRANSFORMERS = Kind("transformers", "transformers", _build, _candidates)
