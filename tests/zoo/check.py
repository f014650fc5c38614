"""What is promised of every model, checked on one of them."""

import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import bioconvert as bc
from bioconvert.graph.tree import ModuleTree
from bioconvert.ruleset import resolve_rules

from .entry import Sample
from .observation import MODES, Snapshot, Use, outputs, prints, use_of, ways_back
from .result import Result, Step

MORPH_STEPS = 100
RULES = "yat-all"
NEVER_RAN, NO_GRADIENT = "never ran", "no gradient"  # what the proof of use says


class Broken(Exception):  # noqa: N818 - how a step says that a promise doesn't hold
    """Raised where a promise doesn't hold; carries what does instead."""


class Exempt(Exception):  # noqa: N818 - ordinary control flow
    """Raised where the original has nothing to compare with."""


class Unavailable(Exception):  # noqa: N818 - ordinary control flow
    """Raised where this version of the package can't do what is to be checked."""


@dataclass
class _Check:
    title: str
    sample: Sample
    steps: list[Step] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    idle: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note how a step goes; whatever it raises ends it and nothing else."""
        started = time.perf_counter()
        outcome, reason = "ok", ""
        try:
            yield
        except Exempt as exemption:
            outcome, reason = "exempt", str(exemption)
        except Unavailable as lack:
            outcome, reason = "unavailable", str(lack)
        except Exception as error:  # noqa: BLE001 - a model of the zoo may fail in any way; the rest goes on
            outcome, reason = "failed", _in_words(error)
        self.steps.append(Step(name, outcome, reason, round(time.perf_counter() - started, 2)))

    def passed(self, name: str) -> bool:
        return any(step.name == name and step.outcome == "ok" for step in self.steps)

    def result(self, seconds: float) -> Result:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return Result(
            self.title,
            tuple(self.steps),
            notes=tuple(self.notes),
            seconds=round(seconds, 1),
            peak_mib=peak,
            **self.facts,
        )


def check(title: str, sample: Sample) -> Result:
    """Build a model, convert it in every way, and say which promises hold."""
    started = time.perf_counter()
    run = _Check(title, sample)
    with run.step("original"):
        model = sample.make()
        expected, exempt = _original(model, sample.inputs)
        before = Snapshot.of(model)  # after the first run, in which some models set attributes
        run.facts["parameters"] = sum(p.numel() for p in model.parameters())
        run.notes += [f"the original draws by itself in {mode}" for mode in exempt]
    if run.passed("original"):
        subject = _Subject(model, sample.inputs, before, expected, ways_back(model, sample.inputs))
        if not subject.ways:
            run.notes.append("no output has a gradient")
        _check_identity(run, subject)
        _check_yat(run, subject)
        _check_morph(run, subject)
    return run.result(time.perf_counter() - started)


@dataclass(frozen=True)
class _Subject:
    """A model with what it was and did before any conversion."""

    model: nn.Module
    inputs: Any
    before: Snapshot
    expected: dict[str, tuple[str, ...]]
    ways: list[bool]

    def require_equal_outputs(self) -> None:
        """Require the bits of the original's outputs in every mode in which it repeats itself."""
        if not self.expected:
            raise Exempt("the original's own outputs differ from run to run")
        different = [m for m, bits in self.expected.items() if prints(self.model, self.inputs, m) != bits]
        if different:
            raise Broken(f"outputs differ from the original's in {'; '.join(different)}")

    def require_as_before(self) -> None:
        """Require classes, objects, bits, flags and attributes as they were."""
        differences = self.before.differences(Snapshot.of(self.model))
        if differences:
            raise Broken(f"not as it was: {'; '.join(differences)}")


def _original(model: nn.Module, inputs: Any) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Give the hashes of the outputs by mode, where two runs agree, and the modes where they don't."""
    expected: dict[str, tuple[str, ...]] = {}
    exempt = []
    for mode in MODES:
        first, second = prints(model, inputs, mode), prints(model, inputs, mode)
        if first == second:
            expected[mode] = first
        else:
            exempt.append(mode)
    return expected, exempt


def _check_identity(run: _Check, subject: _Subject) -> None:
    with run.step("identity equal"):
        bc.convert(subject.model, "identity", example_inputs=subject.inputs)
        subject.require_equal_outputs()
    with run.step("identity reverted"):
        bc.revert(subject.model)
        subject.require_as_before()


def _check_yat(run: _Check, subject: _Subject) -> None:
    model, inputs = subject.model, subject.inputs
    with run.step("convert"):
        plan = bc.plan(model, RULES, example_inputs=inputs)
        subject.require_as_before()
        _note_report(run, plan.apply())
    if run.passed("convert"):
        with run.step("used"):
            _require_use(run, subject)
        with run.step("saved and loaded"):
            _require_same_after_load(model, inputs, run.sample.make)
    with run.step("reverted"):
        bc.revert(model)
        subject.require_as_before()
    with run.step("reverted outputs"):
        subject.require_equal_outputs()
    with run.step("refusals true"):
        _require_idle(run.idle, subject)


