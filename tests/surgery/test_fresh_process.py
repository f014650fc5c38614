"""Converted models that were written in one process and are read in another, which knows nothing of them."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from portable_models import CASES, converted, outputs

import bioconvert as bc

WAYS = ("pickle", "torch.save", "bc.save", "reverted", "morphed on")
READER = """
import json, pickle, sys
from pathlib import Path
import torch
import bioconvert as bc

torch.set_num_threads(1)
folder = Path(sys.argv[1])
found = {}


def outputs_of(model, case):
    from portable_models import outputs
    return outputs(model, case)


for case in json.loads((folder / "cases.json").read_text()):
    place = folder / case
    model = pickle.loads((place / "model.pickle").read_bytes())
    found[f"{case}: pickle"] = outputs_of(model, case)
    model = torch.load(place / "model.pt", weights_only=False)
    found[f"{case}: torch.save"] = outputs_of(model, case)
    model = bc.load(place / "saved")
    found[f"{case}: bc.save"] = outputs_of(model, case)
    bc.morph_step(model)
    found[f"{case}: morphed on"] = outputs_of(model, case)
    bc.revert(model)
    found[f"{case}: reverted"] = outputs_of(model, case)
torch.save(found, folder / "found.pt")
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Write every model here, read it in a fresh process, and give both outputs for each case and way."""
    folder = tmp_path_factory.mktemp("portable")
    (folder / "cases.json").write_text(json.dumps(list(CASES)))
    expected = {}
    for case in CASES:
        model, place = converted(case), folder / case
        place.mkdir()
        (place / "model.pickle").write_bytes(pickle.dumps(model))
        torch.save(model, place / "model.pt")
        bc.save(model, place / "saved")
        for way in ("pickle", "torch.save", "bc.save"):
            expected[f"{case}: {way}"] = outputs(model, case)
        bc.morph_step(model)
        expected[f"{case}: morphed on"] = outputs(model, case)
        expected[f"{case}: reverted"] = outputs(bc.revert(model), case)
    path = [str(Path(__file__).parents[1] / "support"), *filter(None, sys.path)]
    environment = {"PYTHONPATH": ":".join(path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::UserWarning", "-c", READER, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return expected, torch.load(folder / "found.pt")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_a_fresh_process_computes_the_same(compared, case, way):
    """In every mode, on the way of a morph and a step later, and after reverting there."""
    expected, found = compared
    one, other = expected[f"{case}: {way}"], found[f"{case}: {way}"]
    assert len(one) == len(other) == 3
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_what_it_says(compared, case):
    """Each model is changed by its rules, and its outputs are finite and not the original's."""
    expected, _ = compared
    after, before = expected[f"{case}: bc.save"], expected[f"{case}: reverted"]
    assert all(bool(each.isfinite().all()) for each in after)
    assert not any(torch.equal(a, b) for a, b in zip(after, before, strict=True))
