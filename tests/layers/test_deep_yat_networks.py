"""Deep networks of Yat layers alone, from the data-driven initialisation on."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.layers import YatLinear, initialise

FULL = {"per_unit": True, "offset": True}


class Block(nn.Module):
    """x + f(x)."""

    def __init__(self, width):
        super().__init__()
        self.branch = YatLinear(width, width, **FULL)

    def forward(self, x):
        return x + self.branch(x)


def digits():
    """Give scaled digits and their labels."""
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)


def losses(model, x, y, steps, size):
    """Train a model with Adam and give its losses."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        chosen = torch.randint(1000, (size,), generator=generator)
        loss = F.cross_entropy(model(x[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize(
    ("body", "steps", "bar"),
    [
        pytest.param(lambda: [YatLinear(64, 64, **FULL) for _ in range(8)], 150, 0.85, id="8 layers"),
        pytest.param(
            lambda: [*[Block(64) for _ in range(100)], nn.LayerNorm(64)], 100, 0.8, id="100 layers, residual"
        ),
    ],
)
def test_deep_networks_train(body, steps, bar):
    """Deep networks of Yat layers alone learn to tell digits they haven't seen, from the first steps on."""
    torch.manual_seed(0)
    x, y = digits()
    model = nn.Sequential(*body(), nn.Linear(64, 10))
    initialise(model, x[:256])
    found = losses(model, x, y, steps, 64)
    assert found[0] < 4
    assert sum(found[-10:]) / 10 < found[0] / 3
    assert (model(x[1000:]).argmax(1) == y[1000:]).float().mean().item() > bar
