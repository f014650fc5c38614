"""Random numbers as a function of seed, name, purpose, step and position."""

import torch

from bioconvert.core.random import CHUNK, Stream


def test_the_same_question_has_the_same_answer():
    """A second stream of the same seed and name draws the same numbers, whatever was drawn in between."""
    first = Stream(1, "layer.weight").normal("init", (3, 5))
    Stream(1, "layer.weight").normal("noise", (100,))
    torch.manual_seed(99)
    assert torch.equal(first, Stream(1, "layer.weight").normal("init", (3, 5)))


def test_every_part_of_the_key_matters():
    """Seed, name, purpose and step each give other numbers."""
    draws = [
        Stream(1, "a").uniform("p", (8,)),
        Stream(2, "a").uniform("p", (8,)),
        Stream(1, "b").uniform("p", (8,)),
        Stream(1, "a").uniform("q", (8,)),
        Stream(1, "a").uniform("p", (8,), step=1),
    ]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws)


def test_names_do_not_run_into_one_another():
    """The name "a", purpose "bc" isn't the name "ab", purpose "c"."""
    assert not torch.equal(Stream(0, "a").normal("bc", (8,)), Stream(0, "ab").normal("c", (8,)))


def test_a_chunk_does_not_depend_on_how_much_follows():
    """Whole chunks are the same in a longer tensor: a shard can draw its part alone."""
    long = Stream(0, "w").normal("init", (2 * CHUNK + 7,))
    short = Stream(0, "w").normal("init", (2 * CHUNK,))
    assert torch.equal(long[: 2 * CHUNK], short)


def test_the_global_generator_is_left_alone():
    """Drawing doesn't advance torch's own random state."""
    before = torch.random.get_rng_state()
    Stream(0, "w").normal("init", (10,))
    assert torch.equal(before, torch.random.get_rng_state())


def test_moments():
    """The numbers have the mean and variance of their distribution, across a chunk's edge too."""
    normal = Stream(3, "w").normal("init", (3 * CHUNK,))
    uniform = Stream(3, "w").uniform("init", (3 * CHUNK,))
    assert abs(normal.mean()) < 0.01
    assert abs(normal.var() - 1) < 0.02
    assert abs(uniform.mean() - 0.5) < 0.005
    assert normal.dtype is torch.float32


def test_an_empty_shape():
    """No elements, no numbers; a scalar is one element."""
    assert Stream(0, "w").normal("init", (0, 4)).shape == (0, 4)
    assert Stream(0, "w").normal("init", ()).shape == ()
