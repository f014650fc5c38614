"""What becomes of other modules for a converted layer's sake: contexts that reach it through hooks."""

import copy
import inspect
import pickle
import re
import threading

import pytest
import torch
from small_models import seeded
from torch import nn
from torch.utils.checkpoint import checkpoint

import bioconvert as bc
from bioconvert.core import registry
from bioconvert.core.change import Change, TensorRecipe
from bioconvert.core.errors import ConversionError
from bioconvert.layers.context import ContextError, carried
from bioconvert.replacements.context_wiring import checked_source, wiring
from bioconvert.surgery import describe, operations, replay

ROWS = torch.linspace(-1, 1, 12).view(3, 4)
SOURCES = ["model_input", "argument", "node:embed"]


class Modulated(nn.Module):
    """Multiplies what a layer gives by one more than a gate times the mean of its context."""

    keeps_name = True

    def forward(self, x):
        y, context = super().forward(x), carried(self.source, self)
        return y if context is None else y * (1 + self.gate * context.mean())


def modulated(module, site, *, source: str = "model_input"):
    """Modulate a layer by a context."""
    checked_source(module, source, site)
    gate = TensorRecipe(lambda old, stream: torch.zeros(1))
    elsewhere = wiring(source, site, length=4, encoder="none", features=4)
    return Change(into=Modulated, attributes={"source": source}, adds={"gate": gate}, elsewhere=elsewhere)


class Net(nn.Module):
    """Three layers, of which the middle ones may be checkpointed."""

    def __init__(self, reentrant=None):
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        self.reentrant = reentrant

    def forward(self, x):
        x = self.embed(x)
        if self.reentrant is None:
            return self.block(x)
        return checkpoint(self.block, x, use_reentrant=self.reentrant)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register a mechanism for the time of a test."""
    fresh = registry.Registry("mechanism")
    fresh.register("modulated", modulated, ("",))
    monkeypatch.setattr(registry, "mechanisms", fresh)
    monkeypatch.setattr(operations, "mechanisms", fresh)


def rules(source, path="block.*"):
    match = {"type": ["Linear"], "path": path}
    return {"version": 1, "rules": [{"match": match, "attach": [{"modulated": {"source": source}}]}]}


def converted(source, *, gate=0.5, path="block.*", **options):
    model = bc.convert(seeded(lambda: Net(**options)), rules(source, path))
    opened(model, gate)
    return model


def opened(model, gate=0.5):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(gate)


def given(source, context=None):
    """Give the keyword arguments of a call."""
    return (
        {"context": torch.full((1, 4), 2.0) if context is None else context} if source == "argument" else {}
    )


def by_hand(model, x, context):
    """Compute what the model should, with a known context."""
    factor = 1 + 0.5 * context.mean()
    first, last = model.block[0], model.block[2]
    hidden = torch.tanh(nn.functional.linear(model.embed(x), first.weight, first.bias) * factor)
    return nn.functional.linear(hidden, last.weight, last.bias) * factor


def context_of(source, model, x):
    if source == "argument":
        return torch.full((1, 4), 2.0)
    return x if source == "model_input" else model.embed(x)


@pytest.mark.parametrize("source", SOURCES)
def test_a_layer_deep_inside_gets_its_context(source):
    """What the layer computes depends on the source as it should."""
    model = converted(source)
    y = model(ROWS, **given(source))
    torch.testing.assert_close(y, by_hand(model, ROWS, context_of(source, model, ROWS)))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_carry_contexts_of_their_own(source, copied):
    """A copy gives the same, and can be reverted without a trace while the model stays converted."""
    model = converted(source)
    y = model(ROWS, **given(source))
    other = copied(model)
    assert torch.equal(other(ROWS, **given(source)), y)
    bc.revert(other)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in other.modules())
    assert type(other) is Net
    assert torch.equal(model(ROWS, **given(source)), y)


@pytest.mark.parametrize("source", SOURCES)
def test_reverting_leaves_no_hook(source):
    """After revert the model has the hooks that it had before: the user's own."""
    model = seeded(Net)
    seen = []
    model.register_forward_hook(lambda *_: seen.append(1))
    bc.revert(bc.convert(model, rules(source)))
    model(ROWS)
    assert seen == [1]
    for module in model.modules():
        tables = [module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs]
        tables += [module._forward_hooks_with_kwargs, module._forward_hooks_always_called]
        assert not any(tables)


