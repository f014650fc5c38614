"""Which modules of a state dict are layers of nmn, as far as names and shapes tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from bioconvert.compat.nmn.generations import Generation
from bioconvert.compat.nmn.kinds import DEFAULTS, KINDS, PROJECTIONS, Kind

_HEADS = (*PROJECTIONS, "out_proj")
_ATTENTION = {f"{name}.{part}" for name in _HEADS for part in ("weight", "bias")} | {"alpha"}
_PARTS = {"weight", "bias", "alpha", "epsilon_param", "mask"}
_EMBEDDING = {"embedding", "alpha"}
_SECOND: Generation = "0.3"


@dataclass(frozen=True, slots=True)
class Finding:
    """A module that is, or may be, a layer of nmn.

    Args:
        path: its name.
        tensors: its tensors, by their own names.
        kinds: the classes that it may be of.
        certain: whether no common layer of torch has tensors like these.
    """

    path: str
    tensors: Mapping[str, torch.Tensor]
    kinds: tuple[Kind, ...]
    certain: bool

    @property
    def generation(self) -> Generation | None:
        """The generation, where the tensors tell it: only the second one's layers show theirs."""
        if all(len(kind.generations()) == 1 for kind in self.kinds) or "epsilon_param" in self.tensors:
            return _SECOND
        bias = self.tensors.get("bias")
        odd = bias is not None and all(
            kind.family != "transposed" and len(bias) != len(self.tensors["weight"]) for kind in self.kinds
        )
        return _SECOND if odd else None

    @property
    def inside(self) -> frozenset[str]:
        """The names of the modules that are parts of this one."""
        parts = {name.rpartition(".")[0] for name in self.tensors} - {""}
        return frozenset(_join(self.path, part) for part in parts)

    def untold(self, kind: Kind, generation: Generation) -> dict[str, object]:
        """Name the options that the tensors don't tell, with the defaults of nmn's constructor."""
        told = set()
        if "epsilon_param" in self.tensors:
            told.add("epsilon")
        if "alpha" in self.tensors:
            told.add("constant_alpha")
        bias = self.tensors.get("bias")
        told.add("softplus_bias" if bias is None else "constant_bias")
        if bias is not None and (len(bias) > 1 or len(self.tensors["weight"]) == 1):
            told |= {"out_features", "out_channels"}
        options = DEFAULTS[generation][kind.family]
        return {name: value for name, value in options.items() if name not in told}


def names_of(kind: Kind) -> frozenset[str]:
    """Give the names that tensors of a kind's layers may have."""
    own = {"attention": _ATTENTION, "embedding": _EMBEDDING}.get(kind.family, _PARTS)
    return frozenset(own)


def find_layers(state: Mapping[str, torch.Tensor]) -> list[Finding]:
    """Find the modules of a state dict that are, or may be, layers of nmn, attentions first."""
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        path, _, own = name.rpartition(".")
        modules.setdefault(path, {})[own] = tensor
    attentions = dict(_attentions(modules))
    singles = (_single(path, tensors) for path, tensors in modules.items() if path not in attentions)
    return [*attentions.values(), *(found for found in singles if found is not None)]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _attentions(modules: Mapping[str, Mapping[str, torch.Tensor]]) -> Iterator[tuple[str, Finding]]:
    for child in modules:
        path, _, name = child.rpartition(".")
        if name == "q_proj" and all(_join(path, part) in modules for part in PROJECTIONS):
            own = dict(modules.get(path, {}))
            for part in _HEADS:
                own |= {f"{part}.{key}": value for key, value in modules.get(_join(path, part), {}).items()}
            if own.keys() <= _ATTENTION and _is_square(own):
                yield path, Finding(path, own, (KINDS["MultiHeadYatAttention"],), "alpha" in own)


def _is_square(tensors: Mapping[str, torch.Tensor]) -> bool:
    weights = [tensors.get(f"{part}.weight") for part in PROJECTIONS]
    if any(weight is None or weight.dim() != 2 for weight in weights):
        return False
    shapes = {tuple(weight.shape) for weight in weights if weight is not None}
    return len(shapes) == 1 and all(rows == columns for rows, columns in shapes)


def _single(path: str, tensors: Mapping[str, torch.Tensor]) -> Finding | None:
    embedding = tensors.get("embedding")
    if embedding is not None and embedding.dim() == 2 and tensors.keys() <= _EMBEDDING:
        return Finding(path, tensors, (KINDS["YatEmbed"],), True)
    weight = tensors.get("weight")
    if weight is None or not weight.is_floating_point() or not tensors.keys() <= _PARTS:
        return None
    if not all(tensors[part].numel() == 1 for part in ("alpha", "epsilon_param") if part in tensors):
        return None
    kinds = tuple(kind for kind in KINDS.values() if _fits(kind, weight, tensors.get("bias")))
    certain = "alpha" in tensors or "epsilon_param" in tensors
    return Finding(path, tensors, kinds, certain) if kinds else None


def _fits(kind: Kind, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    if kind.family not in ("linear", "conv", "transposed") or weight.dim() != kind.dims + 2:
        return False
    if bias is None or (bias.dim() == 1 and len(bias) == 1):
        return True
    rows, columns = weight.shape[:2]
    if kind.family == "transposed":
        groups = len(bias) // max(columns, 1)
        return bias.dim() == 1 and groups * columns == len(bias) and groups > 0 and rows % groups == 0
    return bias.dim() == 1 and 0 < len(bias) <= rows
