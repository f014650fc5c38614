"""What a report says of a folder or file: read from the manifest, and seen on a model without values."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bioconvert.checkpoint import Architecture, Manifest, read_manifest
from bioconvert.checkpoint.files.dtypes import byte_count
from bioconvert.checkpoint.files.shards import read_text
from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.checkpoint.formats.layout import MANIFEST, locate
from bioconvert.checkpoint.tensors.torch_dtypes import TORCH_DTYPES
from bioconvert.cli.contents import read_contents
from bioconvert.cli.report_weights import converted_weights, file_weights, recorded_weights
from bioconvert.cli.source import find_modules_here
from bioconvert.core.errors import BioconvertError, CorruptFileError
from bioconvert.core.results import Applied, Outcomes, Skipped
from bioconvert.organism.record import GROWN
from bioconvert.report.html.evidence import Evidence, Growth
from bioconvert.report.html.growing import timeline_of
from bioconvert.report.text import plural, size
from bioconvert.report.tree import TensorLine
from bioconvert.surgery import make_plan, replay
from bioconvert.surgery.costs import CostChange, Costs, ModuleCosts, costs_of

if TYPE_CHECKING:
    from bioconvert.cli.inputs import Samples

HISTORY = "plasticity.json"
"""Where a history of plasticity is looked for, as ``History.to_json`` writes it."""
_MAX_HISTORY = 1 << 28
_NO_CODE = "The model's code isn't known, so the classes of unconverted modules aren't either."
_NO_SKIPPED = "What the rules left alone isn't on record, and can't be worked out again here"
_AGAIN = (
    "What was changed is on record in the folder; what was left alone, and why, was worked out again from "
    "the rules in it."
)
_UNPROVEN = (
    "the rules would convert it, but the folder's model has it as it was: it wasn't used on the example "
    "inputs, couldn't be fitted, or went back since"
)
_NODE = "node_record"
"""The attribute in which a wrapped block keeps what is known of it."""
_ACTIONS = ("replace", "attach", "wrap")
_BROKEN = (ArithmeticError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)


def folder_evidence(path: Path, samples: Samples | None, history: Path | None) -> Evidence:
    """Gather what is known of a folder of ours, or of any checkpoint.

    Args:
        path: the folder or file.
        samples: what to count the operations of a call on, if there is anything.
        history: file with a history of plasticity, if there is one.

    Raises:
        CheckpointError: it is unsafe, corrupt or no checkpoint.
        CorruptFileError: a manifest or a history is damaged.
    """
    name = path.resolve().name
    notes = _history(history if history is not None else path / HISTORY, needed=history is not None)
    if locate(path).format != "bioconvert":
        return replace(_of_file(path, name), history=notes)
    manifest = read_manifest(path / MANIFEST)
    try:
        evidence = _of_manifest(path, name, manifest, samples)
        if evidence.growth is not None:
            timeline_of(evidence.growth, evidence.costs.before.parameters)
    except BioconvertError:
        raise
    except _BROKEN as error:
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise CorruptFileError(
            f"{path / MANIFEST}: what it says of the conversion can't be read ({said})"
        ) from error
    return replace(evidence, history=notes)


def _of_file(path: Path, name: str) -> Evidence:
    contents = read_contents(path)
    costs = Costs(tuple(_modules_of(contents.tensors)), None, "the model's code isn't known")
    facts = {
        "format": contents.format,
        "files": ", ".join(contents.files[:10]) + ("" if len(contents.files) <= 10 else ", …"),
        "tensors": f"{len(contents.tensors):,}",
        "size": size(contents.size),
    }
    return Evidence(
        name,
        "plain",
        CostChange(costs, costs),
        tensors=contents.tensors,
        weights=file_weights(path),
        facts=facts,
    )


def _of_manifest(folder: Path, name: str, manifest: Manifest, samples: Samples | None) -> Evidence:
    seen = _seen(folder, manifest, samples)
    lines = tuple(
        TensorLine(manifest.bare(tensor), record.dtype, record.shape)
        for tensor, record in sorted(manifest.tensors.items())
    )
    growth = (manifest.conversion or {}).get("organism")
    return Evidence(
        name,
        "converted" if manifest.converted else "plain",
        seen.costs,
        architecture=_architecture(manifest),
        rules=tuple(manifest.rules),
        outcomes=seen.outcomes if manifest.converted else None,
        outcomes_note=seen.note,
        tensors=lines,
        weights=converted_weights(folder, manifest)
        if manifest.converted
        else recorded_weights(folder, manifest),
        growth=None if growth is None else Growth(growth, tuple(_nodes(manifest))),
        facts=_facts(manifest),
        ties=manifest.ties,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What there is to see on the model that a manifest describes."""

    costs: CostChange
    outcomes: Outcomes
    note: str


