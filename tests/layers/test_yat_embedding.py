"""The Yat embedding: torch's lookup, and scores of queries against its rows."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from bioconvert.layers import YatEmbedding

INDICES = torch.tensor([[1, 0, 3], [3, 3, 2]])
QUERY = torch.linspace(-1, 1.3, 24, dtype=torch.float64).view(2, 3, 4)
OPTIONS = [
    pytest.param({}, id="defaults"),
    pytest.param({"alpha": "none"}, id="no alpha"),
    pytest.param({"alpha": 1.5}, id="constant alpha"),
    pytest.param({"per_unit": True}, id="per row"),
    pytest.param({"learnable_epsilon": True, "epsilon": 0.1}, id="learnable epsilon"),
    pytest.param({"spherical": True}, id="spherical"),
    pytest.param({"weight_normalized": True}, id="weight-normalized"),
]
LOOKUPS = [
    pytest.param({}, id="defaults"),
    pytest.param({"padding_idx": 3}, id="padding"),
    pytest.param({"max_norm": 1.0}, id="max_norm"),
    pytest.param({"scale_grad_by_freq": True}, id="scaled gradients"),
    pytest.param({"sparse": True}, id="sparse gradients"),
]


def built(seed=0, **options):
    """Build an embedding in fp64 with random extra parameters, so that none of them is neutral."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        embedding = YatEmbedding(5, 4, dtype=torch.float64, **options)
        if "alpha" in embedding._parameters:
            nn.init.uniform_(embedding.alpha, 0.5, 1.5)
    return embedding


def by_formula(embedding, query):
    """Compute the scores from their definition."""
    weight = embedding.weight
    if embedding.weight_normalized or embedding.spherical:
        weight = weight / weight.norm(dim=1, keepdim=True)
    if embedding.spherical:
        query = query / query.norm(dim=-1, keepdim=True)
    distance = (query.unsqueeze(-2) - weight).square().sum(-1)
    epsilon = F.softplus(embedding.raw_epsilon) if embedding.learnable_epsilon else embedding.epsilon
    alpha = 1.0 if embedding.alpha_mode == "none" else embedding.alpha
    return alpha * (query @ weight.T) ** 2 / (distance + epsilon)


@pytest.mark.parametrize("options", OPTIONS)
class TestEveryOption:
    def test_scores_are_their_formula(self, options):
        """A query is scored against each row, by the definition."""
        embedding = built(**options)
        assert embedding.attend(QUERY).shape == (2, 3, 5)
        assert torch.allclose(embedding.attend(QUERY), by_formula(embedding, QUERY), rtol=1e-9)

    def test_gradients(self, options):
        """First derivatives of the scores agree with finite differences, for query and all parameters."""
        embedding = built(**options)
        wrapped = _Attending(embedding)
        names = [name for name, _ in wrapped.named_parameters()]

        def call(query, *values):
            return functional_call(wrapped, dict(zip(names, values, strict=True)), (query,))

        values = [p.detach().clone().requires_grad_() for p in wrapped.parameters()]
        assert torch.autograd.gradcheck(call, (QUERY.clone().requires_grad_(), *values), fast_mode=True)

    def test_state_and_copies(self, options):
        """State dict, deepcopy and pickle keep class, options and values."""
        embedding, twin = built(**options), built(seed=1, **options)
        twin.load_state_dict(embedding.state_dict())
        for each in (twin, copy.deepcopy(embedding), pickle.loads(pickle.dumps(embedding))):
            assert repr(each) == repr(embedding)
            assert torch.equal(each.attend(QUERY), embedding.attend(QUERY))


def test_compiles():
    """`torch.compile(fullgraph=True)` gives the same scores."""
    embedding = _Attending(built())
    compiled = torch.compile(embedding, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(QUERY), embedding(QUERY))


class _Attending(nn.Module):
    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def forward(self, query):
        return self.embedding.attend(query)


@pytest.mark.parametrize("options", LOOKUPS)
def test_the_lookup_is_torchs(options):
    """Values and gradients are bit for bit those of nn.Embedding on the same weight."""
    embedding = built(**options)
    plain = nn.Embedding(5, 4, dtype=torch.float64, **options)
    plain.load_state_dict({"weight": embedding.weight})
    found, expected = embedding(INDICES), plain(INDICES)
    found.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(found, expected)
    assert torch.equal(embedding.weight.grad.to_dense(), plain.weight.grad.to_dense())


def test_rows_are_drawn_as_torch_does():
    """The same random state gives the rows of nn.Embedding, with zeros for padding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = YatEmbedding(5, 4, padding_idx=1)
        torch.manual_seed(0)
        assert torch.equal(own.weight, nn.Embedding(5, 4, padding_idx=1).weight)


def test_a_plain_embedding_can_become_one():
    """A change of class with the attributes and parameters is as good as a constructor."""
    own = built()
    plain = copy.deepcopy(own)
    plain.__class__ = nn.Embedding
    assert torch.equal(plain(INDICES), own(INDICES))
    plain.__class__ = YatEmbedding
    assert torch.equal(plain.attend(QUERY), own.attend(QUERY))


def test_a_plain_checkpoint_loads():
    """What a torch embedding's state lacks keeps its value."""
    own = built()
    alpha = own.alpha.clone()
    own.load_state_dict({"weight": torch.ones(5, 4)})
    assert torch.equal(own.alpha, alpha)
    assert torch.equal(own.weight, torch.ones(5, 4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    """Scores have the query's type and are near the fp64 ones."""
    exact = built()
    scores = copy.deepcopy(exact).to(dtype).attend(QUERY.to(dtype))
    assert scores.dtype is dtype
    assert torch.allclose(scores.double(), exact.attend(QUERY), rtol=0.1, atol=0.05)


def test_meta():
    """On the meta device shapes are known and nothing is allocated."""
    with torch.device("meta"):
        embedding = YatEmbedding(5, 4)
    assert embedding.attend(torch.empty(2, 4, device="meta")).shape == (2, 5)


BAD = [
    pytest.param({"num_embeddings": 0}, "sizes must be positive, got 0 × 4", id="no rows"),
    pytest.param({"epsilon": 0.0}, "epsilon must be positive, got 0.0", id="epsilon"),
    pytest.param({"alpha": "some"}, "alpha must be one of", id="alpha"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_refused(options, message):
    """A value out of its bounds is an error that names it."""
    with pytest.raises(ValueError, match=message):
        YatEmbedding(**{"num_embeddings": 5, "embedding_dim": 4, **options})
