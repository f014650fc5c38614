"""What was recorded of nmn: its layers' state dicts, inputs and outputs."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safetensors.torch import load_file

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Record:
    """One recorded layer."""

    release: str
    generation: str
    name: str
    kind: str
    options: dict

    def tensor(self, part):
        """Give the input or the output."""
        return tensors(self.release)[f"{self.name}|{part}"]

    @property
    def state(self):
        """Its state dict."""
        prefix = f"{self.name}|state|"
        found = tensors(self.release)
        return {name[len(prefix) :]: value for name, value in found.items() if name.startswith(prefix)}


@cache
def tensors(release):
    """Read the tensors of a release."""
    return load_file(GOLDEN / f"nmn-{release}.safetensors")


def records():
    """Give everything that was recorded."""
    for path in sorted(GOLDEN.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for case in content["cases"]:
            yield Record(
                content["release"], content["generation"], case["name"], case["kind"], case["options"]
            )


def record(name, release="0.3.5"):
    """Give one record by its name."""
    return next(each for each in records() if (each.name, each.release) == (name, release))