def _require_idle(reasons: Mapping[str, str], subject: _Subject) -> None:
    """Require that what was refused for want of use is of no use to the original model either."""
    layers = _modules_at(subject.model, reasons)
    use = use_of(subject.model, subject.inputs, layers, subject.ways) if layers else Use(set(), set())
    wrong = [
        f"{name} ({'runs' if NEVER_RAN in reasons[name] else 'gets gradients'})"
        for layer, name in layers.items()
        if layer in (use.ran if NEVER_RAN in reasons[name] else use.trained)
    ]
    if wrong:
        raise Broken(f"{len(wrong)} layers were refused as unused that are used: {wrong[:3]}")


def _note_report(run: _Check, report: Any) -> None:
    run.facts |= {
        "selected": len(report.outcomes),
        "applied": len(report.applied),
        "refused": dict(Counter(outcome.reason for outcome in report.skipped)),
    }
    run.replaced = [outcome.path for outcome in report.applied if outcome.action == "replace"]
    run.idle = {o.path: o.reason for o in report.skipped if NEVER_RAN in o.reason or NO_GRADIENT in o.reason}


def _require_use(run: _Check, subject: _Subject) -> None:
    """Require that every replaced layer runs, that its parameters learn, and that the outputs change."""
    replaced = _modules_at(subject.model, run.replaced)
    original = dict(subject.before.classes)
    same = [name for module, name in replaced.items() if type(module) is original[name]]
    if same:
        raise Broken(f"{len(same)} layers are reported as replaced and are of their old class: {same[:3]}")
    use = use_of(subject.model, subject.inputs, replaced, subject.ways)
    run.facts |= {"ran": len(use.ran), "trained": len(use.trained)}
    idle = [name for module, name in replaced.items() if module not in use.ran]
    stuck = [name for module, name in replaced.items() if module not in use.trained and subject.ways]
    if idle or stuck:
        raise Broken(f"{len(idle)} never ran {idle[:3]}, {len(stuck)} got no gradient {stuck[:3]}")
    results = outputs(subject.model, subject.inputs, "eval")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in results):
        run.notes.append("outputs of the converted model aren't finite")
    unchanged = prints(subject.model, subject.inputs, "eval") == subject.expected.get("eval")
    if replaced and unchanged:
        raise Broken("no bit of the outputs has changed")


def _modules_at(model: nn.Module, paths: Collection[str]) -> dict[nn.Module, str]:
    """Give the modules of some names; a name may hold dots of its own, so it isn't split."""
    return {place.module: place.name for place in ModuleTree(model).modules() if place.name in paths}


def _require_same_after_load(model: nn.Module, inputs: Any, factory: Callable[[], nn.Module]) -> None:
    expected = prints(model, inputs, "eval")
    if expected != prints(model, inputs, "eval"):
        raise Exempt("the outputs differ from run to run")
    with tempfile.TemporaryDirectory() as folder:
        saved = bc.save(model, Path(folder) / "model")
        loaded = bc.load(saved, factory=factory)
        if prints(loaded, inputs, "eval") != expected:
            raise Broken("outputs differ after loading")


def _check_morph(run: _Check, subject: _Subject) -> None:
    model, inputs = subject.model, subject.inputs
    with run.step("morph equal"):
        _convert_by_morph(model, inputs)
        subject.require_equal_outputs()
    with run.step("finalized"):
        if not hasattr(bc, "finalize") or not run.passed("morph equal"):
            raise Unavailable("there is nothing to finalize")
        bc.finalize(model)
        if prints(model, inputs, "eval") == subject.expected.get("eval") and run.facts.get("applied"):
            raise Broken("no bit of the outputs has changed")
    with run.step("morph reverted"):
        bc.revert(model)
        subject.require_as_before()


def _convert_by_morph(model: nn.Module, inputs: Any) -> None:
    try:
        bc.convert(model, morphing(), example_inputs=inputs)
    except bc.RuleError as error:
        if "morph" in str(error):
            raise Unavailable("morph: not available") from error
        raise


def morphing() -> dict[str, Any]:
    """Give the rule set that replaces everything bit by bit."""
    rules: dict[str, Any] = resolve_rules(RULES).to_dict()
    for rule in rules["rules"]:
        rule["replace"]["morph"] = {"steps": MORPH_STEPS}
    return rules


def _in_words(error: Exception) -> str:
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, Broken) else f"{type(error).__name__}: {text}"
