"""Evidence for report pages, made up or from small models, without a checkpoint."""

import numpy as np

from bioconvert.core.results import Applied, Outcomes, Skipped
from bioconvert.report.html.evidence import Drifted, Evidence, Growth, Weights
from bioconvert.report.html.moved import Moved
from bioconvert.report.tree import TensorLine
from bioconvert.surgery.costs import CostChange, Costs, ModuleCosts

HOSTILE = "</script><script>alert(1)</script>"
NAMES = (HOSTILE, "\x1b[31mred", "x" * 10_000, "<!--", "a&b\"'", "new\nline", "\u2028", "{{ 7 * 7 }}")


def costs(*modules, flops=None, unknown=""):
    """Make costs of ``(path, class, parameters)``."""
    return Costs(tuple(ModuleCosts(p, k, n, 0, 4 * n) for p, k, n in modules), flops, unknown)


def page_evidence(name="layer", **given):
    """Give evidence in which every section has something, all under one name."""
    before = costs(("", "Net", 0), (name, "Conv2d", 10), ("head", "Linear", 5), flops=100)
    after = costs(("", "Net", 0), (name, "YatConv2d", 12), ("head", "Linear", 5), flops=150)
    values = np.linspace(-1, 1, 100)
    notes = tuple(
        {"step": step, "parameter": f"{name}.weight", "numbers": {name: float(step), "steady": 0.0}}
        for step in (1, 2, 3)
    )
    events = [{"step": 2, "event": "birth", "node": f"{name}+1", "tag": name, "parameters": 17}]
    record = {"step": 4, "history": events, "control": {}, "parameters": 15}
    node = {"id": name, "tag": name, "born": 0, "of": None}
    drift = Drifted((Moved(name, 0.5, 0.25, 0.9),), Moved("", 0.1, float("inf"), 0.5), name)
    fields = {
        "architecture": name,
        "rules": ({"name": name},),
        "outcomes": Outcomes(
            [Applied(name, name, "replace", name), Skipped("head", name, "replace", name)], [name]
        ),
        "tensors": (TensorLine(f"{name}.weight", "F32", (5, 2)), TensorLine("head.bias", "F32", (5,))),
        "weights": (Weights(name, "weight", 100, values, values * 2),),
        "drift": drift,
        "history": notes,
        "growth": Growth(record, (node,)),
        "facts": {name: name},
        "ties": ((name, "head"),),
        **given,
    }
    return Evidence(name, "converted", CostChange(before, after), **fields)
