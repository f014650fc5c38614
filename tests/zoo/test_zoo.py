"""What is promised of every model holds for those of others: a few in every run, all in the slow one."""

import warnings

import pytest

from .check import check
from .entry import entries, find
from .runner import check_apart
from .samples import sample

FAST = (
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "torchvision/swin_t",
    "timm/test_convnext",
    "timm/levit_128s",
    "timm/dla46x_c",
    "transformers/AlbertModel",
    "transformers/BertForMaskedLM",
    "transformers/GPT2LMHeadModel",
    "transformers/MambaForCausalLM",
    "transformers/T5ForConditionalGeneration",
    "transformers/ViTForImageClassification",
)
SECONDS, GIB = 900, 12


@pytest.mark.parametrize("title", FAST)
def test_a_model_keeps_every_promise(title, request):
    """Layers are replaced, run and learn; every other outcome equals the original's, bit for bit."""
    request.getfixturevalue(title.partition("/")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        result = check(title, sample(find(title)))
    assert not result.failures
    assert result.applied > 0
    assert result.selected == result.applied + sum(result.refused.values())


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.title)
def test_every_model_of_the_zoo_keeps_every_promise(entry, request):
    """The same holds for the whole zoo, each model in a process of its own."""
    request.getfixturevalue(entry.source)
    assert not check_apart(entry, timeout=SECONDS, memory=GIB).failures
