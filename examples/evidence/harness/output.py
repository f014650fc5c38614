"""Findings as a table of 80 columns and as JSON."""

from __future__ import annotations

import json
import math
import platform
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .findings import Finding, Settings

_WIDTHS = (37, 17, 9, 11)
_NOISE = 1e-9
"""What differences of percentages leave of a zero."""
_HEAD = ("measured", "value", "bar", "verdict")


def table(findings: Sequence[Finding]) -> str:
    """Write findings as a plain table."""
    rule = "  ".join("-" * width for width in _WIDTHS)
    rows = [(f.what, shown(f.values), str(f.bar or ""), f.verdict) for f in findings]
    return "\n".join([_row(_HEAD), rule, *(_row(row) for row in rows)])


def shown(values: Sequence[float]) -> str:
    """Write a mean, with the standard deviation over seeds where there is more than one."""
    mean = _number(statistics.fmean(values))
    return mean if len(values) < 2 else f"{mean} ± {_number(statistics.stdev(values))}"


def document(
    name: str, question: str, settings: Settings, seconds: float, findings: Sequence[Finding]
) -> Any:
    """Give a run as plain values."""
    return {
        "schema_version": 1,
        "experiment": name,
        "question": question,
        "seeds": settings.seeds,
        "first_seed": settings.first,
        "quick": settings.quick,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seconds": round(seconds, 1),
        "passed": all(finding.met for finding in findings),
        "findings": [
            {
                "what": finding.what,
                "mean": _finite(finding.mean),
                "values": [_finite(value) for value in finding.values],
                "bar": str(finding.bar) if finding.bar else None,
                "verdict": finding.verdict or None,
            }
            for finding in findings
        ],
    }


def write(path: Path, content: Any) -> None:
    """Write JSON, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def _row(cells: Sequence[str]) -> str:
    first, *more = textwrap.wrap(cells[0], _WIDTHS[0], subsequent_indent="  ")
    line = "  ".join(cell.ljust(width) for cell, width in zip((first, *cells[1:]), _WIDTHS, strict=True))
    return "\n".join([line.rstrip(), *more])


def _number(value: float) -> str:
    if abs(value) < _NOISE:
        return "0"
    if not 1e-2 <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
