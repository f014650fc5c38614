"""The tree of a checkpoint's names."""

import pytest

from bioconvert.report.tree import TensorLine, checkpoint_tree


def _block(name, width=4):
    return [TensorLine(f"{name}.weight", "F32", (width, width)), TensorLine(f"{name}.bias", "F32", (width,))]


BLOCKS = [line for i in range(12) for part in ("q", "k") for line in _block(f"h.{i}.{part}")]
NORM = [
    *(TensorLine(f"bn.{name}", "F32", (8,)) for name in ("weight", "bias")),
    TensorLine("bn.num_batches_tracked", "I64", ()),
]

TREES = [
    pytest.param([], ["model"], id="nothing"),
    pytest.param(
        BLOCKS,
        [
            "model  480",
            "└── h  480",
            "    └── {0..11}  12 × 40",
            "        ├── q  weight 4×4; bias 4",
            "        └── k  weight 4×4; bias 4",
        ],
        id="equal branches are drawn once",
    ),
    pytest.param(
        [*_block("h.0", 2), *_block("h.1", 3)],
        ["model  18", "└── h  18", "    ├── 0  weight 2×2; bias 2", "    └── 1  weight 3×3; bias 3"],
        id="branches that differ in shape are not",
    ),
    pytest.param(
        _block("a.b.c"), ["model  20", "└── a.b.c  weight 4×4; bias 4"], id="a chain of only children is one"
    ),
    pytest.param(
        NORM, ["model  17", "└── bn  weight, bias 8; num_batches_tracked I64"], id="a rare type is named"
    ),
    pytest.param([TensorLine("scale", "F32", (1,))], ["model  scale 1"], id="a tensor of the model's own"),
    pytest.param(
        _block("[red]x\x1b[31m"),
        ["model  20", r"└── [red]x\x1b[31m  weight 4×4; bias 4"],
        id="markup and ESC are text",
    ),
]


@pytest.mark.parametrize(("lines", "expected"), TREES)
def test_tree_looks_like_this(rendered, lines, expected):
    """Each level of names is a level of the tree, with its tensors and the number of values below it."""
    assert rendered(checkpoint_tree(lines, title="model")).splitlines() == expected


def test_depth_sums_up_what_lies_deeper(rendered):
    """With a depth of one, a branch is a line with the number of its values."""
    assert rendered(checkpoint_tree(BLOCKS, title="model", depth=1)).splitlines() == [
        "model  480",
        "└── h  480",
    ]


def test_hostile_name_costs_two_lines(rendered):
    """A name of ten thousand dots neither exhausts the stack nor fills the screen."""
    drawn = rendered(checkpoint_tree(_block("." * 10_000), title="model")).splitlines()
    assert len(drawn) < 10
