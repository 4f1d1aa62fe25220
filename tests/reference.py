"""SimpleNet once more: independent of the product, slow, and obvious. The product is held against it.

Loops and plain numpy where the product uses torch's own operations; no code is shared with `inspectd`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float64]


def backbone_features(name: str, state: dict[str, torch.Tensor], layers: list[str], inputs: Array) -> list[Array]:
    """Run a whole timm model and listen at `layers`: [B, C, h, w] each."""
    model = timm.create_model(name, pretrained=False)
    model.load_state_dict(state)
    model.eval()
    heard: dict[str, Array] = {}
    for layer in layers:
        model.get_submodule(layer).register_forward_hook(
            lambda _m, _i, out, layer=layer: heard.__setitem__(layer, out.detach().double().numpy().copy())
        )
    with torch.no_grad():
        model(torch.from_numpy(inputs).float())
    return [heard[layer] for layer in layers]


def patches_of(features: Array, size: int, stride: int) -> Array:
    """[C, H, W] -> [rows, columns, C, size, size], zeros outside."""
    channels, height, width = features.shape
    pad = (size - 1) // 2
    padded = np.zeros((channels, height + 2 * pad, width + 2 * pad))
    padded[:, pad : pad + height, pad : pad + width] = features
    rows = (height + 2 * pad - size) // stride + 1
    columns = (width + 2 * pad - size) // stride + 1
    out = np.empty((rows, columns, channels, size, size))
    for y in range(rows):
        for x in range(columns):
            out[y, x] = padded[:, y * stride : y * stride + size, x * stride : x * stride + size]
    return out


def bilinear(grid: Array, rows: int, columns: int) -> Array:
    """[h, w, …] -> [rows, columns, …], pixel centres aligned as images are."""

    def weights(old: int, new: int) -> Array:
        out = np.zeros((new, old))
        for i in range(new):
            at = max((i + 0.5) * old / new - 0.5, 0.0)
            low = min(int(at), old - 1)
            high = min(low + 1, old - 1)
            out[i, low] += 1 - (at - low)
            out[i, high] += at - low
        return out

    half = np.tensordot(weights(grid.shape[0], rows), grid, axes=(1, 0))
    return np.moveaxis(np.tensordot(weights(grid.shape[1], columns), half, axes=(1, 1)), 0, 1)


def average_to(vector: Array, width: int) -> Array:
    """Adaptive average: bin i covers floor(i·n/width) … ceil((i+1)·n/width)."""
    n = len(vector)
    return np.array([vector[i * n // width : -(-(i + 1) * n // width)].mean() for i in range(width)])


def embed(features: list[Array], params: dict[str, Any]) -> Array:
    """Features of one picture, [C, h, w] per layer -> [rows, columns, target]."""
    layers = [patches_of(f, params["patchsize"], params["patchstride"]) for f in features]
    rows, columns = layers[0].shape[:2]
    layers = [layer if i == 0 else bilinear(layer, rows, columns) for i, layer in enumerate(layers)]
    out = np.empty((rows, columns, params["target_embed_dimension"]))
    for y in range(rows):
        for x in range(columns):
            pooled = [average_to(layer[y, x].ravel(), params["pretrain_embed_dimension"]) for layer in layers]
            out[y, x] = average_to(np.concatenate(pooled), params["target_embed_dimension"])
    return out


def patch_scores(rows: Array, ckpt: dict[str, dict[str, torch.Tensor]], params: dict[str, Any]) -> Array:
    """[…, D] -> […]: projection, discriminator with its running statistics, minus."""
    discriminator = {k: v.double().numpy() for k, v in ckpt["discriminator"].items()}
    projection = {k: v.double().numpy() for k, v in ckpt.get("pre_projection", {}).items()}
    x = rows
    for i in range(params["pre_proj"]):
        x = x @ projection[f"layers.{i}fc.weight"].T + projection[f"layers.{i}fc.bias"]
        if params["proj_layer_type"] > 1 and i < params["pre_proj"] - 1:
            x = np.where(x > 0, x, 0.2 * x)
    for i in range(1, params["dsc_layers"]):
        block = f"body.block{i}"
        x = x @ discriminator[f"{block}.0.weight"].T + discriminator[f"{block}.0.bias"]
        x = (x - discriminator[f"{block}.1.running_mean"]) / np.sqrt(discriminator[f"{block}.1.running_var"] + 1e-5)
        x = x * discriminator[f"{block}.1.weight"] + discriminator[f"{block}.1.bias"]
        x = np.where(x > 0, x, 0.2 * x)
    return -(x @ discriminator["tail.weight"].T)[..., 0]


def anomaly_map(scores: Array, height: int, width: int) -> Array:
    """[h, w] -> [height, width]: upsampled, then smoothed with sigma 4."""
    return np.asarray(gaussian_filter(bilinear(scores, height, width), sigma=4))


def train(
    rows: list[Array], init: dict[str, dict[str, torch.Tensor]], noise: list[Array], margin: float = 0.5
) -> tuple[list[float], dict[str, Array]]:
    """One projection layer and a discriminator of two, trained by hand-written gradients in float64.

    `rows`: the embedded patches of each step. Returns the loss of each step and the final weights.
    """
    w = {f"d.{k}": v.double().numpy().copy() for k, v in init["discriminator"].items()}
    w |= {f"p.{k}": v.double().numpy().copy() for k, v in init["pre_projection"].items()}
    names = {
        "P": "p.layers.0fc.weight",
        "q": "p.layers.0fc.bias",
        "A": "d.body.block1.0.weight",
        "b": "d.body.block1.0.bias",
        "g": "d.body.block1.1.weight",
        "h": "d.body.block1.1.bias",
        "t": "d.tail.weight",
    }
    first = {k: np.zeros_like(w[n]) for k, n in names.items()}
    second = {k: np.zeros_like(w[n]) for k, n in names.items()}
    losses = []
    for step, (x, e) in enumerate(zip(rows, noise, strict=True), start=1):
        good = x @ w[names["P"]].T + w[names["q"]]
        z = np.concatenate([good, good + e])
        n, half = len(z), len(good)
        u = z @ w[names["A"]].T + w[names["b"]]
        mean, var = u.mean(0), u.var(0)
        s = 1 / np.sqrt(var + 1e-5)
        v = (u - mean) * s
        y = v * w[names["g"]] + w[names["h"]]
        a = np.where(y > 0, y, 0.2 * y)
        d = (a @ w[names["t"]].T)[:, 0]
        true_loss, fake_loss = np.maximum(margin - d[:half], 0), np.maximum(margin + d[half:], 0)
        losses.append(float(true_loss.mean() + fake_loss.mean()))
        for key, now in (("running_mean", mean), ("running_var", var * n / (n - 1))):
            w[f"d.body.block1.1.{key}"] = 0.9 * w[f"d.body.block1.1.{key}"] + 0.1 * now
        dd = np.concatenate([-1.0 * (true_loss > 0), 1.0 * (fake_loss > 0)])[:, None] / half
        grad = {"t": dd.T @ a}
        dy = (dd @ w[names["t"]]) * np.where(y > 0, 1, 0.2)
        grad["g"], grad["h"] = (dy * v).sum(0), dy.sum(0)
        dv = dy * w[names["g"]]
        du = s / n * (n * dv - dv.sum(0) - v * (dv * v).sum(0))
        grad["A"], grad["b"] = du.T @ z, du.sum(0)
        dz = du @ w[names["A"]]
        dgood = dz[:half] + dz[half:]
        grad["P"], grad["q"] = dgood.T @ x, dgood.sum(0)
        for key, name in names.items():
            is_projection = key in "Pq"
            lr = 1e-4 if is_projection else 2e-4
            gradient = grad[key].reshape(w[name].shape)
            if is_projection:
                w[name] *= 1 - lr * 1e-2  # AdamW: decoupled
            else:
                gradient = gradient + 1e-5 * w[name]  # Adam: in the gradient
            first[key] = 0.9 * first[key] + 0.1 * gradient
            second[key] = 0.999 * second[key] + 0.001 * gradient**2
            denominator = np.sqrt(second[key]) / math.sqrt(1 - 0.999**step) + 1e-8
            w[name] -= lr / (1 - 0.9**step) * first[key] / denominator
    return losses, w
