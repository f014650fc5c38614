"""`python -m tests.zoo`: check the models of the zoo, each in its own process, and print what was found."""

import argparse
import datetime
import json
from collections.abc import Sequence
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from .entry import SOURCES, entries
from .result import Result
from .runner import check_all
from .table import Summary, markdown, terminal_table

PACKAGES = ("torch", "torchvision", "timm", "transformers")
WIDTH = 200


def main() -> int:
    """Check what the command line names; give 1 if there are findings."""
    given = _arguments()
    chosen = [entry for entry in entries(given.source) if fnmatch(entry.name, given.only)]
    results = {result.title: result for result in _read(given.resume)}
    console = Console(highlight=False, soft_wrap=True)
    todo = [entry for entry in chosen if entry.title not in results]

    def told(result: Result) -> None:
        results[result.title] = result
        count = sum(entry.title in results for entry in chosen)
        console.print(
            f"{count}/{len(chosen)} {result.title} {result.seconds:.0f} s {result.verdict}", markup=False
        )
        if given.json:
            _write(given.json, list(results.values()))

    check_all(todo, jobs=given.jobs, timeout=given.timeout, memory=given.memory, told=told)
    _conclude([results[entry.title] for entry in chosen], given.markdown)
    return int(any(results[entry.title].failures for entry in chosen))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--source", choices=SOURCES, help="one library; all if not given")
    parser.add_argument("--only", metavar="GLOB", default="*", help="names of models, such as 'resnet*'")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--timeout", type=float, default=300, help="seconds that one model may take")
    parser.add_argument("--memory", type=float, default=12, help="GiB that one process may hold")
    parser.add_argument("--json", type=Path, metavar="PATH", help="keep the results there, after each model")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the tables there")
    parser.add_argument("--resume", type=Path, metavar="JSON", help="take over what was found already")
    return parser.parse_args()


def _read(path: Path | None) -> list[Result]:
    if path is None or not path.exists():
        return []
    return [Result.from_dict(each) for each in json.loads(path.read_text(encoding="utf-8"))]


def _write(path: Path, results: Sequence[Result]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps([result.to_dict() for result in results], indent=1), encoding="utf-8")
    partial.replace(path)


def _conclude(results: Sequence[Result], page: Path | None) -> None:
    """Print the table, the findings and the counts, and write the page."""
    console = Console(width=WIDTH, highlight=False)
    console.print(terminal_table(results))
    summary = Summary.of(results)
    for title, words in summary.failures.items():
        console.print(f"{title}: {'; '.join(words)}", markup=False)
    for line in (*summary.exempt, *summary.lines()):
        console.print(line, markup=False)
    if page is not None:
        date = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
        page.write_text(markdown(results, date=date, versions=_versions()), encoding="utf-8")
        console.print(f"Written to {page}", markup=False)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    raise SystemExit(main())