def _seen(folder: Path, manifest: Manifest, samples: Samples | None) -> _Seen:
    """Build the model without values and do the conversion again; else go by the manifest's tensors."""
    done = list(_done(manifest))
    try:
        if manifest.architecture is None:
            return _Seen(_recorded_costs(manifest, done), Outcomes(done), f"{_NO_CODE} {_NO_SKIPPED}.")
        find_modules_here()
        base = Architecture.from_dict(manifest.architecture).build("meta", trusted=False, folder=folder)
        _take_formats(base, manifest)
        inputs = None if samples is None else samples.arguments(base)
        before = costs_of(base, inputs)
        skipped, note = _skipped(base, manifest, {(o.path, o.action) for o in done})
        if manifest.conversion is not None:
            replay(base, manifest.conversion)
        _take_formats(base, manifest)
        return _Seen(CostChange(before, costs_of(base, inputs)), Outcomes([*done, *skipped]), note)
    except (BioconvertError, *_BROKEN) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        return _Seen(_recorded_costs(manifest, done), Outcomes(done), f"{_NO_SKIPPED}: {said}")


def _done(manifest: Manifest) -> Iterator[Applied]:
    conversion = manifest.conversion or {}
    grows = "organism" in conversion
    for module in conversion.get("modules", ()):
        if grows and GROWN in module["path"].split("."):
            continue  # a branch took over what was done to the block that it is a clone of
        for step in module["steps"]:
            if str(step["action"]).startswith(_ACTIONS):
                path = ".".join(name for name in (module["path"], step["parameter"]) if name)
                yield Applied(path, str(step["rule"]), str(step["action"]), _how(step))


