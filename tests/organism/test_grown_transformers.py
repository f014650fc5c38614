"""Nodes in models of others: a block of GPT-2, a stage of resnet18."""

import copy
import pickle

import pytest
import torch
from growing_models import wrapping

import bioconvert as bc

IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
TOKENS = torch.arange(14).view(2, 7) % 11


@pytest.fixture
def gpt2(transformers):
    """Give a small GPT-2."""
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=8, vocab_size=11, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.GPT2LMHeadModel(config).eval()


def open_gates(model):
    """Let every branch count, far enough to change what is said."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(2.0)
        for name, parameter in model.named_parameters():
            if "grown" in name and parameter.ndim > 1:
                parameter.mul_(-20)
    return model


def written(model, **options):
    """Let a model go on from the tokens."""
    mask = torch.ones_like(TOKENS)
    return model.generate(
        TOKENS, attention_mask=mask, pad_token_id=0, max_new_tokens=6, do_sample=False, **options
    )


class TestGpt2:
    def grown(self, model):
        bc.convert(model, wrapping("transformer.h.*"))
        organism = bc.Organism(model)
        organism.grow("transformer.h.1", tag="expert")
        organism.grow("transformer.h.0")
        organism.grow("expert")
        return model

    def test_birth_keeps_every_bit(self, gpt2):
        """Logits, loss, keys and values, and what is written stay the same."""
        expected = gpt2(TOKENS, labels=TOKENS, use_cache=True)
        text = written(gpt2)
        found = self.grown(gpt2)(TOKENS, labels=TOKENS, use_cache=True)
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.loss, expected.loss)
        for ours, theirs in zip(found.past_key_values.layers, expected.past_key_values.layers, strict=False):
            assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(written(gpt2), text)

    @pytest.mark.parametrize("beams", [1, 3])
    def test_writes_the_same_with_and_without_a_cache(self, gpt2, beams):
        """Branches keep keys and values of their own, which follow the beams."""
        model = open_gates(self.grown(gpt2))
        assert torch.equal(written(model, num_beams=beams), written(model, num_beams=beams, use_cache=False))

    def test_goes_on_from_a_cache(self, gpt2):
        """A sequence in two pieces gives what it gives in one."""
        model = open_gates(self.grown(gpt2))
        first = model(TOKENS[:, :4], use_cache=True)
        second = model(TOKENS[:, 4:], past_key_values=first.past_key_values)
        torch.testing.assert_close(second.logits, model(TOKENS).logits[:, 4:])

    def test_a_cache_from_before_the_birth_serves(self, gpt2):
        """A branch that was born while a text is written begins with what its block has kept."""
        bc.convert(gpt2, wrapping("transformer.h.1"))
        first, other = (gpt2(TOKENS[:, :4], use_cache=True) for _ in range(2))
        expected = gpt2(TOKENS[:, 4:], past_key_values=other.past_key_values).logits
        bc.Organism(gpt2).grow("transformer.h.1")
        assert torch.equal(gpt2(TOKENS[:, 4:], past_key_values=first.past_key_values).logits, expected)

    @pytest.mark.parametrize("before", [True, False])
    def test_gives_as_many_hidden_states_as_before(self, gpt2, before):
        """What the model notes of its blocks holds nothing of the branches."""
        expected = gpt2(TOKENS, output_hidden_states=True).hidden_states if before else [None] * 3
        model = self.grown(gpt2)
        found = model(TOKENS, output_hidden_states=True).hidden_states
        assert len(found) == len(expected)
        assert not before or all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def test_copies_pickles_compiles_and_exports(self, gpt2):
        """A grown model can be handled as the plain one."""
        model = open_gates(self.grown(gpt2))
        y = model(TOKENS, use_cache=False).logits
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(TOKENS, use_cache=False).logits, y)
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(TOKENS, use_cache=False).logits, y)
        exported = torch.export.export(model, (TOKENS,), {"use_cache": False}).module()
        torch.testing.assert_close(exported(TOKENS, use_cache=False).logits, y)

    def test_checkpointed_gradients_are_the_same(self, gpt2):
        """Recomputing blocks in the backward pass changes no gradient, and gates get theirs."""
        model = open_gates(self.grown(gpt2)).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        gradients = []
        for checkpointed in (False, True):
            for module in model.modules():
                if hasattr(module, "gradient_checkpointing"):
                    module.gradient_checkpointing = checkpointed
                    module._gradient_checkpointing_func = lambda function, *args: (
                        torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False)
                    )
            model.zero_grad()
            model(TOKENS, labels=TOKENS, use_cache=False).loss.backward()
            gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        assert all(torch.equal(gradients[1][name], grad) for name, grad in gradients[0].items())
        assert any(name.endswith("gate") and grad.abs() > 0 for name, grad in gradients[0].items())


def test_an_encoder_and_decoder_write_the_same_with_and_without_a_cache(transformers):
    """The two caches of T5 have layers of the branch's own, too."""
    config = transformers.T5Config(
        vocab_size=11, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.T5ForConditionalGeneration(config).eval()
    plain = model.generate(TOKENS, max_new_tokens=6, do_sample=False)
    bc.convert(model, wrapping("decoder.block.1"))
    bc.Organism(model).grow("decoder.block.1")
    assert torch.equal(model.generate(TOKENS, max_new_tokens=6, do_sample=False), plain)
    open_gates(model)
    texts = [
        model.generate(TOKENS, max_new_tokens=6, do_sample=False, num_beams=2, use_cache=cached)
        for cached in (True, False)
    ]
    assert torch.equal(*texts)


class TestResnet:
    def test_birth_keeps_every_bit(self, torchvision):
        """In train and eval mode, with the statistics of normalisation; the gate gets a gradient."""
        model = torchvision.models.resnet18(num_classes=3)
        plain = copy.deepcopy(model)
        bc.convert(model, wrapping(["layer1", "layer4"]))
        organism = bc.Organism(model)
        organism.grow("layer4")
        organism.grow("layer1")
        for mode in (True, False):
            y = model.train(mode)(IMAGES)
            assert torch.equal(y, plain.train(mode)(IMAGES))
            y.square().sum().backward()
        assert all(torch.equal(model.state_dict()[name], value) for name, value in plain.state_dict().items())
        assert model.layer4.grown["1"].gate.grad.abs() > 0
        assert model.layer1.grown["1"].gate.grad.abs() > 0
