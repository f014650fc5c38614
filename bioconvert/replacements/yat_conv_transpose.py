"""Transposed convolutions become Yat layers on the same weight and bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bioconvert.core.change import Change, Site
from bioconvert.core.registry import replacement
from bioconvert.replacements.yat import Alpha, Epsilon, Finite, Fraction, Mask, yat_change
from bioconvert.replacements.yat_init import Init, Start

if TYPE_CHECKING:
    from torch import nn


@replacement("YatConvTranspose1d", of="torch.nn.ConvTranspose1d")
@replacement("YatConvTranspose2d", of="torch.nn.ConvTranspose2d")
@replacement("YatConvTranspose3d", of="torch.nn.ConvTranspose3d")
def yat_conv_transpose(
    layer: nn.Module,
    site: Site,
    *,
    taps: Literal["contributing", "kernel"] = "contributing",
    bias_mode: Literal["pre", "post"] = "pre",
    alpha: Alpha = "learnable",
    per_unit: bool = False,
    offset: bool = False,
    epsilon: Epsilon = "auto",
    learnable_epsilon: bool = False,
    spherical: bool = False,
    weight_normalized: bool = False,
    drop_connect: Fraction = 0.0,
    softplus_bias: bool = False,
    scalar_bias: bool = False,
    constant_bias: Finite | None = None,
    freeze_kernel: bool = False,
    mask: Mask = "none",
    init: Init = "auto",
    refine: Annotated[int, Field(ge=0)] = 0,
) -> Change:
    r"""Turn a transposed convolution into the Yat layer of its kind, on the same weight and bias.

    Args:
        layer: a ConvTranspose1d, ConvTranspose2d or ConvTranspose3d.
        site: where it stands.
        taps: whose squares make :math:`\lVert w \rVert^2`: the taps that reach an output, or, as in the
            reference, all of the kernel.
        bias_mode: as for :func:`bioconvert.replacements.yat.yat`, like all that follow.
        alpha: the scale.
        per_unit: whether the scale, and a learnable :math:`\varepsilon`, are one for each unit.
        offset: whether an offset for each unit is added to the output.
        epsilon: :math:`\varepsilon`.
        learnable_epsilon: whether :math:`\varepsilon` is learnt.
        spherical: whether x and w are normalised.
        weight_normalized: whether w is normalised.
        drop_connect: probability that a weight is left out while training.
        softplus_bias: whether the softplus of the bias is used.
        scalar_bias: whether the mean of the bias is used by all units.
        constant_bias: a number that is used in place of the bias.
        freeze_kernel: whether the weight is trained no more.
        mask: ``"nonzero"`` keeps weights that are exactly zero at zero.
        init: what the layer starts from.
        refine: number of gradient steps by which ``init: calibrate`` improves what it found.

    Raises:
        Refused: what an option asks for can't be done here.
        OptionError: two options contradict each other.
    """
    options: dict[str, Any] = {
        "taps": taps,
        "bias_mode": bias_mode,
        "alpha": alpha,
        "per_unit": per_unit,
        "offset": offset,
        "epsilon": epsilon,
        "learnable_epsilon": learnable_epsilon,
        "spherical": spherical,
        "weight_normalized": weight_normalized,
        "drop_connect": drop_connect,
        "softplus_bias": softplus_bias,
        "scalar_bias": scalar_bias,
        "constant_bias": constant_bias,
        "freeze_kernel": freeze_kernel,
        "mask": mask,
    }
    return yat_change(layer, site, options, Start(init, refine))
