"""Yat attention as a function: the formula, near pairs, masks, blocks, derivatives, and what is kept."""

import math

import pytest
import torch
from torch import func
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from bioconvert.functional import attention_tiles, blocks, yat_attention

# torch's forward mode compiles its own decompositions by a way it calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

HEADS, QUERIES, KEYS, WIDTH, VALUES = 3, 6, 9, 4, 5
EPSILON = 0.1
"""Enough for a key at a query not to take all of a softmax, whose gradient would be rounding alone."""
PATHS = [pytest.param(size, id=f"block_size={size}") for size in (None, 1, 4, 100)]


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def operands(*lead, dtype=torch.float64):
    """Give queries, keys and values, two keys of them at a query and very near one."""
    q, k, v = randn(*lead, QUERIES, WIDTH), randn(*lead, KEYS, WIDTH, seed=1), randn(*lead, KEYS, VALUES)
    k[..., 0, :], k[..., 1, :] = q[..., 0, :], q[..., 1, :] + 1e-2 * k[..., 1, :]
    return tuple(each.to(dtype).requires_grad_() for each in (q, k, v))


def naive(
    q, k, v, mask=None, *, alpha=1.0, epsilon=1e-5, spherical=False, floor=0.0, causal=False, scale=None
):
    """Compute the formula from every difference of a query and a key."""
    q, k = (F.normalize(q, dim=-1), F.normalize(k, dim=-1)) if spherical else (q, k)
    distance = (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1)
    least = floor * (q.square().sum(-1)[..., :, None] + k.square().sum(-1)[..., None, :])
    alpha, epsilon = (
        each.view(-1, 1, 1) if isinstance(each, torch.Tensor) else each for each in (alpha, epsilon)
    )
    quotient = alpha * (q @ k.transpose(-1, -2)).square() / (torch.maximum(distance, least) + epsilon)
    logits = quotient * (scale or 1 / math.sqrt(q.shape[-1]))
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    weights = logits.softmax(-1).nan_to_num(0.0)
    return weights @ v, weights


def leaf(*shape, seed=7, positive=False):
    drawn = randn(*shape, seed=seed)
    return (drawn.abs() + 0.2 if positive else drawn).requires_grad_()


OPTIONS = [
    pytest.param({}, id="defaults"),
    pytest.param({"alpha": 0.7, "epsilon": 0.3, "scale": 0.2}, id="numbers"),
    pytest.param({"alpha": -0.7}, id="negative number"),
    pytest.param({"alpha": 0.0, "epsilon": 1}, id="zero"),
    pytest.param({"alpha": 1, "epsilon": 1}, id="integers"),
    pytest.param({"alpha": leaf(1, positive=True)}, id="one alpha"),
    pytest.param({"alpha": leaf(HEADS)}, id="alpha of each head"),
    pytest.param({"epsilon": leaf(1, positive=True)}, id="one epsilon"),
    pytest.param({"epsilon": leaf(HEADS, positive=True)}, id="epsilon of each head"),
    pytest.param({"spherical": True, "epsilon": 0.1}, id="spherical"),
    pytest.param({"floor": 5e-3}, id="floor of near pairs"),
    pytest.param({"floor": 0.9}, id="floor of many pairs"),
    pytest.param({"is_causal": True}, id="causal"),
    pytest.param({"mask": leaf(QUERIES, KEYS)}, id="mask of pairs"),
    pytest.param({"mask": leaf(2, 1, 1, KEYS), "alpha": leaf(HEADS)}, id="mask of keys"),
    pytest.param({"mask": leaf(2, HEADS, QUERIES, KEYS), "is_causal": True}, id="mask of everything"),
    pytest.param({"mask": randn(QUERIES, KEYS, seed=3) > -0.5}, id="boolean mask"),
    pytest.param({"mask": randn(2, 1, QUERIES, 1, seed=3) > 0}, id="queries that see nothing"),
]


def expected_of(given, options, **more):
    renamed = {{"is_causal": "causal"}.get(name, name): option for name, option in options.items()}
    return naive(*given, **renamed, **more)