@pytest.mark.parametrize("source", SOURCES)
def test_a_description_repeats_hooks(source):
    """What was done to a model can be done again from values that JSON holds."""
    model = converted(source)
    other = seeded(Net)
    replay(other, describe(model))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(ROWS, **given(source)), model(ROWS, **given(source)))
    bc.revert(other)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in other.modules())


def test_a_description_can_not_name_any_callable():
    """A file that names something else than a hook of a module is refused before anything is made."""
    description = describe(converted("model_input"))
    hooks = [h for entry in description["modules"] for step in entry["steps"] for h in step["hooks"]]
    hooks[0]["make"] = "subprocess.Popen"
    other = seeded(Net)
    with pytest.raises(ConversionError, match=r"subprocess\.Popen is no hook of a module"):
        replay(other, description)
    assert not other._forward_pre_hooks


def test_an_argument_is_seen_in_the_signature_and_not_by_the_model():
    """The forward shows a keyword more; without it, layers do what they did."""
    model = seeded(Net)
    before = model(ROWS)
    bc.convert(model, rules("argument"))
    opened(model)
    assert list(inspect.signature(model.forward).parameters) == ["x", "context"]
    assert isinstance(model, Net)
    assert torch.equal(model(ROWS), before)
    assert not torch.equal(model(ROWS, context=torch.ones(1, 4)), before)


def test_a_model_with_such_an_argument_is_left_alone():
    """The name can't be taken twice."""

    class Taken(Net):
        def forward(self, x, context=None):
            return super().forward(x)

    plan = bc.plan(Taken(), rules("argument"))
    assert not plan.applied
    assert "has an argument `context` of its own" in plan.skipped[0].reason


@pytest.mark.parametrize("source", ["model_input", "node:embed"])
def test_a_layer_called_outside_of_its_model_says_so(source):
    """Without the model there is no context, and the layer doesn't go on without."""
    model = converted(source)
    with pytest.raises(ContextError, match=f"`context: {source}` was called outside of its model"):
        model.block(ROWS)


def test_a_module_that_runs_later_can_not_be_the_context():
    """The error names the module."""
    model = converted("node:block.2", path="embed")
    with pytest.raises(ContextError, match=r"'block\.2' is asked for before that module has run"):
        model(ROWS)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("node:blocks", r"there is no context 'node:blocks'. Did you mean 'node:block'\?"),
        ("input", "there is no context 'input'"),
        ("node:block", "'block' gives its output after this layer"),
        ("node:", "the model gives its output after this layer"),
    ],
)
def test_impossible_contexts_are_refused_in_the_plan(source, reason):
    """A plan says why, and changes nothing."""
    plan = bc.plan(seeded(Net), rules(source))
    assert not plan.applied
    assert all(re.search(reason, skipped.reason) for skipped in plan.skipped)


def test_integers_are_no_context():
    """A model of tokens is told to take another source."""

    class Tokens(Net):
        def forward(self, tokens):
            return super().forward(nn.functional.one_hot(tokens, 4).float())

    model = bc.convert(seeded(Tokens), rules("model_input"))
    with pytest.raises(ContextError, match=r"no floating-point tensor .* take `context: node:NAME`"):
        model(torch.tensor([1, 2]))


