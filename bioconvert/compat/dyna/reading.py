"""A state dict with layers of dyna → one of ours, with a description of each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bioconvert.compat.dyna.differences import differences
from bioconvert.compat.dyna.evidence import Finding, as_pairs, find_layers, find_orphans
from bioconvert.compat.dyna.given import Given
from bioconvert.compat.dyna.kinds import COMPOSER_CHILD, PLAIN
from bioconvert.compat.dyna.layer import Layer
from bioconvert.compat.dyna.resolving import resolve
from bioconvert.compat.listing import by_problem, listed
from bioconvert.core.errors import ArchitectureError

_HEAD = "the layers of dyna can't be read. Missing, contradictory, or to be said by options:"


@dataclass(frozen=True, slots=True)
class Imported:
    """What a state dict with layers of dyna stands for.

    Args:
        state: its tensors by the names and in the shapes that our layers have; all others as they were.
        layers: dyna's layers.
        others: names of the tensors that belong to none of them.
        differences: in what our layers compute something else than dyna's.
    """

    state: Mapping[str, torch.Tensor]
    layers: tuple[Layer, ...]
    others: tuple[str, ...]
    differences: tuple[str, ...]


def read(
    state_dict: Mapping[str, torch.Tensor],
    *,
    options: Mapping[str, Mapping[str, object] | str] | None = None,
) -> Imported:
    """Read a state dict of a model that has layers of dyna.

    Names and shapes tell the layers, and of their arguments all but the window of a convolution, the numbers
    that aren't learnt, and where they fit several, the channels. What isn't told has our defaults, which
    each layer names as ``assumed``; channels, and the padding of a layer that has a value for it, must be
    said.

    Args:
        state_dict: tensors by name.
        options: glob over the layers' names → arguments of ours that tensors don't tell, such as ``stride``
            and ``in_channels``; where several globs give one, the first counts. In place of them,
            ``"plain"`` says that something is no layer of dyna.

    Raises:
        ArchitectureError: there is no such layer, or tensors are missing or contradict each other, or
            something must be said; every layer and problem is named.
        OptionError: an option can't be used.

    Example:
        >>> from bioconvert.layers import TensorComposerDelta
        >>> state = TensorComposerDelta(16, 6, 9, rank=3).state_dict(prefix="net.")
        >>> layer = read(state).layers[0]
        >>> layer.becomes, layer.arguments["rank"], layer.assumed[0]
        ('TensorComposerDelta', 3, 'repulsion')
    """
    given = Given(options)
    findings = find_layers(state_dict)
    orphans = find_orphans(state_dict, findings)
    findings = [found for found in findings if not _is_plain(found.path, given)]
    problems = [
        (path, f"has {', '.join(names)}, but no tensors of a composer in {COMPOSER_CHILD}")
        for path, names in orphans
        if not _is_plain(path, given)
    ]
    if not findings and not problems:
        raise ArchitectureError(_no_layer(state_dict))
    layers: list[Layer] = []
    for found in findings:
        layer, wrong = resolve(found, given)
        layers += [] if layer is None else [layer]
        problems += [(found.path, text) for text in wrong]
    texts = by_problem(problems) or given.unused()
    if texts:
        raise ArchitectureError("\n  ".join([_HEAD, *texts]))
    return _imported(state_dict, findings, layers)


def load_layer(state_dict: Mapping[str, torch.Tensor], **options: object) -> nn.Module:
    """Build our layer from the tensors of one of dyna's, on copies of them.

    Args:
        state_dict: the layer's own tensors.
        **options: arguments of ours that the tensors don't tell.

    Raises:
        ArchitectureError: the tensors aren't those of one layer, or something must be said.
        OptionError: an option can't be used.

    Example:
        >>> from bioconvert.layers import DynamicConv2dDelta
        >>> state = DynamicConv2dDelta(4, 6, 16).state_dict()
        >>> load_layer(state, in_channels=4).out_channels
        6
    """
    found = [each.path for each in find_layers(state_dict)]
    if found != [""]:
        raise ArchitectureError(f"these must be the tensors of one layer of dyna: {listed(state_dict)}")
    imported = read(state_dict, options={"": options})
    if imported.others:
        raise ArchitectureError(f"these are no tensors of a layer of dyna: {listed(imported.others)}")
    module = imported.layers[0].build()
    own = {name: tensor.detach().clone() for name, tensor in imported.state.items()}
    module.load_state_dict(own, assign=True)
    return module


def _is_plain(path: str, given: Given) -> bool:
    return bool(given.get(path, "kind")[1] == PLAIN)


def _no_layer(state: Mapping[str, torch.Tensor]) -> str:
    return (
        "this is no checkpoint with layers of dyna: no module has a context_transform beside complex banks "
        f"(weights, extras) or spaces (space_i, space_j, direct_G_Re, …); its names are {listed(state)}"
    )


def _imported(
    state: Mapping[str, torch.Tensor], findings: Sequence[Finding], layers: Sequence[Layer]
) -> Imported:
    taken: set[str] = set()
    unused: set[str] = set()
    for found, layer in zip(findings, layers, strict=True):
        prefix = f"{found.path}." if found.path else ""
        taken |= {prefix + name for name in found.names}
        unused |= {prefix + name for name in layer.unused}
    kept = {
        name: as_pairs(tensor) if name in taken else tensor
        for name, tensor in state.items()
        if name not in unused
    }
    others = tuple(name for name in kept if name not in taken)
    return Imported(kept, tuple(layers), others, differences(layers, state))
