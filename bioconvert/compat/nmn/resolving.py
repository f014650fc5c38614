"""What was found in a state dict and what the caller says of it, put together; all gaps are named at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bioconvert.compat.listing import by_problem
from bioconvert.compat.nmn.evidence import Finding
from bioconvert.compat.nmn.generations import GENERATIONS, MEANINGS, Generation
from bioconvert.compat.nmn.given import Given
from bioconvert.compat.nmn.kinds import NO_DEFAULT, PLAIN, Kind, kind_named
from bioconvert.compat.nmn.layer import Layer, build_layer, describe
from bioconvert.core.errors import first_line


@dataclass(frozen=True, slots=True)
class Resolved:
    """A layer of nmn of which all is known.

    Args:
        layer: what it is and becomes.
        finding: its tensors.
    """

    layer: Layer
    finding: Finding


def told_generation(findings: Iterable[Finding]) -> Generation | None:
    """Give the generation that the layers' tensors tell, if any does."""
    return next((found.generation for found in findings if found.certain and found.generation), None)


def resolve(
    findings: Sequence[Finding], given: Given, generation: Generation | None
) -> tuple[list[Resolved], list[str]]:
    """Say of each layer what it becomes, or what is missing for that.

    Args:
        findings: the modules that are or may be layers of nmn, attentions before their parts.
        given: what the caller says of them.
        generation: what they compute; ``None`` where nothing tells it.

    Returns:
        The layers, and the problems, each a line.
    """
    resolved: list[Resolved] = []
    lacking: list[tuple[str, str]] = []
    inside: set[str] = set()
    for found in findings:
        said = given.get(found.path, "kind")[1]
        if said == PLAIN or found.path in inside:
            continue
        kind, need = _kind(found, said, given, generation)
        if kind is not None:
            inside |= found.inside
            each, need = _resolved(found, kind, generation, given)
            resolved += [each] if each is not None else []
        if need:
            lacking.append((found.path, need))
    problems = by_problem(lacking)
    if generation is None:
        problems.insert(0, f"the generation ({MEANINGS}): both name their tensors alike")
    # What is yet unknown may be what an option is for.
    return resolved, problems or given.unused()


def _resolved(
    found: Finding, kind: Kind, generation: Generation | None, given: Given
) -> tuple[Resolved | None, str]:
    """Put a layer together, or say what is missing or wrong."""
    if generation is None:
        return None, _named(kind, _needs(found, [kind], None, given))
    if generation not in _generations(found, kind):
        return None, f"no {kind.name} of generation {generation} has such tensors"
    options, missing = _options(found, kind, generation, given)
    if missing:
        return None, _named(kind, ", ".join(missing))
    layer = describe(found.path, kind, generation, found.tensors, options)
    try:
        build_layer(layer.becomes, layer.arguments, device="meta")
    except (ValueError, RuntimeError, AssertionError) as error:
        return None, f"as a {kind.name}: {first_line(error)}"
    return Resolved(layer, found), ""


def _named(kind: Kind, needs: str) -> str:
    return f"of a {kind.name}, {needs}" if needs else ""


def _generations(found: Finding, kind: Kind) -> tuple[Generation, ...]:
    return kind.generations() if found.generation is None else (found.generation,)


def _kind(
    found: Finding, said: str | None, given: Given, generation: Generation | None
) -> tuple[Kind | None, str]:
    """Give a layer's class, or say what is missing to tell it."""
    fitting = [kind for kind in found.kinds if _groups_fit(found, kind, given)] or found.kinds
    names = [kind.name for kind in fitting]
    if said is not None:
        kind = kind_named(said)
        if kind in found.kinds:
            return kind, ""
        return None, f"has the tensors of a {' or '.join(names)}, not of a {said}"
    if len(fitting) == 1 and found.certain:
        return fitting[0], ""
    choice = " or ".join(names if found.certain else [*names, PLAIN])
    needs = _needs(found, fitting, generation, given)
    return None, f"the kind, {choice}" + (f"; of a layer {needs}" if needs else "")


def _groups_fit(found: Finding, kind: Kind, given: Given) -> bool:
    """Say whether a transposed convolution's bias is as long as what is known of its groups says."""
    bias = found.tensors.get("bias")
    if kind.family != "transposed" or bias is None or len(bias) == 1:
        return True
    there, groups = given.get(found.path, "groups")
    known = there or given.get(found.path, "defaults")[1] is True
    return not known or len(bias) == found.tensors["weight"].shape[1] * (groups if there else 1)


def _needs(found: Finding, kinds: Sequence[Kind], generation: Generation | None, given: Given) -> str:
    """Name the missing options in each generation that the layer may be of."""
    texts = []
    for each in GENERATIONS if generation is None else (generation,):
        missing = [
            name
            for kind in kinds
            if each in _generations(found, kind)
            for name in _options(found, kind, each, given)[1]
        ]
        if missing:
            of = f" (in {each})" if generation is None else ""
            texts.append(", ".join(dict.fromkeys(missing)) + of)
    return " or ".join(texts)


def _options(
    found: Finding, kind: Kind, generation: Generation, given: Given
) -> tuple[dict[str, object], list[str]]:
    """Give a layer's options, and the names of the missing ones."""
    untold = found.untold(kind, generation)
    options: dict[str, object] = {}
    for name, default in untold.items():
        there, value = given.get(found.path, name)
        if there:
            options[name] = value
        elif name not in NO_DEFAULT and given.get(found.path, "defaults")[1] is True:
            options[name] = default
    return options, [name for name in untold if name not in options]
