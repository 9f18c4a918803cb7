"""The two convolutions before the k-NN: their kernels and the features they give."""
from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

import numpy as np

from mxelm.containers import load_container, save_container
from mxelm.errors import FileError, InputError
from mxelm.runtime import mx

KIND = "knn-kernels"
FILTERS = (32, 64)  # of the talk's two layers
BLOCK = 500  # images


@dataclass(frozen=True, eq=False, repr=False)
class Kernels:
    """Weights of the two 3x3 convolutions.

    float32: conv1 (f1, 1, 3, 3), bias1 (f1,), conv2 (f2, f1, 3, 3), bias2 (f2,); the talk has f1 = 32 and f2 = 64,
    18,816 numbers. Raises InputError for other shapes and non-finite values.
    """

    conv1: np.ndarray
    bias1: np.ndarray
    conv2: np.ndarray
    bias2: np.ndarray

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, np.array(getattr(self, field.name), np.float32, order="C"))
        f1, f2 = len(self.conv1), len(self.conv2)
        wanted = {"conv1": (f1, 1, 3, 3), "bias1": (f1,), "conv2": (f2, f1, 3, 3), "bias2": (f2,)}
        for name, shape in wanted.items():
            found = getattr(self, name)
            if found.shape != shape or not found.size:
                raise InputError(f"kernels: {name} must have shape {shape}, got {found.shape}")
            if not np.isfinite(found).all():
                raise InputError(f"kernels: {name} holds NaN or infinite values")

    def __repr__(self) -> str:
        return f"<Kernels: {len(self.conv1)} and {len(self.conv2)} filters>"

    @property
    def count(self) -> int:
        """Number of parameters, biases included."""
        return sum(getattr(self, field.name).size for field in dataclasses.fields(self))

    def replace(self, **changes: np.ndarray) -> Kernels:
        """A copy with some arrays changed."""
        return dataclasses.replace(self, **changes)

    def save(self, path: str | os.PathLike) -> None:
        """Write the kernels to one file, whole or not at all."""
        save_container(path, KIND, {}, {field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Kernels:
        """Read what `save` wrote; FileError for a damaged or foreign file."""
        _, arrays = load_container(path, KIND)
        try:
            return cls(**arrays)
        except (TypeError, ValueError) as error:
            raise FileError(f"{path} does not hold kernels: {error}") from None


def features(images: np.ndarray, kernels: Kernels, *, block: int = BLOCK) -> np.ndarray:
    """What the k-NN sees: float32 (n, 1600) of 28x28 images, channel-major (64, 5, 5).

    images: uint8 (n, height, width), used as pixel / 255. Convolution, ReLU, 2x2 max-pooling, twice, without
    padding. block: images at once. Source: Radu, slides on k-NN slicing and on experiments.
    """
    out = None
    for start, x in _blocks(images, block):
        x = _layer(_layer(x, kernels.conv1, kernels.bias1), kernels.conv2, kernels.bias2)
        x = x.reshape((len(x), -1)).asnumpy()
        out = np.empty((len(images), x.shape[1]), np.float32) if out is None else out
        out[start:start + len(x)] = x
    return out


def pool1(images: np.ndarray, kernels: Kernels, *, block: int = BLOCK) -> np.ndarray:
    """The first layer's pooled maps: float32 (n, 32, 13, 13) of uint8 28x28 images (n, height, width)."""
    out = None
    for start, x in _blocks(images, block):
        x = _layer(x, kernels.conv1, kernels.bias1).asnumpy()
        out = np.empty((len(images), *x.shape[1:]), np.float32) if out is None else out
        out[start:start + len(x)] = x
    return out


def _layer(x, weight, bias):
    """ReLU and 2x2 max-pooling of a convolution of x, an NDArray (n, c, h, w)."""
    x = mx.nd.Convolution(x, mx.nd.array(weight), mx.nd.array(bias), kernel=(3, 3), num_filter=len(weight))
    return mx.nd.Pooling(mx.nd.relu(x), kernel=(2, 2), stride=(2, 2), pool_type="max")


def _blocks(images, block):
    images = checked(images)
    for start in range(0, len(images), block):
        yield start, mx.nd.array(images[start:start + block, None].astype(np.float32) / 255)


def checked(images: np.ndarray) -> np.ndarray:
    """Images as the kernels take them, uint8 (n, height, width); InputError for any others."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 3 or not len(images) or min(images.shape[1:]) < 10:
        raise InputError("images must be uint8 (n, height, width), one or more of at least 10x10 pixels; got "
                         f"{images.dtype} {images.shape}")
    return images
