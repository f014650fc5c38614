"""What rules may ask for where only tensors are known and no architecture."""

from __future__ import annotations

from collections.abc import Iterator

from bioconvert.checkpoint.architectures.architecture import FORMS, Architecture
from bioconvert.checkpoint.architectures.guessing import looks_like
from bioconvert.checkpoint.architectures.tensor_trees import TENSORS, shapes_in
from bioconvert.core.errors import ArchitectureError
from bioconvert.ruleset import Rule, RuleSet

_SHOWN = 2


def check_tensor_rules(
    ruleset: RuleSet,
    architecture: Architecture | None,
    where: str,
    *,
    runs: bool = False,
    said: str = "",
) -> None:
    """Check that rules need no more than names, shapes and number formats, where there is no more.

    Args:
        ruleset: the rules.
        architecture: of the checkpoint; any but a tree of tensors is fine with any rules.
        where: what the checkpoint is, for the error text.
        runs: whether the model is to be run on samples.
        said: what the checkpoint itself calls the architecture.

    Raises:
        ArchitectureError: they need modules, or samples need a model that can be run; with each such rule,
            and of which known model the tensors may be.
    """
    if architecture is None or architecture.kind != TENSORS.name:
        return
    reasons = [f"rule {rule.name!r} {need}" for rule in ruleset.rules for need in _needs(rule)]
    if runs:
        reasons.insert(0, "samples are given for a model to run on")
    if reasons:
        hints = [looks_like(shapes_in(architecture.args)), f"The file calls it {said!r}" if said else ""]
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        raise ArchitectureError(
            f"{where}: nothing says of which architecture it is. "
            f"{''.join(f'{hint}. ' for hint in hints if hint)}Name the architecture by --arch {FORMS}. "
            "Without one, rules select by path, parameter, shape and number format, and attach only; but "
            f"{'; '.join(reasons[:_SHOWN])}{more}"
        )


def _needs(rule: Rule) -> Iterator[str]:
    """Say, at most once, what of a rule needs modules."""
    match = rule.match
    asked = {
        "selects by type": bool(match.type),
        "selects by followed_by": bool(match.followed_by),
        "replaces": rule.replace is not None,
        "wraps": rule.wrap is not None,
    }
    found = [what for what, is_asked in asked.items() if is_asked]
    if found:
        yield ", ".join(found)