@pytest.mark.parametrize("source", SOURCES)
def test_threads_do_not_meet(source):
    """Each call reads the context of its own thread."""
    model = converted(source).eval()
    inputs = [torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    alone = [model(x, **given(source, x)) for x in inputs]
    wrong, start = [], threading.Barrier(len(inputs))

    def repeat(x, y):
        start.wait()
        for _ in range(50):
            if not torch.equal(model(x, **given(source, x)), y):
                wrong.append(x)

    threads = [threading.Thread(target=repeat, args=pair) for pair in zip(inputs, alone, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_converted_model_inside_of_another_keeps_its_own_context():
    """Each layer reads the call of the model that it was converted in."""
    inner = converted("model_input")

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = inner, nn.Linear(4, 4)

        def forward(self, x):
            return self.last(self.inner(x + 1))

    outer = seeded(Outer)
    alone = inner(ROWS + 1)
    bc.convert(outer, rules("model_input", "last"))
    opened(outer)
    y = nn.functional.linear(alone, outer.last.weight, outer.last.bias) * (1 + 0.5 * ROWS.mean())
    torch.testing.assert_close(outer(ROWS), y)


@pytest.mark.parametrize("failing", ["forward", "hook"])
def test_a_call_that_fails_leaves_nothing_behind(failing):
    """The next call has its own context, and a layer alone has none."""
    model = seeded(Net)
    boom = {"on": False}

    def raises(*_):
        if boom["on"]:
            raise ZeroDivisionError

    (model if failing == "hook" else model.block).register_forward_pre_hook(raises)
    bc.convert(model, rules("model_input"))
    opened(model)
    y = model(ROWS)
    boom["on"] = True
    with pytest.raises(ZeroDivisionError):
        model(ROWS * 3)
    boom["on"] = False
    with pytest.raises(ContextError, match="outside of its model"):
        model.block[0](ROWS)
    assert torch.equal(model(ROWS), y)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_repeats_a_layer_with_the_same_context(source, reentrant):
    """Gradients are those without the checkpoint; or the model is told to use the other kind of it."""
    plain, model = converted(source), converted(source, reentrant=reentrant)
    x = ROWS.clone().requires_grad_()
    plain(x, **given(source)).square().sum().backward()
    y = model(x, **given(source))
    if reentrant and source in ("node:embed", "model_input"):
        with pytest.raises(ContextError, match="use_reentrant=False"):
            y.square().sum().backward()
        return
    y.square().sum().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad, msg=name)


def test_a_checkpoint_finds_the_call_that_is_differentiated():
    """Two calls whose outputs both live are told apart by the backward pass."""
    model, plain = converted("model_input", reentrant=False), converted("model_input")
    first, second = model(ROWS), model(ROWS * 2)
    for y, x in [(second, ROWS * 2), (first, ROWS)]:
        model.zero_grad(), plain.zero_grad()
        y.square().sum().backward()
        plain(x).square().sum().backward()
        torch.testing.assert_close(model.block[0].gate.grad, plain.block[0].gate.grad)


def test_a_checkpoint_that_can_not_tell_calls_apart_says_so():
    """Two checkpointed calls in one backward pass are refused, not guessed at."""
    model = converted("model_input", reentrant=False)
    both = model(ROWS) + model(ROWS * 2)
    with pytest.raises(ContextError, match="several calls of the model are in this backward pass"):
        both.sum().backward()


@pytest.mark.parametrize("source", SOURCES)
def test_a_converted_model_compiles_whole(source):
    """Contexts are part of the one graph."""
    model = converted(source)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(ROWS, **given(source)), model(ROWS, **given(source)))


# Strict export warns of each value that a forward leaves elsewhere; frames are gone when it ends.
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("strict", [False, True])
def test_a_converted_model_is_exported_whole(source, strict):
    """Contexts are part of the exported graph."""
    model = converted(source)
    exported = torch.export.export(model, (ROWS,), given(source), strict=strict).module()
    torch.testing.assert_close(exported(ROWS, **given(source)), model(ROWS, **given(source)))


@pytest.mark.parametrize("source", SOURCES)
def test_attaching_changes_nothing_at_gate_zero(source):
    """Hooks give the model what it was given, bit for bit."""
    model = seeded(Net)
    before = model(ROWS)
    bc.convert(model, rules(source))
    assert torch.equal(model(ROWS, **given(source)), before)


def test_converting_twice_hooks_up_once():
    """What a second conversion needs and finds is not done again."""
    model = bc.convert(seeded(Net), rules("model_input", "block.0"))
    once = len(model._forward_pre_hooks)
    bc.convert(model, rules("model_input", "block.2"))
    assert len(model._forward_pre_hooks) == once
    opened(model)
    torch.testing.assert_close(model(ROWS), by_hand(model, ROWS, ROWS))


def test_a_failed_conversion_leaves_no_hook(monkeypatch):
    """All or nothing holds for what is done elsewhere, too."""
    model = seeded(Net)
    plan = bc.plan(model, rules("model_input"))

    def fails(**_):
        raise RuntimeError("no")

    monkeypatch.setattr("bioconvert.layers.context.CloseFrame.__init__", fails)
    with pytest.raises(ConversionError, match="failed and was undone"):
        plan.apply()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert type(model) is Net
