"""`python -m examples.evidence NAME … [--seeds N] [--first-seed N] [--quick]`: measure, against bars."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .harness import catalogue
from .harness.findings import Settings
from .harness.output import document, table, write

RESULTS = Path("evidence-results")
_QUICK_SEEDS = 1


def main(arguments: list[str] | None = None) -> int:
    """Run the experiments named on the command line; 1 if a bar was missed."""
    parser = _parser()
    given = parser.parse_args(arguments)
    known = catalogue.names()
    if given.list:
        for name in known:
            print(f"{name:<22} {catalogue.question(catalogue.experiment(name))}")
        return 0
    unknown = sorted(set(given.names) - set(known))
    if unknown or not given.names:
        wrong = f"no experiment is named {', '.join(unknown)}" if unknown else "name an experiment"
        parser.error(f"{wrong}. Known: {', '.join(known)}")
    if given.seeds is not None and given.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {given.seeds}")
    if given.json and len(given.names) > 1:
        parser.error("--json takes the results of one experiment")
    return max(run(name, given) for name in given.names)


def run(name: str, given: argparse.Namespace) -> int:
    """Run one experiment, print its table and write its JSON; 1 if a bar was missed."""
    module = catalogue.experiment(name)
    seeds = given.seeds or (_QUICK_SEEDS if given.quick else module.SEEDS)
    settings = Settings(seeds, given.quick, given.first_seed)
    print(f"{name}: {catalogue.question(module)}\n", flush=True)
    start = time.perf_counter()
    findings = list(module.run(settings))
    seconds = time.perf_counter() - start
    print(table(findings))
    path = given.json or RESULTS / f"{name}.json"
    write(path, document(name, catalogue.question(module), settings, seconds, findings))
    missed = sum(not finding.met for finding in findings)
    print(f"\n{_outcome(missed)}, {settings.seeds} seeds, {seconds:.0f} s; written to {path}\n", flush=True)
    return int(missed > 0)


def _outcome(missed: int) -> str:
    return f"{missed} bar{'s' * (missed > 1)} missed" if missed else "all bars met"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.evidence", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="an experiment; see --list")
    parser.add_argument("--list", action="store_true", help="list the experiments and stop")
    parser.add_argument("--json", type=Path, help=f"where to write the results; {RESULTS}/NAME.json")
    parser.add_argument("--seeds", type=int, help="number of repetitions, instead of the experiment's own")
    parser.add_argument("--first-seed", type=int, default=0, help="to repeat it on seeds it wasn't tuned on")
    parser.add_argument("--quick", action="store_true", help="few steps and seeds, to see that it runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
