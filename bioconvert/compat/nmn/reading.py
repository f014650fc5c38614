"""A state dict of nmn's layers → one of ours, with a description of each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bioconvert.compat.listing import listed
from bioconvert.compat.nmn.evidence import Finding, find_layers
from bioconvert.compat.nmn.generations import Generation, check_generation
from bioconvert.compat.nmn.given import Given
from bioconvert.compat.nmn.kinds import KINDS
from bioconvert.compat.nmn.layer import Layer, alpha_factor, tensors_of_ours
from bioconvert.compat.nmn.resolving import Resolved, resolve, told_generation
from bioconvert.core.errors import ArchitectureError, OptionError

_HEAD = (
    "what names and shapes don't tell of nmn's layers must be said by options, or by a model of our layers. "
    "Missing or wrong:"
)


@dataclass(frozen=True, slots=True)
class Imported:
    """What a state dict of nmn's layers stands for.

    Args:
        state: its tensors by the names and in the shapes that our layers have; all others as they were.
        layers: nmn's layers.
        generation: their generation.
        others: names of the tensors that belong to none of them.
    """

    state: Mapping[str, torch.Tensor]
    layers: tuple[Layer, ...]
    generation: Generation
    others: tuple[str, ...]


def read(
    state_dict: Mapping[str, torch.Tensor],
    *,
    generation: str | None = None,
    options: Mapping[str, Mapping[str, object] | str] | None = None,
) -> Imported:
    """Read a state dict of a model that has layers of nmn.

    Args:
        state_dict: tensors by name.
        generation: ``"0.1"`` or ``"0.3"``; needed where the tensors don't tell it.
        options: glob over the layers' names → the options of nmn's constructors that tensors don't tell, such
            as ``stride``, ``epsilon`` and ``spherical``; where several globs give one, the first counts. In
            place of options, ``"defaults"`` says that all the rest has the constructor's defaults, and
            ``"plain"`` that something is no layer of nmn.

    Raises:
        ArchitectureError: no tensor is named as those of nmn's layers are.
        OptionError: something isn't told and wasn't given, or is wrong; every layer and option is named.

    Example:
        >>> state = {"weight": torch.zeros(3, 8), "bias": torch.zeros(3), "alpha": torch.ones(1)}
        >>> read(state, generation="0.1", options={"**": {"epsilon": 1e-4}}).layers[0].becomes
        'YatLinear'
    """
    named = check_generation(generation)
    given = Given(options)
    findings = find_layers(state_dict)
    _check_any(findings, given, state_dict)
    told = named or told_generation(findings)
    resolved, problems = resolve(findings, given, told)
    if problems or told is None:
        raise OptionError("\n  ".join([_HEAD, *problems]))
    return _imported(state_dict, resolved, told)


def load_layer(
    state_dict: Mapping[str, torch.Tensor], kind: str, *, generation: str, **options: object
) -> nn.Module:
    """Build the layer of ours that computes what one layer of nmn does, on copies of its tensors.

    Args:
        state_dict: the layer's own tensors.
        kind: nmn's class, such as ``"YatNMN"`` or ``"YatConv2D"``.
        generation: ``"0.1"`` or ``"0.3"``.
        **options: those of nmn's constructor that the tensors don't tell; ``defaults=True`` for the rest.

    Raises:
        ArchitectureError: the tensors aren't those of such a layer.
        OptionError: an option is missing or wrong; all are named.

    Example:
        >>> state = {"weight": torch.ones(2, 3), "alpha": torch.ones(1)}
        >>> load_layer(state, "YatNMN", generation="0.3", epsilon=1.0, defaults=True)(torch.zeros(3))
        tensor([0., 0.], grad_fn=...)
    """
    if "" not in {found.path for found in find_layers(state_dict)}:
        raise ArchitectureError(f"these must be the tensors of one layer of nmn: {listed(state_dict)}")
    imported = read(state_dict, generation=generation, options={"": {"kind": kind, **options}})
    module = imported.layers[0].build()
    own = {name: tensor.detach().clone() for name, tensor in imported.state.items()}
    module.load_state_dict(own, assign=True)
    return module


def _check_any(findings: Sequence[Finding], given: Given, state: Mapping[str, torch.Tensor]) -> None:
    said = [given.get(found.path, "kind")[1] for found in findings]
    if not any(found.certain or name for found, name in zip(findings, said, strict=True)):
        raise ArchitectureError(
            "this is no checkpoint of nmn: no module has a weight with an alpha or epsilon_param beside it, "
            f"an embedding, or q_proj, k_proj and v_proj with an alpha; its names are {listed(state)}. "
            "If alpha is constant everywhere, say by options of which kind the layers are"
        )


def _imported(
    state: Mapping[str, torch.Tensor], resolved: Sequence[Resolved], generation: Generation
) -> Imported:
    renamed: dict[str, torch.Tensor] = {}
    taken: set[str] = set()
    for each in resolved:
        prefix = f"{each.finding.path}." if each.finding.path else ""
        ours = tensors_of_ours(KINDS[each.layer.kind], each.finding.tensors, alpha_factor(each.layer))
        taken |= {prefix + name for name in each.finding.tensors}
        renamed |= {prefix + name: tensor for name, tensor in ours.items()}
    others = tuple(name for name in state if name not in taken)
    layers = tuple(each.layer for each in resolved)
    return Imported({**{name: state[name] for name in others}, **renamed}, layers, generation, others)
