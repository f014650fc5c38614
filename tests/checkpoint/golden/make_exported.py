"""Makes exported.pt2: what torch.export.save writes (made with torch 2.13): python make_exported.py."""

from pathlib import Path

import torch
from torch import nn


class Net(nn.Module):
    """Two layers on one weight, and a buffer."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        self.other.weight = self.one.weight
        self.register_buffer("scale", torch.ones(3, dtype=torch.bfloat16))

    def forward(self, x):
        """Run."""
        return self.other(self.one(x)) * self.scale


if __name__ == "__main__":
    torch.manual_seed(0)
    program = torch.export.export(Net(), (torch.ones(1, 3),))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # which names the machine's folders
    torch.export.save(program, Path(__file__).with_name("exported.pt2"))
