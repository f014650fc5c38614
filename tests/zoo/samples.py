"""From a line of a table to a model and its inputs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bioconvert.checkpoint.architectures.torchvision_ops import import_torchvision, import_with_torchvision

from .entry import Entry, Sample
from .tiny_config import tiny_config

BATCH, LENGTH = 2, 8
FIRST_TOKEN, LAST_TOKEN = 3, 99  # the tiny vocabularies hold 100 words, of which the first ones are special
AWAKE_STD = 0.02


def sample(entry: Entry) -> Sample:
    """Give how an entry is built, from a fixed random state, and what it is called with."""
    build, inputs = _SOURCES[entry.source](entry.name, entry.options)

    def make() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return awake(build())

    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Sample(make, inputs())


def awake(model: nn.Module) -> nn.Module:
    """Give numbers to parameters that start at zero: behind a zero nothing could be seen to change."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and not parameter.any():
                parameter.normal_(std=AWAKE_STD)
    return model


def _torchvision(name: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    import_torchvision()
    from torchvision.models import get_model

    keywords = {"weights": None, **options.get("build", {})}
    if "segmentation" in options.get("kind", ""):
        keywords["weights_backbone"] = None
    batch = options.get("batch", BATCH)
    return lambda: get_model(name, **keywords), lambda: (torch.randn(batch, 3, *options["size"]),)


def _timm(name: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    timm = import_with_torchvision("timm")
    channels = options.get("channels", 3)
    return (
        lambda: timm.create_model(name, pretrained=False, **options.get("build", {})),
        lambda: (torch.randn(BATCH, channels, *options["size"]),),
    )


def _transformers(name: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    transformers = import_with_torchvision("transformers")
    cls = getattr(transformers, name)
    config = tiny_config(cls.config_class, options.get("config", {}))
    return lambda: cls(config), lambda: {key: _input(kind) for key, kind in options["inputs"].items()}


def _input(kind: Any) -> Any:
    """Make one argument: `tokens`, `ones`, a shape of random numbers, or a dict that says more."""
    if kind == "tokens":
        return torch.randint(FIRST_TOKEN, LAST_TOKEN, (BATCH, LENGTH))
    if kind == "ones":
        return torch.ones(BATCH, LENGTH, dtype=torch.long)
    if isinstance(kind, list):
        return torch.randn(kind)
    if "below" in kind:
        return torch.randint(0, kind["below"], kind["shape"])
    if "values" in kind:
        return torch.tensor(kind["values"])
    if "filled" in kind:
        return torch.full(kind["shape"], kind["filled"])
    return kind["plain"]


_SOURCES = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}
