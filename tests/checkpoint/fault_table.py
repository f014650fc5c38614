"""How many faults of each kind were tried, and how they ended; printed when the tests are over."""

from collections import Counter

ROWS = {}


def record(kind, outcome):
    """Count a fault: ``outcome`` says in what state it left the target."""
    ROWS.setdefault(kind, Counter())[outcome] += 1


def lines():
    """Give the table."""
    for kind, outcomes in sorted(ROWS.items()):
        ends = ", ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items()))
        yield f"{kind}: tried {outcomes.total()}, lost {outcomes['lost']} ({ends})"
