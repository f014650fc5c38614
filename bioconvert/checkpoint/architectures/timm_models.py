"""Models of timm, by their names there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from bioconvert.checkpoint.architectures.kind import Args, Candidate, Kind
from bioconvert.checkpoint.architectures.torchvision_ops import import_with_torchvision
from bioconvert.core.errors import ArchitectureError
from bioconvert.core.suggest import hint

_LOADS = ("pretrained", "checkpoint_path", "pretrained_cfg_overlay")
_STRUCTURAL = ("num_classes", "input_size", "fixed_input_size", "global_pool")


def _build(name: str, args: Args) -> nn.Module:
    timm = import_with_torchvision("timm")
    if not timm.is_model(name):
        known = timm.list_models()
        raise ArchitectureError(
            f"there is no timm model named {name!r}. {hint(name.partition('.')[0], known)}"
        )
    for option in _LOADS:
        if args.get(option):
            raise ArchitectureError(
                f"the timm argument {option!r} must be left out: the weights come from a file"
            )
    model: nn.Module = timm.create_model(name, pretrained=False, **args)
    return model


def _candidates(model: nn.Module) -> Iterator[Candidate]:
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if not isinstance(config, Mapping) or not isinstance(config.get("architecture"), str):
        return
    architecture, tag = config["architecture"], config.get("tag")
    names = [f"{architecture}.{tag}", architecture] if tag else [architecture]
    recorded = dict(getattr(model, "_model_args", {}))
    seen = {name: value for name, value in _read_off(model).items() if value is not None}
    for name in names:
        yield name, recorded
        yield name, {"num_classes": seen["num_classes"]} if "num_classes" in seen else {}
        yield name, {**recorded, **seen}


def _read_off(model: nn.Module) -> dict[str, Any]:
    """Read arguments off a model that was made with others than the defaults."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return {
        "num_classes": getattr(model, "num_classes", None),
        "in_chans": getattr(first, "in_channels", None),
        "img_size": getattr(getattr(model, "patch_embed", None), "img_size", None),
    }


def from_config(config: Mapping[str, Any]) -> Candidate:
    """Take a timm ``config.json`` for name and arguments."""
    of_weights = config.get("pretrained_cfg")
    args = dict(config.get("model_args") or {})
    if isinstance(of_weights, Mapping):
        args["pretrained_cfg"] = {key: of_weights[key] for key in _STRUCTURAL if key in of_weights}
    if "num_classes" in config:
        args["num_classes"] = config["num_classes"]
    return str(config["architecture"]), args


TIMM = Kind("timm", "timm", _build, _candidates)
