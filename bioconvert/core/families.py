"""The families that a rule's ``type:`` may name, each a set of base classes."""

from __future__ import annotations

from bioconvert.core.classes import qualified_name

FAMILIES: dict[str, tuple[str, ...]] = {
    "linear": (
        "torch.nn.modules.linear.Linear",
        "transformers.pytorch_utils.Conv1D",
    ),
    "conv": ("torch.nn.modules.conv._ConvNd",),
    "attention": ("torch.nn.modules.activation.MultiheadAttention",),
    "norm": (
        "torch.nn.modules.batchnorm._NormBase",
        "torch.nn.modules.normalization.LayerNorm",
        "torch.nn.modules.normalization.GroupNorm",
        "torch.nn.modules.normalization.RMSNorm",
        "torch.nn.modules.normalization.LocalResponseNorm",
    ),
    "embedding": ("torch.nn.modules.sparse.Embedding", "torch.nn.modules.sparse.EmbeddingBag"),
    "recurrent": ("torch.nn.modules.rnn.RNNBase", "torch.nn.modules.rnn.RNNCellBase"),
}

_roots: dict[tuple[type, str], type | None] = {}


def family_root(cls: type, family: str) -> type | None:
    """Give the ancestor of ``cls`` by which it belongs to ``family``, or ``None``.

    For abstract roots (``_ConvNd``, ``RNNBase``) that is the public class below the root, so that it is
    the class whose ``forward`` a member of the family is expected to have.
    """
    if (cls, family) not in _roots:
        _roots[cls, family] = _find_root(cls, family)
    return _roots[cls, family]


def _find_root(cls: type, family: str) -> type | None:
    roots = FAMILIES[family]
    for position, ancestor in enumerate(cls.__mro__):
        if qualified_name(ancestor) in roots:
            return cls.__mro__[_public(cls, position)]
    return None


def _public(cls: type, position: int) -> int:
    """Step down from an abstract root to the nearest class below it that defines ``forward``."""
    while position > 0 and not _owns_forward(cls.__mro__[position]):
        position -= 1
    return position


def _owns_forward(cls: type) -> bool:
    return "forward" in vars(cls)


def family_of(cls: type) -> str | None:
    """Name the family that ``cls`` belongs to, or ``None``."""
    return next((family for family in FAMILIES if family_root(cls, family) is not None), None)
