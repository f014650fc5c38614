"""Layers whose weight a container reads: each way of reading one, and the containers that own such layers."""

import copy

import pytest
import torch
from reading_models import (
    Around,
    CalledInTraining,
    CalledToo,
    ComputedBias,
    Convolved,
    Here,
    Keywords,
    Listed,
    LocalName,
    LocalWeight,
    Looped,
    Nested,
    NoBias,
    OtherGeometry,
    OtherMethod,
    OtherSelf,
    Positional,
    Product,
    ProductT,
    Shared,
    There,
    TiedToo,
    Two,
)
from small_models import seeded
from torch.utils.checkpoint import checkpoint

import bioconvert as bc
from bioconvert.layers import YatConv2d, YatLinear

X = torch.linspace(-1, 1, 12).view(3, 4)
IMAGES = torch.linspace(-1, 1, 2 * 4 * 6 * 6).view(2, 4, 6, 6)


def rules(**options):
    """Give a rule set for every linear and two-dimensional layer."""
    pairs = (("linear", "YatLinear"), ("Conv2d", "YatConv2d"))
    given = [
        {"match": {"type": each}, "replace": {"with": name, **options}, "optional": True}
        for each, name in pairs
    ]
    return {"version": 1, "rules": given}


CERTAIN = [Positional, Keywords, NoBias, ComputedBias, Here, There, OtherMethod, LocalName]
CERTAIN += [OtherSelf, Nested, Listed, Looped]
UNCERTAIN = [Product, ProductT, LocalWeight]
WAYS = [pytest.param(make, X, id=make.__name__) for make in CERTAIN + UNCERTAIN]
WAYS.append(pytest.param(Convolved, IMAGES, id="Convolved"))


def yat_layers(model):
    return [m for m in model.modules() if isinstance(m, (YatLinear, YatConv2d))]


def converted(make, x, **options):
    return bc.convert(seeded(make), rules(**options), example_inputs=(x,))


