"""Functions of signals that are put behind a layer: what `attach` does by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bioconvert import layers
from bioconvert.core.change import Change, Site
from bioconvert.core.errors import Refused
from bioconvert.core.registry import mechanism
from bioconvert.replacements.added import filled

if TYPE_CHECKING:
    from torch import nn

Positive = Annotated[float, Field(gt=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


@mechanism("backward_gradient_norm")
def backward_gradient_norm(module: nn.Module, site: Site, *, eps: Positive = 1e-6) -> Change:  # noqa: ARG001
    """Bring the gradient of a module's output to unit mean square, sample by sample.

    Args:
        module: any module that gives a tensor, or several, of which the first is meant.
        site: where it stands.
        eps: what is added to the norm of a sample's gradient.

    Raises:
        Refused: the rule selects a parameter.
    """
    _refuse_parameters(site)
    return Change(
        into=layers.NormalizesGradient,
        attributes={"gradient_norm_eps": eps},
        summary="the gradient of its output is normalised",
    )


@mechanism("compress")
def compress(
    module: nn.Module,
    site: Site,
    *,
    bgn_input: bool = False,
    bgn_mid: bool = False,
    bgn_output: bool = False,
    mode: Literal["gating", "dampening"] = "gating",
    leak: Finite = 1e-3,
    trainable_leak: bool = False,
    eps: Positive | None = None,
) -> Change:
    """Compress a module's output, row by row along its last dimension.

    Args:
        module: any module that gives a tensor, or several, of which the first is meant.
        site: where it stands.
        bgn_input: whether the gradient is normalised where it leaves the compressor.
        bgn_mid: whether that in its middle is.
        bgn_output: whether it is where it comes in.
        mode: whether the gate leaks with the signal's sign, or with its size.
        leak: share of the signal that leaks.
        trainable_leak: whether that is learnt, by a factor of it.
        eps: what is added to the mean size of a row; ``None`` for what suits the type.

    Raises:
        Refused: the rule selects a parameter, or the module has none of its own to put a learnt one beside.
    """
    _refuse_parameters(site)
    options = {"bgn_input": bgn_input, "bgn_mid": bgn_mid, "bgn_output": bgn_output}
    return Change(
        into=layers.CompressesOutput,
        attributes={"compressor": {**options, "mode": mode, "leak": leak, "eps": eps}},
        adds={"compressor_leak_scale": filled((1,), 1.0, like=_like(module))} if trainable_leak else {},
        summary="its output is compressed",
        warnings=("what the model computes changes",),
    )


def _refuse_parameters(site: Site) -> None:
    if site.parameter:
        raise Refused("what it does, it does to a module's output: select the module, not a parameter of it")


def _like(module: nn.Module) -> str:
    """Name a parameter of the module that a new one is to be like."""
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.is_floating_point():
            return name
    raise Refused(f"a {type(module).__name__} has no parameter of its own, to put a learnt leak beside")
