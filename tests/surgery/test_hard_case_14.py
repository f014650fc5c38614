"""Checkpoints of before and after, averages, Transformers' own files, and modules with odd attributes."""

import copy
import logging

import pytest
import torch
from small_models import Cnn, Mlp, ReadAround, seeded
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

import bioconvert as bc

ROWS = torch.linspace(-1, 1, 12).view(3, 4)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
LINEARS = {"version": 1, "rules": [{"match": {"type": "linear"}, "replace": {"with": "YatLinear"}}]}
MODELS = [
    pytest.param(Mlp, ROWS, id="Mlp"),
    pytest.param(Cnn, IMAGES, id="Cnn"),
    pytest.param(ReadAround, ROWS, id="ReadAround"),
    pytest.param(lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), ROWS[None], id="Encoder"),
]


def trained(model):
    """Move every tensor of a model away from where it started."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.25)
    return model


@pytest.mark.parametrize(("make", "x"), MODELS)
class TestCheckpoints:
    @pytest.mark.parametrize("data", [False, True], ids=["kept", "fitted"])
    def test_an_old_one_loads_strictly_with_a_notice(self, make, x, data, caplog):
        """What the old one has is taken, what conversion added keeps its value, and the log names it."""
        old = trained(seeded(make)).state_dict()
        model = bc.convert(seeded(make), "yat-all", example_inputs=(x,) if data else None)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        added = set(before) - set(old)
        with caplog.at_level(logging.INFO, logger="bioconvert"):
            model.load_state_dict(old, strict=True)
        after = model.state_dict()
        assert added
        assert all(torch.equal(after[name], old[name]) for name in old)
        assert all(torch.equal(after[name], before[name]) for name in added)
        said = " ".join(record.getMessage() for record in caplog.records)
        assert "not in the checkpoint, so kept as it is" in said
        assert all(name.rpartition(".")[2] in said for name in added)

    def test_a_new_one_loads_into_the_original_after_reverting(self, make, x):
        """The converted model's own values, less the additions, are a checkpoint of the original class."""
        model = trained(bc.convert(seeded(make), "yat-all"))
        plain = seeded(make)
        refused = plain.load_state_dict(model.state_dict(), strict=False)
        assert refused.missing_keys == []
        assert set(refused.unexpected_keys) == set(model.state_dict()) - set(plain.state_dict())
        plain.load_state_dict(bc.revert(copy.deepcopy(model)).state_dict(), strict=True)
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in plain.state_dict().items())

    def test_what_else_is_missing_or_too_much_is_still_an_error(self, make, x):
        """Tolerance is for additions alone."""
        model = bc.convert(seeded(make), "yat-all")
        lacking = seeded(make).state_dict()
        name = next(iter(lacking))
        value = lacking.pop(name)
        with pytest.raises(RuntimeError, match=f'Missing key.*"{name}"'):
            model.load_state_dict(lacking)
        with pytest.raises(RuntimeError, match=r'Unexpected key.*"strange"'):
            model.load_state_dict({**lacking, name: value, "strange": value})

    def test_prefixes_of_wrappers(self, make, x):
        """A compiled and a data-parallel wrapper take the old checkpoint of a wrapper like themselves."""
        for wrap in (lambda m: torch.compile(m, backend="eager"), nn.DataParallel):
            old = wrap(trained(seeded(make))).state_dict()
            assert all(name.startswith(("_orig_mod.", "module.")) for name in old)
            model = seeded(make)
            wrapped = bc.convert(wrap(model), "yat-all")
            wrapped.load_state_dict(old, strict=True)
            assert all(torch.equal(wrapped.state_dict()[name], value) for name, value in old.items())
            again = wrap(bc.convert(seeded(make), "yat-all"))
            again.load_state_dict(wrapped.state_dict(), strict=True)
            assert torch.equal(again.eval()(x), wrapped.eval()(x))

    def test_an_average_of_the_converted_model(self, make, x):
        """`AveragedModel` copies the converted classes, averages the additions too, and reverts by itself."""
        model = bc.convert(seeded(make), "yat-all")
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        average.update_parameters(model)
        trained(model)
        average.update_parameters(model)
        averaged = dict(average.module.named_parameters())
        assert all(
            torch.allclose(averaged[name], p - 0.125, atol=1e-6) for name, p in model.named_parameters()
        )
        assert start.keys() == averaged.keys()
        assert [type(m).__name__ for m in average.module.modules()] == [
            type(m).__name__ for m in model.modules()
        ]
        bc.revert(average)
        assert average.module.state_dict().keys() == seeded(make).state_dict().keys()
        assert model.state_dict().keys() != seeded(make).state_dict().keys()

    def test_gradient_checkpointing_around_every_layer(self, make, x):
        """Recomputing each child, by reentrant or new checkpoints, gives the same gradients."""
        model = bc.convert(seeded(make), "yat-all").train()
        x = x.clone().requires_grad_()
        model(x).square().sum().backward()
        plain = [p.grad.clone() for p in model.parameters()]
        for reentrant in (False, True):
            model.zero_grad()
            checkpoint(model, x, use_reentrant=reentrant).square().sum().backward()
            found = [p.grad for p in model.parameters()]
            assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, plain, strict=True))


@pytest.fixture
def bert(transformers):
    """Give a way to build a tiny BERT, with the same weights each time."""
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=16, max_position_embeddings=16)
    return lambda: seeded(lambda: transformers.BertForSequenceClassification(config)).eval()


