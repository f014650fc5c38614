"""Live layers of nmn made into ours, on stand-ins that have nmn's class names and attributes."""

import pytest
import torch
from nmn_cases import relative_error
from nmn_golden import record
from torch import nn

import bioconvert as bc
from bioconvert.compat.nmn import NmnAttention, describe_module, from_module, holds_nmn
from bioconvert.core.errors import ConversionError


def stand_in(name, recorded, **attributes):
    """Make a module of a class that looks like one of nmn's, with recorded tensors."""
    cls = type(name, (nn.Module,), {"__module__": "nmn.torch.stand_in", "forward": lambda self, x: x})
    module = cls()
    for path, tensor in recorded.state.items():
        *parents, own = path.split(".")
        holder = module
        for parent in parents:
            if parent not in holder._modules:
                holder.add_module(parent, nn.Module())
            holder = holder.get_submodule(parent)
        holder.register_parameter(own, nn.Parameter(tensor.clone()))
    for attribute, value in attributes.items():
        setattr(module, attribute, value)
    return module


def linear(**attributes):
    """A stand-in for a YatNMN of the second generation."""
    return stand_in("YatNMN", record("YatNMN plain"), epsilon=1e-5, constant_alpha=None, **attributes)


class TestFromModule:
    def test_object_and_parameters_stay(self):
        """The module is the same object, on the same parameters, and computes what was recorded."""
        layer = linear()
        weight = layer.weight
        assert from_module(layer) is layer
        assert type(layer) is bc.layers.YatLinear
        assert layer.weight is weight
        recorded = record("YatNMN plain")
        assert relative_error(layer(recorded.tensor("input")), recorded.tensor("output")) < 1e-5

    def test_first_generation_is_recognised(self):
        """A layer without the second generation's attributes is of the first."""
        recorded = record("YatNMN plain", "0.1.3")
        layer = from_module(stand_in("YatNMN", recorded, epsilon=1e-4))
        assert (layer.bias_mode, layer.alpha_mode, layer.epsilon) == ("post", "exponent", 1e-4)
        assert relative_error(layer(recorded.tensor("input")), recorded.tensor("output")) < 1e-5

    def test_hooks_and_flags_stay(self):
        """Hooks still run, and train flags and frozen parameters stay."""
        layer = linear().eval()
        layer.bias.requires_grad_(False)
        seen = []
        layer.register_forward_hook(lambda *_: seen.append(True))
        from_module(layer)(torch.zeros(1, 5))
        assert seen == [True]
        assert not layer.training
        assert not layer.bias.requires_grad

    def test_inside_a_model(self):
        """Shared layers stay shared, other modules and the containers are untouched."""
        shared = linear()
        model = nn.Sequential(nn.Linear(5, 5), shared, nn.ModuleList([shared]))
        assert holds_nmn(model)
        from_module(model)
        assert model[1] is model[2][0] is shared
        assert not holds_nmn(model)
        assert type(model[0]) is nn.Linear

    def test_options_are_read_off_attributes(self):
        """What tensors don't tell, attributes do."""
        (layer,) = describe_module(linear(spherical=True, softplus_bias=True))
        assert layer.options["spherical"] is True
        assert layer.arguments["softplus_bias"] is True

    def test_derived_class_is_refused(self):
        """A user's own class on top of nmn's is refused by name, and nothing has changed."""
        layer, other = linear(), linear()
        other.__class__ = type("Mine", (type(other),), {"__module__": "user.code"})
        model = nn.Sequential(layer, other)
        with pytest.raises(ConversionError, match=r"1: user\.code\.Mine is derived from YatNMN"):
            from_module(model)
        assert type(layer).__name__ == "YatNMN"

    def test_forward_on_the_instance_is_refused(self):
        """A forward that is set on the instance would win, and is refused."""
        layer = linear()
        layer.forward = lambda x: x
        with pytest.raises(ConversionError, match="its forward is set on the instance"):
            from_module(layer)

    def test_model_without_nmn_is_left_alone(self):
        """A model without layers of nmn comes back as it is."""
        model = nn.Linear(2, 2)
        assert from_module(model) is model
        assert type(model) is nn.Linear


class TestNmnAttention:
    @pytest.fixture
    def attention(self):
        """An attention under nmn's call."""
        torch.manual_seed(0)
        return NmnAttention(8, 2, dropout=0.5, batch_first=True)

    def test_key_and_value_default_to_the_query(self, attention):
        """One argument is self-attention, two are attention to a memory."""
        attention.eval()
        x, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
        assert torch.equal(attention(x), attention(x, x, x))
        assert torch.equal(attention(x, memory), attention(x, memory, memory))

    def test_mask_says_what_may_be_seen(self, attention):
        """A key that is masked out everywhere doesn't matter."""
        attention.eval()
        x = torch.randn(2, 3, 8)
        mask = torch.tensor([True, True, False]).expand(3, 3)
        changed = x.clone()
        changed[:, 2] += 1
        assert torch.allclose(attention(x, x, x, mask), attention(x, changed, changed, mask))

    def test_deterministic_drops_nothing(self, attention):
        """While training, deterministic=True gives the output of eval mode."""
        x = torch.randn(2, 3, 8)
        found = attention(x, deterministic=True)
        assert attention.training
        assert torch.equal(found, attention.eval()(x))
