"""What YAML makes of a line that was meant otherwise, and how to write it instead."""

from __future__ import annotations

from bioconvert.ruleset.quoting import shown

ALIAS = (
    "an unquoted `*` begins an alias in YAML, and rule files have none; "
    'put quotes around a glob that begins with a star: "*.conv"'
)
ANCHOR = 'an unquoted `&` begins an anchor in YAML, and rule files have none; put quotes around text: "&…"'
COMPLEX_KEY = "a key must be text, not a list or a mapping; put quotes around it"
DOCUMENTS = "a rule file is one YAML document, and `---` begins a second one"
EMPTY = "the file is empty; a rule file is a mapping with `version: 1` and `rules: [...]`"
SURROGATE = "an escape stands for half a character (a surrogate)"

_QUOTE = 'text that begins with `{}` needs quotes: "{}…"'
_COMPARISON = 'an unquoted `{0}` means something else in YAML; put quotes around a comparison: "{0}16"'
_FLOW = "inside `[…]` and `{…}`, the characters `[ ] { } ,` are YAML's own; put quotes around text with these"
_BAD_ESCAPE = (
    "between double quotes, `\\` begins an escape, and there is none of this name; "
    "use single quotes: 're:…\\.'"
)
_SECOND_VALUE = (
    "there is a second `: ` here, or a line too deep in; put quotes around text that contains `: `"
)
_MISFIT = "this line doesn't fit what is above it: is it indented like its neighbours, are its quotes closed?"
_TAB = "a tab stands where YAML needs spaces"


def tag_trap(tag: str) -> str:
    """Explain a tag."""
    if tag.startswith("!="):
        return _COMPARISON.format("!=")
    return f"an unquoted `!` begins a tag in YAML, and rule files have none; put quotes around {shown(tag)}"


def syntax_trap(context: str, problem: str, at: str) -> str:
    """Explain a syntax error.

    Args:
        context: what PyYAML's scanner or parser was doing.
        problem: what it stumbled over.
        at: the text from there on.
    """
    if "alias" in context:
        return ALIAS
    if "anchor" in context:
        return ANCHOR
    if "tag" in context:
        return tag_trap(at)
    if "block scalar" in context:
        return _bad_start(at)
    if "escape character" in problem:
        return _BAD_ESCAPE
    if "cannot start any token" in problem:
        return _bad_start(at)
    return _structure_trap(context, problem)


def _bad_start(at: str) -> str:
    if at[:1] == "\t":
        return _TAB
    return _COMPARISON.format(">=") if at[:2] == ">=" else _QUOTE.format(at[:1], at[:1])


def _structure_trap(context: str, problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return _SECOND_VALUE
    if "end of stream" in problem and "quoted" in context:
        return "a quote is opened and never closed"
    if "flow" in context:
        return "a bracket is opened and never closed" if "stream end" in problem else _FLOW
    if "<block end>" in problem:
        return _MISFIT
    return f"this is not YAML: {problem}"
