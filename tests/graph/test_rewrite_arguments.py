"""The arguments of a rewritten forward: bound, refused and answered as the original does."""

import functools
import inspect

import pytest
import torch
from rewriting import Layer, Variadic, X, rewritten, same
from small_models import seeded
from torch import nn


def outcome(module, *args, **kwargs):
    """Give what a call returns, or the text of its TypeError."""
    try:
        return module(*args, **kwargs)
    except TypeError as error:
        return str(error)


def decorated(forward):
    """Let a forward take `doubled` too."""

    @functools.wraps(forward)
    def wrapper(self, *args, doubled=False, **kwargs):
        y = forward(self, *args, **kwargs)
        return y * 2 if doubled else y

    return wrapper


class PositionalOnly(Layer):
    def forward(self, x, y=2, /, z=3, *, w=4, **x_):
        return self.fc(x) * y + z * w + sum(x_.values())


class Defaults(Layer):
    def forward(self, x, by=X, act=torch.tanh, shape=(2, 4), opts=None):
        return act(self.fc(x) * by).view(shape) if opts is None else x * opts["k"]


class Decorated(Layer):
    @decorated
    def forward(self, x, mask=None):
        return self.fc(x) if mask is None else self.fc(x) * mask


class Asking(Layer):
    def forward(self, x, state=None):
        x = torch.cat(x, 0) if isinstance(x, (list, tuple)) else x
        if isinstance(state, dict):
            return self.fc(x) * state["by"]
        return self.fc(x) if state is None else self.fc(x) + state[0]


class Mapped(dict):
    """A dictionary of a type of its own."""


class NamedSelf(nn.Module):
    def __init__(self):
        super().__init__()
        self.self = nn.Linear(4, 4)
        self.output = nn.Linear(4, 4)

    def forward(self, x=None):
        return self.output(self.self(x))


class Passing(Layer):
    def forward(self, x, **kwargs):
        return self.fc(x, **kwargs) if kwargs.get("again") is None else self.fc(self.fc(x))


CALLS = [
    pytest.param(
        Variadic,
        [
            ((X,), {}),
            ((X, X, 2), {}),
            ((X,), {"scale": 2.0}),
            ((X, X), {"scale": X, "bias": X, "b": 3}),
            ((), {"x": X, "args": X, "self_": 2}),
        ],
        id="variadic",
    ),
    pytest.param(
        PositionalOnly,
        [((X,), {}), ((X, 5), {"x": 1}), ((X, X, 1), {"w": X, "y": X}), ((X,), {"z": 2})],
        id="positional-only and keyword-only",
    ),
    pytest.param(
        Defaults,
        [
            ((X,), {}),
            ((X, X * 2), {}),
            ((X,), {"act": torch.relu, "shape": (4, 2)}),
            ((X,), {"shape": [8]}),
            ((X,), {"opts": {"k": 2}}),
            ((X,), {"opts": {"k": X}}),
        ],
        id="defaults of every kind",
    ),
    pytest.param(
        Decorated,
        [((X,), {}), ((X, X), {}), ((X,), {"doubled": True}), ((X,), {"doubled": True, "mask": X})],
        id="decorated",
    ),
    pytest.param(
        Asking,
        [
            ((X,), {}),
            ((X, {"by": X}), {}),
            ((X, [X]), {}),
            ((X, Mapped(by=X)), {}),
            ((X, (X,)), {}),
            (([X, X],), {}),
        ],
        id="types",
    ),
    pytest.param(NamedSelf, [((X,), {}), ((), {"x": X})], id="a child named self"),
    pytest.param(Passing, [((X,), {}), ((X,), {"again": True}), ((X,), {"again": X})], id="passed on"),
]


@pytest.mark.parametrize(("make", "calls"), CALLS)
class TestArguments:
    def test_every_call_is_answered_as_before(self, make, calls):
        """Extra arguments, and others than the defaults, have their effect, also the second time."""
        original = seeded(make)
        module = rewritten(original)
        for args, kwargs in (*calls, *calls):
            assert same(original(*args, **kwargs), module(*args, **kwargs))

    def test_the_signature_is_kept(self, make, calls):
        """`inspect.signature` says the same."""
        original = make()
        assert str(inspect.signature(rewritten(original).forward)) == str(inspect.signature(original.forward))

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [((), {}), ((X, 1, 2, 3, 4, 5, 6, 7), {}), ((X,), {"nonsense": 1}), ((X,), {"x": 2})],
    )
    def test_wrong_arguments_fail_with_the_same_words(self, make, calls, args, kwargs):
        """A TypeError of the original is raised with its text."""
        original = make()
        module = rewritten(original)
        assert same(outcome(module, *args, **kwargs), outcome(original, *args, **kwargs))