@pytest.mark.parametrize(("make", "x"), WAYS)
class TestEachWayOfReadingAWeight:
    def test_the_layer_is_called(self, make, x):
        """The output is the new layer's, in every mode, and the old one is left."""
        model, before = converted(make, x), seeded(make)(x)
        assert len(yat_layers(model)) == (3 if issubclass(make, Listed) else 1)
        for training, grad in ((True, True), (False, True), (False, False)):
            with torch.set_grad_enabled(grad):
                assert torch.equal(model.train(training)(x), model.expected(x))
        assert not torch.allclose(model(x), before)
        assert isinstance(model, make)
        assert type(model).__name__ == make.__name__

    def test_hooks_fire_and_every_parameter_learns(self, make, x):
        """Forward and backward hooks of the layer see each call."""
        model, fired = converted(make, x), []
        layers = yat_layers(model)
        for layer in layers:
            layer.register_forward_hook(lambda *_: fired.append("forward"))
            layer.register_full_backward_hook(lambda *_: fired.append("backward"))
        model(x.clone().requires_grad_()).square().sum().backward()
        assert sorted(fired) == ["backward"] * len(layers) + ["forward"] * len(layers)
        read = [p for layer in layers for n, p in layer.named_parameters() if n != "bias"]
        assert all(p.grad is not None and p.grad.any() for p in read)

    def test_revert_is_exact(self, make, x):
        """The original class and the original bits come back."""
        model = converted(make, x)
        bc.revert(model)
        assert [type(m) for m in model.modules()] == [type(m) for m in make().modules()]
        assert model.state_dict().keys() == make().state_dict().keys()
        assert torch.equal(model(x), seeded(make)(x))

    def test_copies_and_files(self, make, x, tmp_path):
        """deepcopy and save/load give a model whose own layers answer."""
        model = converted(make, x).eval()
        bc.save(model, tmp_path / "out")
        for twin in (copy.deepcopy(model), bc.load(tmp_path / "out", factory=make)):
            assert torch.equal(twin(x), model(x))
            with torch.no_grad():
                yat_layers(twin)[0].alpha.mul_(2)
            assert not torch.equal(twin(x), model(x))
            assert type(bc.revert(twin)) is make

    def test_autocast_and_checkpointing(self, make, x):
        """Under autocast the output is half precision; a checkpoint gives the same gradients."""
        model = converted(make, x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model(x).dtype is model.expected(x).dtype is torch.bfloat16
        model(x).square().sum().backward()
        plain = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        checkpoint(model, x, use_reentrant=False).square().sum().backward()
        assert all(torch.equal(p.grad, plain[n]) for n, p in model.named_parameters() if n in plain)

    def test_is_fitted(self, make, x):
        """Sample data passes through the layer: epsilon is found from it."""
        model = converted(make, torch.cat([x] * 4) + 1, init="auto", epsilon="auto")
        assert all("epsilon" in layer._buffers for layer in yat_layers(model))
        assert all(float(layer.epsilon) != 1e-5 for layer in yat_layers(model))


COMPILERS = [
    lambda model, x: torch.compile(model, fullgraph=True, backend="eager"),
    lambda model, x: torch.export.export(model, (x,), strict=False).module(),
    lambda model, x: torch.export.export(model, (x,), strict=True).module(),
]


SIDE_EFFECTS = "ignore:While compiling, we found certain side effects:UserWarning"
COMPILED = [way for way in WAYS if way.id not in ("Product", "ProductT")]


@pytest.mark.filterwarnings(SIDE_EFFECTS)
@pytest.mark.parametrize(("make", "x"), COMPILED)
def test_compiles_and_exports(make, x):
    """`torch.compile(fullgraph=True)` and `torch.export`, strict or not, take it."""
    torch._dynamo.reset()
    model = converted(make, x).eval()
    for compile in COMPILERS:
        assert torch.allclose(compile(model, x)(x), model(x), atol=1e-6)


@pytest.mark.filterwarnings(SIDE_EFFECTS)
@pytest.mark.parametrize("compile", COMPILERS, ids=["compile", "export", "strict export"])
@pytest.mark.parametrize("make", [Product, ProductT])
def test_a_product_is_never_compiled_silently(make, compile):
    """Compilers don't ask about some products: it is an error then, not the original's output."""
    torch._dynamo.reset()
    model = converted(make, X).eval()
    try:
        compiled = compile(model, X)(X)
    except RuntimeError as error:
        compiled, said = None, str(error)
    assert torch.allclose(compiled, model(X), atol=1e-6) if compiled is not None else "strict=False" in said


@pytest.mark.parametrize("make", [Positional, Product, Nested])
def test_a_users_own_trace_is_never_silently_the_original(make):
    """`torch.fx.symbolic_trace` records what the model does now, or refuses."""
    model = converted(make, X).eval()
    try:
        traced = torch.fx.symbolic_trace(model)
    except (RuntimeError, TypeError) as refusal:
        assert "can't be traced" in str(refusal)  # noqa: PT017 - either outcome will do
    else:
        assert torch.allclose(traced(X), model(X), atol=1e-6)


@pytest.mark.parametrize("make", CERTAIN)
def test_without_inputs_what_is_certain_is_converted(make):
    """The source alone shows that a function gets the weight."""
    model = bc.convert(seeded(make), rules())
    assert torch.equal(model(X), model.expected(X))


@pytest.mark.parametrize("make", UNCERTAIN)
def test_without_inputs_what_is_not_certain_is_left(make):
    """The reason asks for example inputs."""
    plan = bc.plan(make(), rules())
    assert plan.applied == ()
    assert "give example_inputs" in plan.skipped[0].reason


def test_another_geometry_is_not_the_layers_call():
    """A convolution with other stride or padding than the layer's isn't answered, which proof finds."""
    model = seeded(OtherGeometry)
    report = bc.plan(model, rules(), example_inputs=(IMAGES,)).apply()
    assert "never ran" in report.skipped[0].reason
    assert type(model) is OtherGeometry
    assert torch.equal(model(IMAGES), seeded(OtherGeometry)(IMAGES))


def only(path):
    return {"version": 1, "rules": [{"match": {"path": path}, "replace": {"with": "YatLinear"}}]}


class TestSeveralLayersOfOneContainer:
    @pytest.mark.parametrize("calls", [["**"], ["a", "b"], ["b", "a"], ["b", "inner.f", "a"]])
    def test_in_one_call_or_in_several(self, calls):
        """Each is called once it is converted, and reverting gives the original."""
        model = seeded(Two)
        for path in calls:
            rule = only(path)["rules"][0]
            rule["match"]["type"] = "linear"
            bc.convert(model, {"version": 1, "rules": [rule]}, example_inputs=(X,))
            assert torch.equal(model(X), model.expected(X))
        twin = copy.deepcopy(model)
        assert torch.equal(twin(X), model(X))
        assert type(bc.revert(twin)) is Two
        assert torch.equal(twin(X), seeded(Two)(X))

    def test_an_optimizer_goes_on(self):
        """The layers' new parameters are in the optimizer, and a step changes them."""
        model = seeded(Two)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        bc.convert(model, rules(), optimizer=optimizer)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        model(X).square().sum().backward()
        optimizer.step()
        assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def agrees(make, given, rule_set):
    """Say whether a conversion makes a model do what it should, or leaves it and says so."""
    model = seeded(make)
    report = bc.plan(model, rule_set).apply()
    if not report.applied:
        original = seeded(make)
        return all(torch.equal(model.train(t)(x), original.train(t)(x)) for x, t in given)
    return all(torch.allclose(model.train(t)(x), model.expected(x), atol=1e-6) for x, t in given)


class TestAWeightReadInSeveralPlaces:
    @pytest.mark.parametrize("make", [Shared, Around, CalledToo, CalledInTraining])
    def test_every_use_is_the_new_layers_or_none_is(self, make):
        """Whichever container, mode or branch it is in."""
        given = [(X + 1, True), (X + 1, False), (X - 1, True), (X - 1, False)]
        assert agrees(make, given, rules())

    def test_another_layer_on_the_same_weight_stays(self):
        """What the rule doesn't name computes as before."""
        assert agrees(TiedToo, [(X, True), (X, False)], only("f"))