def narrow(option):
    """Give a tensor in single precision and without a gradient."""
    if not isinstance(option, torch.Tensor) or option.dtype == torch.bool:
        return option
    return option.detach().float()


def leaves_of(given, options):
    learnt = [each for each in options.values() if isinstance(each, torch.Tensor) and each.requires_grad]
    return [*given, *learnt]


@pytest.mark.parametrize("block_size", PATHS)
@pytest.mark.parametrize("options", OPTIONS)
def test_is_the_formula(options, block_size):
    """Values and every gradient are those of the formula, whole and in blocks of any size."""
    given, options = operands(2, HEADS), {"epsilon": EPSILON, **options}
    found = yat_attention(*given, **options, block_size=block_size)
    expected = expected_of(given, options)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    leaves = leaves_of(given, options)
    gradients = [torch.autograd.grad(y.sin().sum(), leaves) for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS)
def test_gives_the_weights_too(options):
    """The weights are the formula's, and a gradient that comes through them alone or beside the output's."""
    given, options = operands(2, HEADS), {"epsilon": EPSILON, **options}
    found, expected = yat_attention(*given, **options, need_weights=True), expected_of(given, options)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    leaves = leaves_of(given, options)
    for total in (lambda y, w: w.cos().sum(), lambda y, w: y.sin().sum() + w.square().sum()):
        gradients = [
            torch.autograd.grad(total(*each), leaves, retain_graph=True, materialize_grads=True)
            for each in (found, expected)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("block_size", PATHS)
@pytest.mark.parametrize("lead", [(), (HEADS,), (2, 2, HEADS)])
def test_takes_any_leading_dimensions(lead, block_size):
    """The last of them is that of the heads; a mask broadcasts with all of them."""
    given = operands(*lead)
    options = {
        "alpha": leaf(lead[-1]) if lead else 0.7,
        "mask": leaf(*lead[:1], *[1] * len(lead[1:]), 1, KEYS),
    }
    found = yat_attention(*given, **options, block_size=block_size)
    torch.testing.assert_close(found, expected_of(given, options)[0])


def test_leading_dimensions_broadcast():
    """One set of keys and values serves every head, as in multi-query attention."""
    q, k, v = operands(2, HEADS)
    torch.testing.assert_close(yat_attention(q, k[:, :1], v[:, :1]), naive(q, k[:, :1], v[:, :1])[0])


@pytest.mark.parametrize("block_size", PATHS)
@pytest.mark.parametrize("options", OPTIONS)
def test_blocks_give_what_the_whole_gives_in_single_precision(options, block_size):
    """Values agree to 1e-6, and gradients to rounding."""
    options = {"epsilon": EPSILON, **{name: narrow(option) for name, option in options.items()}}
    given = operands(2, HEADS, dtype=torch.float32)
    whole, cut = (yat_attention(*given, **options, block_size=size) for size in (None, block_size))
    torch.testing.assert_close(cut, whole, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(y.sin().sum(), given) for y in (cut, whole)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("most", [1, 20, 60, 200])
@pytest.mark.parametrize("options", OPTIONS)
def test_tiles_change_nothing(options, most, monkeypatch):
    """Cut into tiles of few rows, heads or batches, values and gradients are the same."""
    given, options = operands(2, HEADS), {"epsilon": EPSILON, **options}
    leaves = leaves_of(given, options)

    def results():
        y, weights = yat_attention(*given, **options, need_weights=True)
        return y, weights, *torch.autograd.grad(y.sin().sum() + weights.cos().sum(), leaves)

    whole = results()
    monkeypatch.setattr(blocks, "BLOCK", most)
    torch.testing.assert_close(results(), whole, rtol=1e-9, atol=1e-12)


class TestNearPairs:
    @pytest.mark.parametrize("block_size", [None, 4])
    @pytest.mark.parametrize("norm", [1.0, 8.0, 64.0])
    @pytest.mark.parametrize("part", [1e-8, 1e-6, 1e-4, 1e-3, 5e-3, 2e-2])
    def test_are_right_in_single_precision(self, part, norm, block_size):
        """At any distance from a key, weights and output are within 1e-3 of fp64."""
        k = F.normalize(randn(16, 64), dim=-1) * math.sqrt(norm)
        step = F.normalize(randn(16, 64, seed=1), dim=-1) * math.sqrt(norm * part)
        given = tuple(each.float() for each in (k + step, k, randn(16, 8, seed=2)))
        wide = [each.double() for each in given]
        # The factor brings the logits of near pairs to where a softmax tells them apart.
        options = {"alpha": min(1.0, 40 * part / norm), "epsilon": 1e-5}
        exact, weights = naive(*wide, **options)
        assert 1e-6 < weights.max() < 1 - 1e-6
        found = yat_attention(*given, **options, block_size=block_size)
        assert ((found - exact).norm() / exact.norm()).item() < 1e-3

    @pytest.mark.parametrize("block_size", [None, 4])
    @pytest.mark.parametrize("epsilon", [1e-5, 1.0])
    def test_have_the_right_gradient(self, epsilon, block_size):
        """At q = k, where nothing of the distance is left in fp32, gradients are fp64's."""
        q = randn(8, 16)
        scale = 2 * epsilon / q.square().sum(-1).square().max().item()
        given = [each.float().requires_grad_() for each in (q, q + 1e-4 * randn(8, 16, seed=1), randn(8, 3))]
        wide = [each.detach().double().requires_grad_() for each in given]
        found = yat_attention(*given, epsilon=epsilon, scale=scale, block_size=block_size)
        exact = naive(*wide, epsilon=epsilon, scale=scale)[0]
        gradients = (torch.autograd.grad(y.sin().sum(), x) for y, x in ((found, given), (exact, wide)))
        for one, other in zip(*gradients, strict=True):
            assert ((one - other).norm() / other.norm()).item() < 1e-3

    @pytest.mark.parametrize("block_size", [None, 2])
    @pytest.mark.parametrize("make", [torch.zeros, torch.ones], ids=["zeros", "ones"])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    @pytest.mark.parametrize("spherical", [False, True])
    def test_at_one_point_all_is_finite(self, dtype, make, spherical, block_size):
        """Queries equal to all keys, be they zero, give the mean of the values, and finite gradients."""
        q, k = (make(4, 8, dtype=dtype, requires_grad=True) for _ in range(2))
        v = torch.arange(12.0).view(4, 3).to(dtype).requires_grad_()
        y = yat_attention(q, k, v, epsilon=EPSILON, spherical=spherical, block_size=block_size)
        assert y.dtype == dtype
        torch.testing.assert_close(y, v.mean(0).expand(4, 3).to(dtype), rtol=1e-2, atol=1e-2)
        assert all(each.isfinite().all() for each in torch.autograd.grad(y.sin().sum(), (q, k, v)))


HIDDEN = torch.tensor([[True, True, True], [False, False, False], [True, False, False]])


@pytest.mark.parametrize("transformed", [False, True], ids=["fused", "plain"])
@pytest.mark.parametrize("block_size", [None, 1, 2])
def test_a_query_that_sees_no_key_gives_zeros(block_size, transformed):
    """A fully masked row is zero, in weights and output, and its gradients are finite."""
    q, k, v = randn(3, 4).requires_grad_(), randn(3, 4, seed=1), randn(3, 5, seed=2)

    def call(q):
        return yat_attention(q, k, v, HIDDEN, block_size=block_size)

    y = func.vmap(call)(q[None])[0] if transformed else call(q)
    assert not y[1].any()
    assert y[[0, 2]].all()
    gradient = torch.autograd.grad(y.sin().sum(), q)[0]
    assert gradient.isfinite().all()
    assert not gradient[1].any()


@pytest.mark.parametrize("block_size", [None, 2])
class TestDropout:
    def test_drops_and_scales(self, block_size):
        """A weight is zero or what it was over the share that stays; the mean over draws is the output."""
        given = operands(2)
        torch.manual_seed(0)
        whole = yat_attention(*given, epsilon=1.0)
        mean = (
            sum(yat_attention(*given, epsilon=1.0, dropout_p=0.5, block_size=block_size) for _ in range(400))
            / 400
        )
        torch.testing.assert_close(mean, whole, rtol=0.3, atol=0.15)

    def test_is_drawn_from_torchs_seed(self, block_size):
        """One seed gives one result, another another."""
        given = operands(2)

        def drawn(seed):
            torch.manual_seed(seed)
            return yat_attention(*given, dropout_p=0.5, block_size=block_size)

        assert torch.equal(drawn(0), drawn(0))
        assert not torch.equal(drawn(0), drawn(1))

    def test_everything_may_be_dropped(self, block_size):
        """A probability of 1 leaves zeros."""
        assert not yat_attention(*operands(2), dropout_p=1.0, block_size=block_size).any()

    def test_backward_drops_the_same(self, block_size):
        """First and second derivatives are those of the draw that the output was made with."""

        def call(*given):
            torch.manual_seed(3)
            return yat_attention(*given, epsilon=0.5, dropout_p=0.4, block_size=block_size)

        given = tuple(each.detach()[..., :3, :].clone().requires_grad_() for each in operands(2))
        assert gradcheck(call, given)
        assert gradgradcheck(call, given)


CHECKED = [
    pytest.param({}, id="plain"),
    pytest.param({"is_causal": True, "floor": 1e-3}, id="causal"),
    pytest.param({"spherical": True}, id="spherical"),
    pytest.param({"need_weights": True}, id="weights"),
]


@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("options", CHECKED)
class TestDerivatives:
    @pytest.fixture
    def given(self):
        shapes = ((2, 3, 2), (2, 4, 2), (2, 4, 2), (3, 4))
        drawn = [randn(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes)]
        return *drawn, leaf(2, positive=True), leaf(1, positive=True)

    @pytest.fixture
    def call(self, options, block_size):
        def call(q, k, v, mask, alpha, epsilon):
            return yat_attention(
                q, k, v, mask, alpha=alpha, epsilon=epsilon, block_size=block_size, **options
            )

        return call

    def test_first_are_right(self, call, given):
        """Backward, batched backward and forward mode agree with differences."""
        assert gradcheck(call, given, check_forward_ad=True, check_batched_grad=True)

    def test_second_are_right(self, call, given):
        """A backward can be differentiated."""
        assert gradgradcheck(call, given)

    def test_one_is_what_it_is_among_all(self, call, given):
        """Leaving out the others' gradients changes none."""

        def total(*operands):
            found = call(*operands)
            return sum(each.sin().sum() for each in (found if isinstance(found, tuple) else (found,)))

        every = torch.autograd.grad(total(*given), given)
        for i, expected in enumerate(every):
            alone = [x if j == i else x.detach() for j, x in enumerate(given)]
            torch.testing.assert_close(torch.autograd.grad(total(*alone), given[i])[0], expected)


@pytest.mark.parametrize("block_size", [None, 2])
class TestTransforms:
    def test_vmap_is_a_loop(self, block_size):
        """Batched over an outer dimension, attention is that of each entry."""
        given = [each.detach() for each in operands(4)]

        def call(q, k, v):
            return yat_attention(q, k, v, block_size=block_size)

        looped = torch.stack([call(*each) for each in zip(*given, strict=True)])
        torch.testing.assert_close(func.vmap(call)(*given), looped)

    def test_functional_gradients_are_the_same(self, block_size):
        """``torch.func.grad``, also of each sample, gives what ``backward`` gives."""
        given = operands(4)

        def total(q, k, v):
            return yat_attention(q, k, v, block_size=block_size).sin().sum()

        expected = torch.autograd.grad(total(*given), given)
        detached = [each.detach() for each in given]
        torch.testing.assert_close(func.grad(total, (0, 1, 2))(*detached), expected)
        torch.testing.assert_close(func.vmap(func.grad(total, (0, 1, 2)))(*detached), expected)

    def test_compiles_whole(self, block_size):
        """torch.compile captures it in one graph, forward and backward."""
        given = operands(2)

        def call(q, k, v):
            return yat_attention(q, k, v, is_causal=True, block_size=block_size)

        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*given), call(*given))
        gradients = [torch.autograd.grad(f(*given).sin().sum(), given) for f in (compiled, call)]
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


