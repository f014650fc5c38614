"""A page as one HTML file: everything in it, nothing fetched, the same bytes for the same evidence."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bioconvert.report.costs import change
from bioconvert.report.html import drawing
from bioconvert.report.html.evidence import Evidence
from bioconvert.report.html.page import page_of, timeline
from bioconvert.report.text import amount, finite, measure, plural, size
from bioconvert.version import __version__

GENERATOR = "bioconvert"
"""What a page says made it, by which one is known for a page."""
_SVG = '<svg xmlns="http://www.w3.org/2000/svg" '
_UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render_page(evidence: Evidence) -> str:
    """Write the page about a conversion."""
    page = page_of(evidence)
    template = _environment().get_template("page.html.j2")
    return template.render(
        page=page,
        numbers=Markup(embedded(page.to_dict())),
        timeline=_inline(timeline(evidence)),
        drawing=drawing,
        generator=GENERATOR,
        version=__version__,
    )


def numbers_of(evidence: Evidence) -> dict[str, object]:
    """Give the numbers of a page as values that JSON can hold."""
    return page_of(evidence).to_dict()


def embedded(value: object) -> str:
    """Write JSON that may stand inside a script element: no text in it can end that."""
    text = json.dumps(finite(value), separators=(",", ":"), allow_nan=False)
    return text.translate(_UNSAFE)


def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update(amount=amount, size=size, measure=measure, percent=_percent, commas=_commas)
    found.globals.update(change=change, plural=plural)
    return found


def _inline(svg: str) -> Markup:
    """Fit a picture that is a file of its own into a page; what it says of itself is in it as text."""
    inner = svg.replace(_SVG, '<svg role="img" aria-label="How the model grew" ', 1)
    return Markup(inner)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _commas(count: int) -> str:
    return f"{count:,}"
