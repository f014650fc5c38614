"""Models whose hidden layers get more units, each with the nodes, an input, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from growing_models import wrapping
from small_models import seeded
from torch import nn

import bioconvert as bc


class Wide(NamedTuple):
    """One model.

    Args:
        make: builds it.
        node: the path of what becomes a node.
        given: gives an input.
        layers: the layers that get units, by path, with the number that they have.
        units: a number that they can get.
        ways: the ways in which they can.
    """

    make: Callable[[], nn.Module]
    node: str
    given: Callable[[], torch.Tensor]
    layers: dict[str, int]
    units: int = 4
    ways: tuple[str, ...] = ("zero", "paired", "net2wider", "gradmax")


NO_GRADIENT = ("zero", "paired", "net2wider")
TORCHVISION, TRANSFORMERS = "torchvision", "transformers"


def rows(*shape: int) -> Callable[[], torch.Tensor]:
    """Give fixed numbers."""
    return lambda: torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def mlp(*between: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Build a block of two layers, with something in between, and a head."""

    def make() -> nn.Module:
        block = nn.Sequential(nn.Linear(5, 6), *(each() for each in between), nn.Linear(6, 4))
        return nn.Sequential(block, nn.Tanh(), nn.Linear(4, 3))

    return make


class Gated(nn.Module):
    """A perceptron whose units are multiplied by those of a second layer."""

    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(5, 6, bias=False)
        self.up_proj = nn.Linear(5, 6)
        self.act_fn = nn.SiLU()
        self.down_proj = nn.Linear(6, 4)

    def forward(self, x):
        """Let each unit of the second layer through as far as that of the first one says."""
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class Pictures(nn.Module):
    """Two convolutions with norms, a flattening, and two layers."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), norm(4), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.more = nn.Conv2d(4, 6, 3, padding=1, stride=2)
        self.hidden = nn.Linear(24, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        """Classify pictures of 8 by 8."""
        x = torch.relu(self.more(self.features(x)))
        return self.head(torch.relu(self.hidden(torch.flatten(x, 1))))


def whole(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Put a model into a container, so that all of it can be a node inside."""
    return lambda: nn.Sequential(make())


def resnet18() -> nn.Module:
    """Build the model of torchvision."""
    import torchvision

    return torchvision.models.resnet18(num_classes=3)


def gpt2() -> nn.Module:
    """Build a small GPT-2."""
    import transformers

    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=8, vocab_size=11, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    """Build a small LLaMA."""
    import transformers

    config = transformers.LlamaConfig(
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_size=8,
        intermediate_size=12,
        vocab_size=11,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.LlamaForCausalLM(config)


WIDE: dict[str, Wide] = {
    "MLP": Wide(mlp(nn.ReLU), "0", rows(9, 5), {"0.0": 6}),
    "MLP, GELU": Wide(mlp(nn.GELU), "0", rows(9, 5), {"0.0": 6}, 3, ("zero", "net2wider", "gradmax")),
    "MLP, sigmoid": Wide(mlp(nn.Sigmoid), "0", rows(9, 5), {"0.0": 6}, 12),
    "one layer": Wide(mlp(nn.ReLU), "0.0", rows(9, 5), {"0.0": 6}),
    "two hidden layers": Wide(
        whole(
            lambda: nn.Sequential(
                nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)
            )
        ),
        "0",
        rows(9, 5),
        {"0.0": 6, "0.2": 4},
    ),
    "BatchNorm": Wide(mlp(lambda: nn.BatchNorm1d(6), nn.ReLU), "0", rows(9, 5), {"0.0": 6}, ways=NO_GRADIENT),
    "LayerNorm": Wide(
        mlp(lambda: nn.LayerNorm(6), nn.ReLU), "0", rows(9, 5), {"0.0": 6}, 12, ways=NO_GRADIENT
    ),
    "GroupNorm": Wide(
        mlp(lambda: nn.GroupNorm(2, 6), nn.ReLU), "0", rows(9, 5), {"0.0": 6}, 6, ways=NO_GRADIENT
    ),
    "SwiGLU": Wide(whole(Gated), "0", rows(9, 5), {"0.gate_proj": 6}, ways=NO_GRADIENT),
    "CNN": Wide(
        whole(Pictures),
        "0",
        rows(3, 3, 8, 8),
        {"0.features.0": 4, "0.more": 6, "0.hidden": 8},
        4,
        NO_GRADIENT,
    ),
    "CNN, GroupNorm": Wide(
        whole(lambda: Pictures(lambda n: nn.GroupNorm(2, n))),
        "0.features",
        rows(3, 3, 8, 8),
        {"0.features.0": 4},
        4,
        NO_GRADIENT,
    ),
    "CNN, no norm": Wide(
        whole(lambda: Pictures(lambda n: nn.Identity())),
        "0.more",
        rows(3, 3, 8, 8),
        {"0.more": 6},
    ),
    "resnet18": Wide(resnet18, "layer2.0", rows(4, 3, 64, 64), {"layer2.0.conv1": 128}, ways=NO_GRADIENT),
    "GPT-2": Wide(
        gpt2,
        "transformer.h.1.mlp",
        lambda: torch.arange(14).view(2, 7) % 11,
        {"transformer.h.1.mlp.c_fc": 32},
    ),
    "LLaMA": Wide(
        llama,
        "model.layers.1.mlp",
        lambda: torch.arange(14).view(2, 7) % 11,
        {"model.layers.1.mlp.gate_proj": 12},
        ways=NO_GRADIENT,
    ),
}
"""The models, by what they are examples of."""


def wide(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, bc.Organism, Any]:
    """Build one, with its organism and an input; torch's switches for evaluation are as it was built."""
    case = WIDE[name]
    model = bc.convert(seeded(case.make), wrapping(case.node)).to(dtype)
    if name == "GPT-2":
        model.eval()
    given = case.given()
    return model, bc.Organism(model), given.to(dtype) if given.is_floating_point() else given


def output(model: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """Run it."""
    found = model(given)
    return found if isinstance(found, torch.Tensor) else found.logits


def loss_of(model: nn.Module, given: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Give a loss of it."""
    return lambda: output(model, given).square().mean()


def widened(
    name: str, by: str, dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[nn.Module, bc.Organism, Any]:
    """Build one and let it grow."""
    model, organism, given = wide(name, dtype)
    grow(organism, name, by, given, **options)
    return model, organism, given


def grow(organism: bc.Organism, name: str, by: str, given: torch.Tensor, **options: Any) -> None:
    """Let one grow."""
    loss = {"loss": loss_of(organism.model, given)} if by == "gradmax" else {}
    organism.grow(WIDE[name].node, "width", by=by, units=WIDE[name].units, **loss, **options)