def kept_by(length, **options):
    """Give how many numbers a forward keeps for backward, each memory once."""
    q, k, v = (torch.randn(2, length, 8, requires_grad=True) for _ in range(3))
    storages = {}

    def note(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = yat_attention(q, k, v, **options)
    return sum(storages.values()), y


class TestWhatIsKept:
    def test_of_the_whole_is_one_number_for_each_pair(self):
        """Beside queries, keys, values, output and a number for each query there are the products alone."""
        assert kept_by(32)[0] == 2 * 32 * 32 + 2 * 32 * (4 * 8 + 1)

    @pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"dropout_p": 0.3}])
    def test_of_blocks_grows_with_the_length(self, options):
        """Twice the length keeps twice as much, and nothing for pairs."""
        for length in (64, 128, 256):
            assert kept_by(length, block_size=16, **options)[0] == 2 * length * (4 * 8 + 1)

    def test_without_gradients_is_nothing(self, monkeypatch):
        """In evaluation no matrix of all pairs is made."""
        seen = []
        real = attention_tiles.Tile.of_pairs
        monkeypatch.setattr(attention_tiles.Tile, "of_pairs", lambda *a: seen.append(1) or real(*a))
        with torch.no_grad():
            yat_attention(*operands(2))
        assert not seen


def test_half_precision_is_computed_in_single():
    """The rounding of the inputs is all there is."""
    q, k, v = (each.detach().half() for each in operands(2))
    expected = yat_attention(q.float(), k.float(), v.float()).half()
    assert torch.equal(yat_attention(q, k, v), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert yat_attention(q.float(), k.float(), v.float()).dtype == torch.bfloat16


def test_a_meta_tensor_has_a_shape():
    """Without values, the shapes are right."""
    given = [torch.empty(2, HEADS, length, WIDTH, device="meta") for length in (QUERIES, KEYS, KEYS)]
    found = yat_attention(*given, block_size=2, need_weights=True)
    assert [tuple(each.shape) for each in found] == [(2, HEADS, QUERIES, WIDTH), (2, HEADS, QUERIES, KEYS)]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_nothing_in_gives_nothing_out(shape):
    """Without a batch or a query there is nothing to give."""
    batch, queries = shape
    given = torch.zeros(batch, queries, 4), torch.zeros(batch, 5, 4), torch.zeros(batch, 5, 6)
    assert yat_attention(*given).shape == (batch, queries, 6)


MISTAKES = [
    pytest.param({"k": torch.zeros(9, 3)}, ValueError, r"\(6, 4\), \(9, 3\), \(9, 5\)", id="features"),
    pytest.param({"v": torch.zeros(8, 5)}, ValueError, r"\(\*, S, dv\), got", id="lengths"),
    pytest.param({"mask": torch.zeros(6, 8)}, ValueError, r"\(6, 9\), got \(6, 8\)", id="mask shape"),
    pytest.param({"mask": torch.zeros(6, 9).int()}, TypeError, "floating, got torch.int32", id="mask type"),
    pytest.param({"floor": -1.0}, ValueError, "floor must not be negative, got -1.0", id="floor"),
    pytest.param({"dropout_p": 1.5}, ValueError, r"dropout_p must be in \[0, 1\], got 1.5", id="dropout"),
    pytest.param({"scale": 0.0}, ValueError, "scale must be positive, got 0.0", id="scale"),
    pytest.param({"block_size": 0}, ValueError, "block_size must be positive, got 0", id="block size"),
]


@pytest.mark.parametrize(("wrong", "expected", "said"), MISTAKES)
def test_says_what_does_not_fit(wrong, expected, said):
    """What can't be attended to is an error that names it."""
    given = {"q": torch.zeros(6, 4), "k": torch.zeros(9, 4), "v": torch.zeros(9, 5), **wrong}
    with pytest.raises(expected, match=said):
        yat_attention(**given)
