"""Models of torchvision, by their names there."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator

from torch import nn

from bioconvert.checkpoint.architectures.kind import Args, Candidate, Kind
from bioconvert.checkpoint.architectures.torchvision_ops import import_torchvision
from bioconvert.core.errors import ArchitectureError
from bioconvert.core.suggest import hint
from bioconvert.graph.classes import original_class

_LOADS = ("weights", "weights_backbone", "pretrained", "pretrained_backbone")


def _build(name: str, args: Args) -> nn.Module:
    models = import_torchvision().models
    known = models.list_models()
    if name not in known:
        raise ArchitectureError(f"there is no torchvision model named {name!r}. {hint(name, known)}")
    for option in _LOADS:
        if args.get(option):
            raise ArchitectureError(
                f"the torchvision argument {option!r} must be left out: the weights come from a file"
            )
    # A detector's builder fetches weights for its backbone unless it is told not to.
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    without = {option: None for option in ("weights", "weights_backbone") if option in parameters}
    with warnings.catch_warnings():
        # googlenet and inception_v3 announce a change of their initial values, which are overwritten here.
        warnings.simplefilter("ignore", FutureWarning)
        model: nn.Module = models.get_model(name, **{**args, **without})
    return model


def _candidates(model: nn.Module) -> Iterator[Candidate]:
    module = original_class(model).__module__
    if module.partition(".")[0] != "torchvision" or module not in sys.modules:
        return
    models = import_torchvision().models
    names = [name for name in models.list_models() if models.get_model_builder(name).__module__ == module]
    for args in (*({"num_classes": count} for count in _class_counts(model)), {}):
        for name in names:
            yield name, args


def _class_counts(model: nn.Module) -> list[int]:
    """Read off how many classes there may be: an attribute, or the width of the last layer."""
    said = getattr(model, "num_classes", None)
    widths = [
        width
        for module in model.modules()
        for width in (getattr(module, "out_features", None), getattr(module, "out_channels", None))
        if isinstance(width, int)
    ]
    counts = ([said] if isinstance(said, int) else []) + widths[-1:]
    return list(dict.fromkeys(counts))


TORCHVISION = Kind("torchvision", "torchvision", _build, _candidates)
