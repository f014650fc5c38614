"""Converting a model of many small layers, against other libraries that rewrite a model."""

import logging
import warnings
from collections.abc import Callable

import torch
from torch import nn

import bioconvert as bc

from .harness import Bar, Contender, Figure, Result, alternate, installed, ratio

LAYERS = 2_000
SIZE = 8
SECONDS = 90.0
OURS = "bioconvert"
MOST_MILLISECONDS = Bar("<=", 100.0)
NOTHING_COPIED = Bar("<=", 0)
RULES = {"version": 1, "rules": [{"match": {"type": "Linear"}, "replace": {"with": "YatLinear"}}]}


def run(*, quick: bool = False) -> Result:
    """Time the conversion of a fresh model by every contender, and count the tensors that ours copied."""
    for chatty in ("torchao", "bioconvert"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    conversions: dict[str, Callable[[nn.Module], object]] = {
        OURS: lambda model: bc.convert(model, RULES),
        "swap, nn": _swap(nn.Linear),
        "fx.symbolic_trace": torch.fx.symbolic_trace,
    }
    missing = []
    for peer, (module, load) in PEERS.items():
        if installed(module):
            conversions[peer] = load()
        else:
            missing.append(f"{module} is not installed: left out.")
    contenders = [Contender(name, convert, _model, fresh=True) for name, convert in conversions.items()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        taken = alternate(f"{LAYERS:,} Linears", contenders, budget=SECONDS, quick=quick)
    figures = [
        Figure(f"{OURS}: median", taken[OURS].median * 1e3, "ms", MOST_MILLISECONDS),
        Figure(f"{OURS}: weights and biases not at their old address", _moved(), "tensors", NOTHING_COPIED),
        *(ratio(taken, name, OURS) for name in taken if name != OURS),
    ]
    return Result("convert", tuple(taken.values()), tuple(figures), tuple(missing))


def _model() -> nn.Module:
    return nn.Sequential(*(nn.Linear(SIZE, SIZE) for _ in range(LAYERS)))


def _moved() -> int:
    """How many of the parameters lie elsewhere, or are gone, after a conversion."""
    model = _model()
    before = {name: each.data_ptr() for name, each in model.named_parameters()}
    after = dict(bc.convert(model, RULES).named_parameters())
    if not all(isinstance(each, bc.layers.YatLinear) for each in model):
        raise RuntimeError(f"every one of the {LAYERS} layers must be converted")
    return sum(name not in after or after[name].data_ptr() != at for name, at in before.items())


def _swap(replacement: Callable[[int, int], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    """The loop a user would write: a new layer in the place of each, with the old values copied."""

    def swap(model: nn.Module) -> nn.Module:
        for name, old in list(model.named_children()):
            new = replacement(old.in_features, old.out_features)
            with torch.no_grad():
                new.weight.copy_(old.weight)
                new.bias.copy_(old.bias)
            setattr(model, name, new)
        return model

    return swap


def _nmn() -> Callable[[nn.Module], object]:
    from nmn.torch import YatNMN

    return _swap(YatNMN)


def _torchao() -> Callable[[nn.Module], object]:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    return lambda model: quantize_(model, Int8WeightOnlyConfig())


def _peft() -> Callable[[nn.Module], object]:
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(r=4, target_modules=r"\d+")
    return lambda model: inject_adapter_in_model(settings, model)


PEERS: dict[str, tuple[str, Callable[[], Callable[[nn.Module], object]]]] = {
    "swap, nmn": ("nmn", _nmn),
    "torchao quantize_": ("torchao", _torchao),
    "PEFT inject": ("peft", _peft),
}