def _nodes(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    """Give what is known of each node of an organism."""
    steps = (step for module in (manifest.conversion or {})["modules"] for step in module["steps"])
    return (step["attributes"][_NODE] for step in steps if _NODE in step["attributes"])


def _how(step: Mapping[str, Any]) -> str:
    parts = [str(step["name"])]
    if step["into"] and step["action"] == "replace":
        was, now = (str(step[key]).rpartition(".")[2] for key in ("original_class", "into"))
        parts = [f"{was} → {now}"]
    dropping = step["dropping"]
    if dropping is not None and dropping["activation"]:
        parts.append(f"{dropping['activation']} dropped")
    if dropping is not None and dropping["norm_dropped"]:
        parts.append("normalisation folded in")
    if step["morph"] is not None:
        parts.append(f"goes over within {plural(int(step['morph']['steps']), 'step')}")
    return "; ".join(parts)


def _skipped(base: nn.Module, manifest: Manifest, done: set[tuple[str, str]]) -> tuple[list[Skipped], str]:
    """Plan once more on the unconverted model, for what was left alone."""
    if len(manifest.rules) != 1:
        return [], f"{_NO_SKIPPED}: the model was converted {len(manifest.rules)} times." if done else ""
    try:
        plan = make_plan(base, manifest.rules[0])
    except BioconvertError as error:
        return [], f"{_NO_SKIPPED}: {(str(error).splitlines() or [''])[0]}"
    skipped = [o for o in plan.skipped if (o.path, o.action) not in done]
    unproven = [
        Skipped(o.path, o.rule, o.action, _UNPROVEN) for o in plan.applied if (o.path, o.action) not in done
    ]
    return [*skipped, *unproven], _AGAIN


def _take_formats(model: nn.Module, manifest: Manifest) -> None:
    """Give a model without values the number formats of the tensors in the folder."""
    formats = {manifest.bare(name): TORCH_DTYPES[record.dtype] for name, record in manifest.tensors.items()}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta and formats.get(name, tensor.dtype) != tensor.dtype:
            tensor.data = torch.empty_like(tensor, dtype=formats[name])


def _recorded_costs(manifest: Manifest, done: Iterable[Applied]) -> CostChange:
    """Count by the manifest's tensors; classes are known of what was converted alone."""
    added = {manifest.bare(name) for name in manifest.added}
    lines = [TensorLine(manifest.bare(n), r.dtype, r.shape) for n, r in manifest.tensors.items()]
    unknown = "the model's code isn't known"
    kinds = {o.path: o.reason.partition(";")[0].partition(" → ") for o in done if o.action == "replace"}
    was, now = ({path: kind[side] for path, kind in kinds.items()} for side in (0, 2))
    before = [line for line in lines if line.name not in added]
    return CostChange(
        Costs(tuple(_modules_of(before, was)), None, unknown),
        Costs(tuple(_modules_of(lines, now, set(_added_buffers(manifest)))), None, unknown),
    )


def _added_buffers(manifest: Manifest) -> Iterator[str]:
    """Name the tensors that conversion added and that no optimizer trains."""
    for module in (manifest.conversion or {}).get("modules", ()):
        for step in module["steps"]:
            for name, tensor in step["tensors"].items():
                if tensor["kind"] == "buffer":
                    yield ".".join(part for part in (module["path"], name) if part)


def _modules_of(
    lines: Iterable[TensorLine], kinds: Mapping[str, str] | None = None, buffers_known: Container[str] = ()
) -> Iterator[ModuleCosts]:
    """Sum tensors up by the modules that their names tell of; floating ones count as parameters, but some."""
    kinds = kinds or {}
    found: dict[str, list[int]] = {"": [0, 0, 0]}
    for line in lines:
        sums = found.setdefault(line.name.rpartition(".")[0], [0, 0, 0])
        trains = line.dtype.startswith(("F", "BF", "C")) and line.name not in buffers_known
        sums[0 if trains else 1] += prod(line.shape)
        sums[2] += byte_count(line.dtype, line.shape) or 0
    for path, (parameters, buffers, nbytes) in found.items():
        yield ModuleCosts(path, kinds.get(path, ""), parameters, buffers, nbytes)


def _architecture(manifest: Manifest) -> str | None:
    return None if manifest.architecture is None else str(Architecture.from_dict(manifest.architecture))


def _facts(manifest: Manifest) -> dict[str, str]:
    source = manifest.source
    stored = sum(byte_count(record.dtype, record.shape) or 0 for record in manifest.tensors.values())
    facts = {
        "written by": ", ".join(f"{name} {version}" for name, version in sorted(manifest.tool.items())),
        "model": _architecture(manifest) or "not known; bc.load needs factory=",
        "converted from": "a model in memory" if source is None else f"{source.name} ({source.format})",
        "its SHA-256": "" if source is None else source.sha256,
        "tensors": f"{len(manifest.tensors):,}, {size(stored)}, each with its SHA-256",
        "added by conversion": f"{len(manifest.added):,}" if manifest.converted else "",
        "overwritten, originals kept": f"{len(manifest.originals):,}" if manifest.originals else "",
        "tied": plural(len(manifest.ties), "group") if manifest.ties else "",
        "without gradient": plural(len(manifest.frozen), "parameter") if manifest.frozen else "",
        "SHA-256 of the manifest": manifest.digest,
    }
    return {name: said for name, said in facts.items() if said}


def _history(file: Path, *, needed: bool) -> tuple[Mapping[str, Any], ...]:
    """Read the notes of a history of plasticity, alone or within the state of a ``Plasticity``."""
    if not needed and not file.is_file():
        return ()
    given = parse_object(read_text(file, _MAX_HISTORY), f"{file}: the history")
    found = given.get("history", given)
    notes = found.get("notes") if isinstance(found, dict) else None
    if not isinstance(notes, list) or not all(map(_is_note, notes)):
        raise CorruptFileError(f"{file}: must be a history of plasticity, as its to_json() writes it")
    return tuple(notes)


def _is_note(note: object) -> bool:
    return (
        isinstance(note, dict)
        and isinstance(note.get("step"), int)
        and isinstance(note.get("parameter"), str)
        and isinstance(note.get("numbers"), dict)
        and all(isinstance(value, (int, float)) for value in note["numbers"].values())
    )
