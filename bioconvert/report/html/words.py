"""The sentences of a page: what happened, for a reader who sees such a model for the first time."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bioconvert.report.html.evidence import Evidence
from bioconvert.report.text import amount, measure, plural, short

if TYPE_CHECKING:
    from bioconvert.core.results import Applied

_KINDS = 4
"""Of changes that a sentence names at most."""
_SMALL, _LARGE = 0.02, 0.3
"""Relative drifts below which the outputs are nearly the same, and above which they are others."""
_TREE = "tensors:"
"""What the architecture of a model begins with that is but a tree of a checkpoint's tensors."""
_MUCH = 1.5
"""From this factor on, more operations are said as a factor."""
_MEANING = {
    "Yat": "A Yat layer scores an input by how well it aligns with each weight row and how near it lies to "
    "it; it needs no activation behind it.",
    "Dynamic": "A dynamic layer makes part of its weights anew for each input, behind a gate; at gate 0 it "
    "gives what the original gave.",
    "attach": "An attached mechanism of plasticity acts while the model is trained, around each step of the "
    "optimizer; outputs stay as they are until then.",
    "wrap": "A wrapped block is a node of an organism: while the model is trained it may grow branches and "
    "lose them again.",
}


class _Change(NamedTuple):
    noun: str
    nouns: str
    fate: str


def lead_of(evidence: Evidence) -> tuple[str, str]:
    """Say in two sentences what was, or would be, converted, and what it costs."""
    return _done(evidence), _cost(evidence)


def meanings_of(evidence: Evidence) -> tuple[str, ...]:
    """Explain the kinds of things that were done, a sentence each."""
    applied = () if evidence.outcomes is None else evidence.outcomes.applied
    after = evidence.costs.before if evidence.costs.after is None else evidence.costs.after
    kinds = {module.path: module.kind for module in after.modules}
    seen = {kinds.get(outcome.path, "") for outcome in applied if outcome.action == "replace"}
    seen |= {outcome.action for outcome in applied}
    return tuple(said for word, said in _MEANING.items() if any(word in each for each in seen))


def drift_said(relative: float, cosine: float) -> str:
    """Say what a drift of the model's output means."""
    if relative == 0:
        return "The converted model gives exactly what the original gave."
    if relative < _SMALL:
        return f"The output is nearly the original's: {measure(relative)} relative, cosine {cosine:.4f}."
    if relative < _LARGE:
        return (
            f"The output has moved a little ({measure(relative)} relative, cosine {cosine:.4f}); some "
            "training brings it back."
        )
    return (
        f"The output is another one ({measure(relative)} relative, cosine {cosine:.4f}): unless the model "
        "was trained since, train it before use, or convert it with calibration data or morph."
    )


