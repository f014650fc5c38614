"""The arguments and options that several commands have, with one meaning and one help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bioconvert.cli.completing import architectures, rule_sets_and_files

# readable=False where a path is read: a file that may not be read is no mistake of usage, and is found later.

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A converted folder.", readable=False)]
Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A file or folder.", readable=False)]
CheckpointIfAny = Annotated[
    Path | None,
    typer.Argument(metavar="CHECKPOINT", help="A file or folder; without one, --arch alone.", readable=False),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write, new or empty.")]
OutIfAny = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder to write, new or empty.")
]
_RULES = typer.Option(
    "--rules",
    "-r",
    metavar="NAME|FILE",
    help="A built-in rule set or a rule file; may be given again.",
    autocompletion=rule_sets_and_files,
)
Rules = Annotated[list[str], _RULES]
RulesIfAny = Annotated[list[str] | None, _RULES]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME",
        autocompletion=architectures,
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
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Replace the checkpoint's own folder by its conversion.")
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with what an interrupted run of this command has left, if any."),
]
ShardSize = Annotated[
    str, typer.Option("--shard-size", metavar="SIZE", help="Bytes of tensors in one file, as 2GiB.")
]
Stream = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream",
        help="Read one tensor at a time; by default where the checkpoint doesn't fit into memory.",
        show_default=False,
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write a page about it, as report.html."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in the target folder.")]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="KEY",
        help="Which weights of a training checkpoint, as state_dict_ema or model/ema.",
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="safetensors|pt",
        help="How weights are written; pt is for torch.load, and keeps the rest of a training checkpoint.",
    ),
]
UnsafePickle = Annotated[
    bool,
    typer.Option(
        "--unsafe-pickle",
        help="Let a file that can't be read otherwise run its code, in a process of its own; it can do "
        "whatever you can.",
    ),
]
