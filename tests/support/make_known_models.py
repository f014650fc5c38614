"""Writes the table of known models: ``python tests/support/make_known_models.py``; nothing is downloaded."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch

import bioconvert
from bioconvert.checkpoint.architectures.architecture import Architecture
from bioconvert.checkpoint.architectures.fingerprints import fingerprint
from bioconvert.checkpoint.architectures.torchvision_ops import import_torchvision, import_with_torchvision
from bioconvert.checkpoint.formats.prefix import common_prefix

TABLE = Path(bioconvert.__file__).parent / "checkpoint" / "known_models.json"
CLASSES = 7
NAMES = Path(__file__).with_name("known_models.txt")
"""Models of timm and model types of transformers, one a line; of torchvision the table has all."""
TASKS = (
    "MODEL",
    "MODEL_FOR_PRETRAINING",
    "MODEL_FOR_CAUSAL_LM",
    "MODEL_FOR_MASKED_LM",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION",
    "MODEL_FOR_TOKEN_CLASSIFICATION",
    "MODEL_FOR_QUESTION_ANSWERING",
    "MODEL_FOR_IMAGE_CLASSIFICATION",
    "MODEL_FOR_SEMANTIC_SEGMENTATION",
    "MODEL_FOR_CTC",
    "MODEL_FOR_AUDIO_CLASSIFICATION",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT",
)


def listed(kind: str) -> list[str]:
    """Give the names of a kind."""
    lines = NAMES.read_text(encoding="ascii").splitlines()
    return [line.removeprefix(f"{kind} ") for line in lines if line.startswith(f"{kind} ")]


def shapes_of(kind: str, name: str, args: dict) -> dict[str, list[int]]:
    """Give the names and shapes of a model's tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = Architecture(kind, name, args).build("meta")
        except Exception:  # noqa: BLE001 - whatever fails without values may work with them
            model = Architecture(kind, name, args).build("cpu")
    return {key: list(value.shape) for key, value in model.state_dict().items()}


def row_of(kind: str, name: str) -> list[object] | None:
    """Give the row of a model that is built by its name, or nothing where it can't be."""
    try:
        shapes = shapes_of(kind, name, {})
    except Exception as error:  # noqa: BLE001 - one model less, and said
        print(f"{kind}:{name}: {error}", file=sys.stderr)
        return None
    try:
        other = shapes_of(kind, name, {"num_classes": CLASSES})
    except Exception:  # noqa: BLE001 - not every model has classes
        other = shapes
    heads = [key for key in shapes if other.get(key) != shapes[key]]
    classes = next((key for key in heads if other.get(key, [0])[0] == CLASSES), "")
    beginnings = sorted({key.partition(".")[0] + "." for key in heads})
    return fingerprint(f"{kind}:{name}", shapes, heads=beginnings, classes=classes).row()


def families() -> list[list[object]]:
    """Give the rows of transformers' classes, whose sizes only a configuration knows."""
    transformers = import_with_torchvision("transformers")
    from transformers.models.auto import modeling_auto

    found: dict[str, list[object]] = {}
    for model_type in listed("hf"):
        for task in TASKS:
            name = getattr(modeling_auto, f"{task}_MAPPING_NAMES").get(model_type)
            if not isinstance(name, str) or f"hf:{name}" in found:
                continue
            try:
                names = names_in(transformers, model_type, name)
            except Exception as error:  # noqa: BLE001 - as above
                print(f"{name}: {error}", file=sys.stderr)
                continue
            found[f"hf:{name}"] = [f"hf:{name}", sorted({fingerprint("", each).names for each in names})]
    return list(found.values())


def names_in(transformers, model_type: str, name: str) -> list[dict[str, list[int]]]:
    """Give a class's names as files hold them: with and without ties, with and without a common prefix."""
    config = transformers.CONFIG_MAPPING[model_type]()
    for attribute in ("num_hidden_layers", "encoder_layers", "decoder_layers", "num_layers"):
        if isinstance(getattr(config, attribute, None), int):
            setattr(config, attribute, 2)
    if model_type == "gpt_neo":
        config = transformers.GPTNeoConfig(num_layers=2, attention_types=[[["global", "local"], 1]])
    if isinstance(getattr(config, "layer_types", None), list):
        config.layer_types = config.layer_types[:2]
    with torch.device("meta"):
        model = getattr(transformers, name)(config)
    whole = {key: [0] for key in model.state_dict()}
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    found = [whole, {key: shape for key, shape in whole.items() if key not in tied}]
    return found + [{key.removeprefix(common_prefix(names)): [0] for key in names} for names in found]


def main() -> None:
    """Write the table."""
    torchvision = import_torchvision()
    names = [("torchvision", name) for name in torchvision.models.list_models() if "quantized" not in name]
    rows = [row_of(kind, name) for kind, name in [*names, *(("timm", name) for name in listed("timm"))]]
    table = {"models": [row for row in rows if row], "families": families()}
    lines = [
        f'"{key}": [\n' + ",\n".join(json.dumps(row, separators=(",", ":")) for row in table[key]) + "\n]"
        for key in table
    ]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")


if __name__ == "__main__":
    main()
