"""``bioconvert demo``: a network trained, converted by the command a user would type, and trained on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.convert import convert
from bioconvert.cli.options import Seed
from bioconvert.cli.plan import plan
from bioconvert.cli.streams import step
from bioconvert.core.errors import OptionError, TargetError
from bioconvert.report.text import plural

if TYPE_CHECKING:
    from rich.console import RenderableType
    from torch import Tensor, nn

ARCH = "bioconvert.cli.demo_model:DigitsCNN"
RULES = "yat"
_IMAGES = 1797
"""Those that scikit-learn has."""
TRAINING_IMAGES = 1300
"""Of these; accuracy is measured on the others."""
SAMPLES = 256
"""Training images that the conversion sees."""
EPOCHS = 10
FINE_TUNING_EPOCHS = 2
BATCH = 32
LEARNING_RATE = 1e-3


@dataclass(frozen=True, slots=True)
class Files:
    """Where the demo puts what it makes."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The trained network's state dict."""
        return self.folder / "digits.pt"

    @property
    def samples(self) -> Path:
        """Images for the conversion to look at."""
        return self.folder / "samples.safetensors"

    @property
    def converted(self) -> Path:
        """The converted network."""
        return self.folder / "converted"

    @property
    def fine_tuned(self) -> Path:
        """The converted network after more training."""
        return self.folder / "fine-tuned"

    def named(self) -> Mapping[str, Path]:
        """All of them, in the order in which they arise."""
        return {
            "the trained network": self.checkpoint,
            "sample images": self.samples,
            "converted": self.converted,
            "converted and trained on": self.fine_tuned,
        }


@dataclass(frozen=True, slots=True)
class Digits:
    """Images of handwritten digits with their labels: some to train on, the others to measure accuracy on."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the files.")] = Path(
        "demo-out"
    ),
    seed: Seed = 0,
) -> Answer:
    """Train a small network, convert it and train on.

    Takes half a minute and downloads nothing; the handwritten digits come with scikit-learn.
    """
    files = _free_files(out)
    digits = _load_digits(seed)
    out.mkdir(parents=True, exist_ok=True)
    with _one_thread():
        before = _train_original(digits, files, seed)
        shown, done = _plan_and_convert(files, seed)
        converted, after = _train_on(digits, files, seed)
    accuracy = {"trained": before, "converted": converted, "fine_tuned": after}
    data = {
        "commands": [shlex.join(_command(name, files)) for name in ("plan", "convert")],
        **done.data,
        "accuracy": accuracy,
        "files": {name: str(path) for name, path in files.named().items()},
    }
    return Answer(data, lambda: _text(files, shown, done, accuracy))


def _plan_and_convert(files: Files, seed: int) -> tuple[Answer, Answer]:
    shown = plan(rules=[RULES], checkpoint=files.checkpoint, arch=ARCH, inputs=files.samples, seed=seed)
    done = convert(
        rules=[RULES],
        checkpoint=files.checkpoint,
        arch=ARCH,
        inputs=files.samples,
        out=files.converted,
        seed=seed,
        overwrite=True,
    )
    return shown, done


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one core: enough for 8×8 pixels, and the sums don't depend on how many cores there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _free_files(folder: Path) -> Files:
    """Check the folder: what an earlier demo left there is replaced, other files are not touched."""
    files = Files(folder)
    own = set(files.named().values())
    if folder.exists() and (not folder.is_dir() or not own.issuperset(folder.iterdir())):
        raise TargetError(f"{folder}: holds other files than the demo's; choose another folder with --out")
    return files


def _load_digits(seed: int) -> Digits:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise OptionError(
            "the demo needs scikit-learn for its images: pip install 'torch-bioconvert[demo]'"
        ) from error
    import torch

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / found.images.max()
    labels = torch.tensor(found.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train, test = order[:TRAINING_IMAGES], order[TRAINING_IMAGES:]
    return Digits(images[train], labels[train], images[test], labels[test])


def _train_original(digits: Digits, files: Files, seed: int) -> float:
    import torch
    from safetensors.torch import save_file

    from bioconvert.cli.demo_model import DigitsCNN

    torch.manual_seed(seed)
    model = DigitsCNN()
    with step(f"training a network on {plural(TRAINING_IMAGES, 'image')}, {plural(EPOCHS, 'epoch')}"):
        _train(model, digits, EPOCHS)
    torch.save(model.state_dict(), files.checkpoint)
    save_file({"images": digits.train_images[:SAMPLES]}, files.samples)
    return _accuracy(model, digits)


def _train_on(digits: Digits, files: Files, seed: int) -> tuple[float, float]:
    import torch

    from bioconvert import api

    model = api.load(files.converted)
    converted = _accuracy(model, digits)
    torch.manual_seed(seed)
    with step(f"training the converted network, {plural(FINE_TUNING_EPOCHS, 'more epoch')}"):
        _train(model, digits, FINE_TUNING_EPOCHS)
    api.save(model, files.fine_tuned, arch=ARCH, overwrite=True)
    return converted, _accuracy(model, digits)


def _train(model: nn.Module, digits: Digits, epochs: int) -> None:
    import torch

    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(digits.train_labels))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            optimizer.zero_grad()
            scores = model(digits.train_images[batch])
            loss = torch.nn.functional.cross_entropy(scores, digits.train_labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _accuracy(model: nn.Module, digits: Digits) -> float:
    import torch

    model.eval()
    with torch.no_grad():
        right = model(digits.test_images).argmax(1) == digits.test_labels
    return float(right.float().mean())


def _command(name: str, files: Files) -> list[str]:
    words = ["bioconvert", name, str(files.checkpoint), "--arch", ARCH, "--rules", RULES]
    words += ["--inputs", str(files.samples)]
    return [*words, "--out", str(files.converted)] if name == "convert" else words


def _text(
    files: Files, shown: Answer, done: Answer, accuracy: Mapping[str, float]
) -> Iterator[str | RenderableType]:
    from bioconvert.report.demo import accuracy_table, prompt
    from bioconvert.report.tables import facts

    yield prompt(_command("plan", files))
    yield from shown.text()
    yield ""
    yield prompt(_command("convert", files))
    yield from done.text()
    yield ""
    yield accuracy_table(
        {
            "as trained": accuracy["trained"],
            "converted": accuracy["converted"],
            f"converted, {plural(FINE_TUNING_EPOCHS, 'epoch')} later": accuracy["fine_tuned"],
        },
        _IMAGES - TRAINING_IMAGES,
    )
    yield ""
    yield facts({name: str(path) for name, path in files.named().items()})
