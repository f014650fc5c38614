"""Makes lightning.ckpt: what Lightning's own trainer saves, with hyper-parameters of many kinds.

Run it where ``lightning`` is installed (made with 2.6.6): python make_lightning.py
"""

import argparse
import datetime
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.data import AttributeDict
from torch import nn


class Net(lightning.LightningModule):
    """A model as users of Lightning write it: the network is an attribute."""

    def __init__(self, **options):
        super().__init__()
        self.save_hyperparameters()
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def training_step(self, batch, _):
        """Give some loss."""
        return self.model(batch[0]).square().mean()

    def configure_optimizers(self):
        """Give an optimizer with state of its own."""
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


OPTIONS = {
    "args": argparse.Namespace(lr=0.1, milestones=[1, 2]),
    "root": Path("runs/one"),
    "rate": np.float64(0.25),
    "count": np.int64(7),
    "nested": AttributeDict(depth=2),
    "sizes": (3, 4),
    "begun": datetime.datetime(2026, 1, 2),
    "number_format": torch.float32,
}


def main():
    """Train for one epoch and save."""
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(8, 4))
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(**OPTIONS), torch.utils.data.DataLoader(data, batch_size=4))
    trainer.save_checkpoint(Path(__file__).with_name("lightning.ckpt"))


if __name__ == "__main__":
    main()
