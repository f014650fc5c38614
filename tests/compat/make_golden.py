"""Record what nmn computes, for tests that run without it.

Run it once for each release that is recorded, from the top of the repository, in an environment with torch,
safetensors and that release, which is installed without its dependencies::

    for release in 0.1.3 0.2.6 0.3.5; do
        pip install --target /tmp/nmn-$release --no-deps nmn==$release
        PYTHONPATH=/tmp/nmn-$release python tests/compat/make_golden.py
    done

It writes ``tests/compat/golden/nmn-RELEASE.safetensors`` and a ``.json`` beside it that names the cases.
nmn is only called: its classes are built, their state dicts taken and their outputs kept.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))

from nmn_cases import CASES, build, find_class, output, rounding, sample

GOLDEN = Path(__file__).parent / "golden"


def main():
    """Record every case whose class the installed release has."""
    release = version("nmn")
    generation = "0.3" if "constant_alpha" in vars(find_class("YatNMN")(2, 2)) else "0.1"
    tensors, recorded = {}, []
    for case in CASES[generation]:
        cls = find_class(case.kind)
        if cls is None:
            continue
        layer = build(case, cls)
        x = sample(case, layer)
        tensors |= {f"{case.name}|state|{name}": value.clone() for name, value in layer.state_dict().items()}
        tensors |= {f"{case.name}|input": x, f"{case.name}|output": output(layer, x).clone()}
        recorded.append(
            {"name": case.name, "kind": case.kind, "options": case.said, "rounding": rounding(layer, x)}
        )
    GOLDEN.mkdir(exist_ok=True)
    save_file(tensors, GOLDEN / f"nmn-{release}.safetensors")
    content = {"release": release, "generation": generation, "cases": recorded}
    (GOLDEN / f"nmn-{release}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"nmn {release}, generation {generation}: {len(recorded)} cases")


if __name__ == "__main__":
    sys.tracebacklimit = 0  # which would print lines of nmn
    main()
