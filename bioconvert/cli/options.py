"""The arguments and options that several commands have, with one meaning and one help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# readable=False where a path is read: a file that may not be read is no mistake of usage, and is found later.

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A converted folder.", readable=False)]
Rules = Annotated[
    list[str],
    typer.Option(
        "--rules", "-r", metavar="NAME|FILE", help="A built-in rule set or a rule file; may be given again."
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME",
        help="Where the model's code is: torchvision:NAME, timm:NAME, hf:CONFIG or package.module:callable.",
    ),
]
ArchArgs = Annotated[
    str | None,
    typer.Option("--arch-args", metavar="JSON", help='Its keyword arguments, as {"num_classes": 10}.'),
]
Seed = Annotated[int, typer.Option("--seed", help="Decides every random number.")]
Inputs = Annotated[
    Path | None,
    typer.Option(
        "--inputs",
        metavar="FILE",
        readable=False,
        help="Sample inputs for the model: .safetensors, .npz, .npy or .pt.",
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        "--input-shape", metavar="N,N,…", help="Random inputs of this shape instead, as 1,3,224,224."
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        readable=False,
        help="Samples to fit the new layers to, best of real data: .safetensors, .npz, .npy or .pt.",
    ),
]
AllowMissing = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-missing",
        metavar="GLOB",
        help="Parameters that the checkpoint may lack; may be given again.",
    ),
]
Every = Annotated[bool, typer.Option("--all", help="Show each row, nothing folded or left out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in the target folder.")]
