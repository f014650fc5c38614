"""What wraps, compiles, shards or re-runs a model goes on working."""

import pytest
import torch
from small_models import Cnn, Mlp, seeded
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import bioconvert as bc

ROWS = torch.linspace(-1, 1, 12).view(3, 4)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
MODELS = [pytest.param(Mlp, ROWS, id="Mlp"), pytest.param(Cnn, IMAGES, id="Cnn")]


@pytest.fixture
def gloo(tmp_path):
    """Be a process group of one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("make", "x"), MODELS)
class TestAfterConversion:
    def test_compiles_without_a_graph_break(self, make, x):
        """`torch.compile(fullgraph=True)` gives the same outputs."""
        model = bc.convert(seeded(make), "yat").eval()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        assert torch.allclose(compiled(x), model(x), atol=1e-6)

    def test_a_model_that_was_compiled_before(self, make, x):
        """The conversion reaches inside the wrapper, and the compiled code is made anew."""
        model = seeded(make).eval()
        compiled = torch.compile(model, backend="eager")
        before = compiled(x)
        assert bc.convert(compiled, "yat-all") is compiled
        assert not torch.allclose(compiled(x), before)
        assert torch.allclose(compiled(x), model(x), rtol=1e-4)
        bc.revert(compiled)
        assert torch.equal(compiled(x), before)

    def test_exports(self, make, x):
        """`torch.export` takes the converted model."""
        model = bc.convert(seeded(make), "yat").eval()
        exported = torch.export.export(model, (x,)).module()
        assert torch.allclose(exported(x), model(x), atol=1e-6)

    def test_autocast(self, make, x):
        """Under autocast outputs are half precision and gradients finite."""
        model = bc.convert(seeded(make), "yat-all")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(x)
        assert output.dtype is torch.bfloat16
        output.float().square().sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters())

    def test_gradient_checkpointing(self, make, x):
        """Running the forward twice gives the same gradients."""
        model = bc.convert(seeded(make), "yat-all").eval()
        model(x).square().sum().backward()
        plain = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        checkpoint(model, x, use_reentrant=False).square().sum().backward()
        assert all(
            torch.allclose(p.grad, g, atol=1e-6) for p, g in zip(model.parameters(), plain, strict=True)
        )

    def test_data_parallel(self, make, x, gloo):
        """DDP takes the converted model; a wrapped one is refused, untouched."""
        model = bc.convert(seeded(make), "yat-all")
        wrapped = DistributedDataParallel(model)
        wrapped(x).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        plain = DistributedDataParallel(seeded(make))
        classes = [type(m) for m in plain.modules()]
        with pytest.raises(bc.ConversionError, match="DistributedDataParallel"):
            bc.convert(plain, "yat-all")
        assert [type(m) for m in plain.modules()] == classes

    def test_fully_sharded(self, make, x, gloo):
        """FSDP2 takes the converted model; sharded layers are refused."""
        mesh = init_device_mesh("cpu", (1,))
        model = bc.convert(seeded(make), "yat-all")
        expected = model(x).detach()
        fully_shard(model, mesh=mesh)
        assert torch.allclose(model(x), expected, atol=1e-6)
        model(x).square().sum().backward()
        sharded = seeded(make)
        for layer in [m for m in sharded.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]:
            fully_shard(layer, mesh=mesh)
        plan = bc.plan(sharded, "yat-all")
        assert plan.applied == ()
        assert all("FSDP" in entry.reason for entry in plan.skipped)


def dropping(**replace):
    """Give a rule set under which the activation goes with the layer."""
    rules = [
        {
            "match": {"type": family, "followed_by": ["BatchNorm2d?", "ReLU|GELU"]},
            "replace": {"with": name, "activation": "drop", **replace},
            "optional": True,
        }
        for family, name in (("linear", "YatLinear"), ("conv", "YatConv2d"))
    ]
    return {"version": 1, "rules": rules}


MORPHING = dropping(morph={"steps": 4})


@pytest.mark.parametrize(("make", "x"), MODELS)
@pytest.mark.parametrize("norm", ["keep", "drop", "fold"])
def test_what_is_dropped_waits_for_no_gradient(make, x, norm, gloo):
    """A normalisation that goes is frozen, so that DDP doesn't wait for it; reverting lets it train again."""
    model = bc.convert(seeded(make), dropping(norm=norm))
    wrapped = DistributedDataParallel(model)
    for _ in range(2):
        wrapped(x).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    bc.revert(model)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(("make", "x"), MODELS)
class TestMorphing:
    @pytest.mark.parametrize("data", [False, True], ids=["kept", "fitted"])
    @pytest.mark.parametrize("norm", ["keep", "drop"])
    def test_data_parallel(self, make, x, norm, data, gloo):
        """No parameter is missed by DDP on the whole way, step 0 and the end included."""
        rules = dropping(norm=norm, morph={"steps": 4})
        model = bc.convert(seeded(make), rules, example_inputs=(x,) if data else None)
        wrapped = DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(6):
            optimizer.zero_grad()
            wrapped(x).square().mean().backward()
            assert all(p.grad is not None for p in model.parameters())
            optimizer.step()
            bc.morph_step(wrapped)
        bc.finalize(model)
        DistributedDataParallel(model)(x).square().mean().backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)

    def test_fully_sharded(self, make, x, gloo):
        """FSDP2 takes the morphing model, at step 0 and later."""
        model = bc.convert(seeded(make), MORPHING)
        expected = [model(x).detach()]
        bc.morph_step(model)
        expected.append(model(x).detach())
        model = bc.convert(seeded(make), MORPHING)
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        assert torch.allclose(model(x), expected[0], atol=1e-6)
        bc.morph_step(model)
        output = model(x)
        assert torch.allclose(output, expected[1], atol=1e-5)
        output.square().sum().backward()

    def test_gradient_checkpointing(self, make, x):
        """A forward that runs twice gives the same gradients on the way."""
        model = bc.convert(seeded(make), MORPHING)
        for _ in range(2):
            bc.morph_step(model)
        model.eval()
        model(x).square().sum().backward()
        expected = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        checkpoint(model, x.requires_grad_(), use_reentrant=False).square().sum().backward()
        assert all(torch.equal(p.grad, e) for p, e in zip(model.parameters(), expected, strict=True))


def test_data_parallel_without_processes():
    """`nn.DataParallel` is looked through."""
    wrapped = nn.DataParallel(Mlp())
    bc.convert(wrapped, "yat-all")
    assert type(wrapped.module.fc1).__name__ == "YatLinear"
