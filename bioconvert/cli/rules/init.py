"""``bioconvert rules init``: a rule file to begin with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.completing import rule_sets
from bioconvert.core.errors import Problem, RuleError, TargetError

_NAME = "rules.yaml"
_STARTER = """\
# A rule file of bioconvert. `bioconvert rules check {file}` finds mistakes, and
# `bioconvert plan CHECKPOINT --rules {file}` shows what it would do.
# `bioconvert explain YatLinear` tells the options of a layer or mechanism, and
# `bioconvert rules schema` gives a schema by which editors complete and check.
version: 1
name: {name}
description: What these rules are for, in a sentence.
"""
_OWN_RULES = """
# Of each kind of action the first rule that matches a module wins. A rule that
# matches nothing is an error, unless it says `optional: true`.
rules:
  - name: linear-layers
    match:
      type: linear          # a class name, or a family: linear, conv, attention, norm, embedding, recurrent
      path: "**"            # a glob over dotted names: * is one segment, ** any number of them
      not: [first]          # exceptions: globs, or first / last of the family
      # where: {in_features: ">=16"}         # conditions on attributes
      # followed_by: [ReLU|GELU]             # what must come next in the data flow
    replace:
      with: YatLinear       # what it becomes
      # init: auto          # what the new layer starts from
      # morph: {steps: 1000}                 # come in gradually while training
    optional: true

  # - name: synapses        # mechanisms that act while training
  #   match: {type: [linear, conv]}
  #   attach:
  #     - crystallize: {threshold: 4.5e-5}

  # - name: growth          # a block that can grow
  #   match: {path: layer4}
  #   wrap: {tag: general}
"""
_EXTENDING = """\
extends: [{base}]

# Rules here come before those of {base}: of each kind of action the first rule that
# matches a module wins. `bioconvert rules show {base}` prints what is extended.
rules:
  - name: stays             # nothing may touch what this matches
    match: {{path: "head"}}
    keep: true
    optional: true          # it may match nothing
"""


def init(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write, which must be new.")
    ] = Path(_NAME),
    base: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="NAME", help="A built-in rule set to extend.", autocompletion=rule_sets
        ),
    ] = None,
) -> Answer:
    """Write a commented rule file to begin with."""
    from bioconvert.core.suggest import hint
    from bioconvert.ruleset import builtin_names

    if base is not None and base not in builtin_names():
        raise RuleError(
            [Problem(f"there is no built-in rule set named {base!r}. {hint(base, builtin_names())}")]
        )
    if not file.parent.is_dir():
        raise TargetError(f"{file}: the folder {file.parent} must be there already")
    _write_new(file, _text(file, base))
    return Answer({"file": str(file), "extends": base}, lambda: [f"written to {file}"])


def _text(file: Path, base: str | None) -> str:
    head = _STARTER.format(file=file.name, name=_name_for(file))
    return head + (_OWN_RULES if base is None else _EXTENDING.format(base=base))


def _name_for(file: Path) -> str:
    """Make a name that YAML takes for text as it stands."""
    words = "".join(character if character.isalnum() else "-" for character in file.stem)
    return f"my-{words.strip('-') or 'rules'}"


def _write_new(file: Path, text: str) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise TargetError(f"{file}: is there already; choose another name, or remove it") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
