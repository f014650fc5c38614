"""Say in a file which modules become what, check it, and use it."""

import tempfile
from pathlib import Path

from torch import nn

import bioconvert as bc

RULES = """\
version: 1
name: my-rules
description: Hidden linear layers become Yat layers; the head stays.
rules:
  - name: head
    match: {path: head}
    keep: true
  - name: hidden
    match:
      type: [Linear]
      where: {out_features: ">=16"}
      followed_by: [ReLU]
    replace: {with: YatLinear, activation: drop}
"""


class Classifier(nn.Module):
    """A small network of one's own."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        """Score the two classes."""
        return self.head(self.hidden(x))


with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "mine.yaml"
    file.write_text(RULES)
    print(bc.plan(Classifier(), file))

    # A mistake is an error with its line, its column and what may have been meant.
    file.write_text(RULES.replace("YatLinear", "YatLinaer"))
    try:
        bc.plan(Classifier(), file)
    except bc.RuleError as error:
        print(error)