TOKENS = torch.arange(12).view(2, 6)


class TestTransformers:
    def test_our_files_round_trip_where_theirs_do_not(self, bert, tmp_path):
        """`from_pretrained` of their folder gives the original classes, `bc.load` of ours the converted."""
        model = bc.convert(bert(), "yat", example_inputs=(TOKENS,))
        expected = model(TOKENS).logits
        bc.save(model, tmp_path / "ours")
        loaded = bc.load(tmp_path / "ours")
        assert torch.equal(loaded(TOKENS).logits, expected)
        assert type(loaded) is type(model)
        model.save_pretrained(tmp_path / "theirs")
        plain = type(bert()).from_pretrained(tmp_path / "theirs").eval()
        assert not any(type(m).__module__.startswith("bioconvert") for m in plain.modules())
        assert not torch.allclose(plain(TOKENS).logits, expected)
        # The weights are there under their names, so converting again and loading the file gives it all back.
        again = bc.convert(plain, "yat")
        assert {type(m).__name__ for m in again.modules()} == {type(m).__name__ for m in model.modules()}

    @pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
    @pytest.mark.parametrize("reentrant", [False, True])
    def test_their_own_gradient_checkpointing(self, bert, reentrant):
        """Enabled before or after conversion, it gives the gradients that there are without it."""
        plain = bc.convert(bert().train(), "yat-all").eval()
        plain(TOKENS).logits.square().sum().backward()
        for before in (True, False):
            model = bert()
            options = {"gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}
            if before:
                model.gradient_checkpointing_enable(**options)
            bc.convert(model, "yat-all")
            if not before:
                model.gradient_checkpointing_enable(**options)
            model.train()
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
            model(TOKENS).logits.square().sum().backward()
            for (name, one), other in zip(plain.named_parameters(), model.parameters(), strict=True):
                assert (one.grad is None) == (other.grad is None), name
                assert one.grad is None or torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-5), name


class OwnGetattr(nn.Module):
    """Looks for what it lacks in its backbone, as wrappers of models do."""

    def __init__(self):
        super().__init__()
        self.backbone = Mlp()

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("backbone"), name)

    def forward(self, x):
        return self.head(self.act(self.fc2(F.relu(self.fc1(x)))))


class Sealed(Mlp):
    """Lets no attribute be set once it is built."""

    def __init__(self):
        super().__init__()
        self.__dict__["sealed"] = True

    def __setattr__(self, name, value):
        if self.__dict__.get("sealed"):
            raise AttributeError(f"{name} can't be set")
        super().__setattr__(name, value)


class SealedLayer(nn.Linear):
    """A Linear that lets no attribute be set once it is built."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.__dict__["sealed"] = True

    def __setattr__(self, name, value):
        if self.__dict__.get("sealed"):
            raise AttributeError(f"{name} can't be set")
        super().__setattr__(name, value)


class Dotted(nn.Module):
    """Has children whose names have dots in them."""

    def __init__(self):
        super().__init__()
        self._modules["block.0"] = nn.Linear(4, 4)
        self._modules["block.1.act"] = nn.ReLU()
        self._modules["head"] = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self._modules["block.1.act"](self._modules["block.0"](x)))


class Slotted(nn.Linear):
    """Has slots besides its dictionary."""

    __slots__ = ("note",)


ODD = [
    pytest.param(OwnGetattr, id="__getattr__"),
    pytest.param(Sealed, id="sealed container"),
    pytest.param(lambda: nn.Sequential(SealedLayer(4, 4), nn.ReLU(), nn.Linear(4, 2)), id="sealed layer"),
    pytest.param(Dotted, id="dots"),
    pytest.param(lambda: nn.Sequential(Slotted(4, 4), nn.ReLU(), nn.Linear(4, 2)), id="slots"),
]
DROPPING = {"match": {"type": "linear", "followed_by": ["ReLU|GELU"]}, "optional": True}
DROPPING["replace"] = {"with": "YatLinear", "activation": "drop"}
RULES = [LINEARS, {"version": 1, "rules": [DROPPING]}, "yat-all"]


@pytest.mark.parametrize("data", [False, True], ids=["kept", "fitted"])
@pytest.mark.parametrize("rules", RULES, ids=["layers", "dropping", "yat-all"])
@pytest.mark.parametrize("make", ODD)
def test_odd_modules_are_converted_run_and_reverted(make, rules, data):
    """Names, attributes and slots of all kinds: the model runs, learns, copies and comes back."""
    model, original = seeded(make), seeded(make)
    report = bc.plan(model, rules, example_inputs=(ROWS,) if data else None).apply()
    assert report.applied or all(entry.reason for entry in report.skipped)
    if rules != RULES[1]:
        assert len(report.applied) == sum(isinstance(m, nn.Linear) for m in model.modules())
    output = model(ROWS)
    output.square().sum().backward()
    assert torch.equal(copy.deepcopy(model)(ROWS), output)
    assert torch.equal(output, original(ROWS)) == (not report.applied)
    bc.revert(model)
    assert torch.equal(model(ROWS), original(ROWS))
    assert [type(m) for m in model.modules()] == [type(m) for m in original.modules()]
    assert [set(vars(m)) for m in model.modules()] == [set(vars(m)) for m in original.modules()]
