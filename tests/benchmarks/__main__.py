"""`python -m tests.benchmarks [NAME …] [--quick]`: run the benchmarks, print tables and write JSON."""

import argparse

from . import (
    bench_attention,
    bench_convert,
    bench_dynamic,
    bench_dynamic_mixture,
    bench_organism,
    bench_plan,
    bench_plasticity,
    bench_startup,
    bench_stream,
    bench_yat,
)
from .harness import machine, show, write

BENCHMARKS = {
    "yat": bench_yat.run,
    "attention": bench_attention.run,
    "dynamic": bench_dynamic.run,
    "dynamic-mixture": bench_dynamic_mixture.run,
    "convert": bench_convert.run,
    "plan": bench_plan.run,
    "plasticity": bench_plasticity.run,
    "organism": bench_organism.run,
    "startup": bench_startup.run,
    "stream": bench_stream.run,
}


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all if none"
    )
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see that it runs")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark is named {', '.join(unknown)}. Known: {', '.join(BENCHMARKS)}")
    for name in given.names or BENCHMARKS:
        described = machine()
        result = BENCHMARKS[name](quick=given.quick)
        show(result, described)
        print(f"Written to {write(result, described)}\n", flush=True)


if __name__ == "__main__":
    main()
