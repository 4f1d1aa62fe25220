"""Batch norms folded into the convolutions before them: the same numbers with half the passes over memory."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fused(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of `model` (evaluation mode) without the batch norms that directly follow a convolution.

    Which do is seen in one pass of `example`, so it does not matter how the model's code is written.
    """
    model = copy.deepcopy(model).eval()
    names = {module: name for name, module in model.named_modules()}
    for conv, norm in _pairs(model, example):
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            cast("Tensor", norm.running_mean),
            cast("Tensor", norm.running_var),
            norm.eps,
            norm.weight,
            norm.bias,
        )
        parent, _, child = names[norm].rpartition(".")
        # timm's BatchNormAct2d carries the activation that follows
        left = getattr(norm, "act", nn.Identity())
        left._forward_hooks.update(norm._forward_hooks)  # who reads the norm's output reads this one's
        setattr(model.get_submodule(parent), child, left)
    return model


def _pairs(model: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return each convolution whose output went into a batch norm, each called once, with that batch norm.

    A convolution whose output somebody reads stays as it is.
    """
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def on_conv(conv: nn.Module, _inputs: object, output: Tensor) -> None:
        outputs[id(output)] = (cast("nn.Conv2d", conv), output)  # the tensor is kept, so its id stays its own

    def on_norm(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        if id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])][0], cast("nn.BatchNorm2d", norm)))

    handles = [
        m.register_forward_hook(on_conv) for m in model.modules() if isinstance(m, nn.Conv2d) and not m._forward_hooks
    ]
    handles += [m.register_forward_pre_hook(on_norm) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        model(example)
    for handle in handles:
        handle.remove()
    convs, norms = [conv for conv, _ in pairs], [norm for _, norm in pairs]
    return [
        (conv, norm)
        for conv, norm in pairs
        if convs.count(conv) == 1 and norms.count(norm) == 1 and norm.running_mean is not None
    ]