def usage_of(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """Give the lines of code that one would begin with, each under what it is for."""
    name = short(evidence.name)
    if evidence.kind == "planned":
        return (
            (
                "Do it",
                "bioconvert convert CHECKPOINT --rules RULES --out DIR   # the same options as of the plan",
            ),
        )
    folder = repr(name)
    if evidence.kind == "plain":
        return (("Look at what it holds", f"bioconvert inspect {shlex.quote(name)}"),)
    factory = "" if evidence.architecture is not None else ", factory=make_the_original_model"
    quoted = shlex.quote(name)
    lines = [
        ("Load the model", f"import bioconvert as bc\n\nmodel = bc.load({folder}{factory})\nmodel.eval()"),
        *_training(evidence),
        ("Prove that the files are what was written", f"bioconvert verify {quoted}"),
        ("Go back to the original's classes", f"bioconvert revert {quoted} --out original"),
    ]
    return tuple(lines)


def _training(evidence: Evidence) -> Iterable[tuple[str, str]]:
    actions = set() if evidence.outcomes is None else {o.action for o in evidence.outcomes.applied}
    lines = ["optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)"]
    if any(action.startswith("attach") for action in actions):
        lines.append("plasticity = bc.Plasticity(model, history=100).bind(optimizer)")
    if any(action.startswith("wrap") for action in actions) or evidence.growth is not None:
        lines.append("organism = bc.Organism(model).bind(optimizer)")
    if len(lines) > 1:
        lines.append("# train as always: what is attached acts around optimizer.step()")
        yield "Train on", "\n".join(lines)


def _done(evidence: Evidence) -> str:
    model = _model(evidence)
    outcomes = evidence.outcomes
    if evidence.kind == "plain":
        return f"This is {model} as it was saved: nothing in it was converted."
    planned = evidence.kind == "planned"
    if outcomes is None or not outcomes.applied:
        return f"Nothing {'would be' if planned else 'was'} changed in {model}."
    after = evidence.costs.before if evidence.costs.after is None else evidence.costs.after
    was, now = ({m.path: m.kind for m in costs.modules} for costs in (evidence.costs.before, after))
    rules = " and ".join(short(name) for name in rule_names(evidence.rules))
    of = f"the rules {rules}" if rules else "rules"
    said = _listed(_changes(outcomes.applied, was, now, planned=planned))
    return f"{_upper(model)} {'would be' if planned else 'was'} converted by {of}: {said}."


def _changes(
    applied: Iterable[Applied], was: Mapping[str, str], now: Mapping[str, str], *, planned: bool
) -> list[tuple[_Change, int]]:
    """Count the changes of each kind."""
    became, given = ("would become", "would be given") if planned else ("became", "got")
    found: Counter[_Change] = Counter()
    # Replacements come first: they are what a reader asks for.
    for outcome in sorted(applied, key=lambda outcome: outcome.action != "replace"):
        old, new = was.get(outcome.path, ""), now.get(outcome.path, "")
        noun = "layer" if outcome.path in was else "parameter"
        if outcome.action == "replace":
            into = new if new and new != old else "others"
            found[_Change(old or "layer", old or "layers", f"{became} {into}")] += 1
        elif outcome.action.startswith("attach "):
            mechanism = outcome.action.removeprefix("attach ")
            found[_Change(noun, f"{noun}s", f"{given} {mechanism}")] += 1
        else:
            found[_Change("block", "blocks", f"{became} part of an organism")] += 1
    return list(found.items())


def _listed(changes: list[tuple[_Change, int]]) -> str:
    shown = [short(f"{plural(n, c.noun, c.nouns)} {c.fate}") for c, n in changes[:_KINDS]]
    if len(changes) > _KINDS:
        shown.append(f"and {plural(sum(n for _, n in changes[_KINDS:]), 'more change')}")
    return ", ".join(shown)


def _cost(evidence: Evidence) -> str:
    before, after = evidence.costs.before, evidence.costs.after
    if evidence.kind == "plain" or after is None:
        return f"It has {amount(before.parameters)} parameters in {plural(len(before.modules), 'module')}."
    said = f"It had {amount(before.parameters)} parameters and has {amount(after.parameters)} now"
    if evidence.kind == "planned":
        said = f"It has {amount(before.parameters)} parameters and would have {amount(after.parameters)}"
    if before.parameters == after.parameters:
        said = f"The number of its parameters stays the same, {amount(before.parameters)}"
    if before.flops is not None and after.flops is not None:
        said += f"; a call takes {_compared(before.flops, after.flops)} floating-point operations"
    return f"{said}."


def _compared(before: int, after: int) -> str:
    if before == after:
        return "as many"
    ratio = after / before if before else float("inf")
    if ratio >= _MUCH:
        return f"{ratio:.1f} times as many"
    return f"{abs(ratio - 1):.1%} {'more' if ratio > 1 else 'fewer'}"


def _model(evidence: Evidence) -> str:
    if (evidence.architecture or "").startswith(_TREE):
        return f"the checkpoint {short(evidence.name)}, of which the code is not known,"
    named = evidence.architecture or evidence.costs.before.modules[0].kind or evidence.name
    return f"the model {short(named)}"


def rule_names(rules: Iterable[Mapping[str, Any]]) -> list[str]:
    """Give the names of rule sets."""
    return [str(rule.get("name") or "(unnamed)") for rule in rules]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
