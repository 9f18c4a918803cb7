"""What a network wants of an image: size, resize rule, interpolation, mean, scale and channels; from and to JSON."""
from __future__ import annotations

import dataclasses
import operator
import os
from collections import namedtuple
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mxelm.errors import InputError, require_choice
from mxelm.files import read_json
from mxelm.pixels import are_pixels, as_pixels
from mxelm.preprocessing_keys import own_keys
from mxelm.runtime import require_cv2

RESIZE_RULES = ("short_side", "stretch", "none")
INTERPOLATIONS = {"nearest": 0, "bilinear": 1, "bicubic": 2, "area": 3, "lanczos": 4}  # OpenCV's numbers
CHANNEL_ORDERS = {"RGB": 3, "BGR": 3, "GREY": 1}

Usual = namedtuple("Usual", "mean scale what")
USUAL = {  # in pixel values
    "imagenet": Usual((123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375),
                      "ImageNet's mean and deviation, as torchvision and most of timm"),
    "unit": Usual((0.0,), (1 / 255,), "0..1"),
    "symmetric": Usual((127.5,), (1 / 127.5,), "-1..1, as many of TensorFlow"),
    "pixels": Usual((0.0,), (1.0,), "0..255"),
}


@dataclass(frozen=True)
class Preprocessing:
    """x = (pixel - mean) * scale, on an image brought to `size` by `resize`.

    size: (height, width) in pixels. resize: "short_side" (short side to `short_side` pixels, then the centre),
    "stretch" (to `size`, aspect ratio lost) or "none" (images must have `size` already).
    mean, scale: one number a channel in `channel_order` ("RGB", "BGR" or "GREY"), pixel values 0..255.
    Raises InputError for values that cannot be.
    """

    size: tuple
    resize: str = "short_side"
    short_side: int = None
    interpolation: str = "bilinear"
    mean: tuple = (0.0,)
    scale: tuple = (1.0,)
    channel_order: str = "RGB"

    def __post_init__(self) -> None:
        require_choice("resize rule", self.resize, RESIZE_RULES)
        require_choice("interpolation", self.interpolation, INTERPOLATIONS)
        require_choice("channel order", self.channel_order, CHANNEL_ORDERS)
        object.__setattr__(self, "size", self._checked_size())
        object.__setattr__(self, "short_side", self._checked_short_side())
        for name in ("mean", "scale"):
            object.__setattr__(self, name, self._per_channel(name))

    def _checked_size(self):
        try:
            size = tuple(map(operator.index, self.size))
        except TypeError:
            size = ()
        if len(size) != 2 or min(size) < 1:
            raise InputError(f"preprocessing size must be (height, width) in pixels, got {self.size}")
        return size

    def _checked_short_side(self):
        """The other rules know no short side; without one, ImageNet's custom: 256 for a network that sees 224."""
        if self.resize != "short_side":
            return None
        if self.short_side is None:
            return round(max(self.size) * 256 / 224)
        if not isinstance(self.short_side, (int, np.integer)) or self.short_side < max(self.size):
            raise InputError(f"short side must be a number of pixels not below the crop {self.size}, "
                             f"got {self.short_side}")
        return int(self.short_side)

    def _per_channel(self, name):
        try:
            values = tuple(float(v) for v in np.atleast_1d(getattr(self, name)))
        except (TypeError, ValueError):
            values = ()
        if len(values) == 1:
            values *= self.channels
        if len(values) != self.channels or not (np.abs(values) < 1e30).all():  # in float32, times a grey level
            raise InputError(f"preprocessing {name} needs {self.channels} finite numbers, got {getattr(self, name)}")
        return values

    @classmethod
    def usual(cls, name: str, size: tuple[int, int],
              channel_order: Literal["RGB", "BGR", "GREY"] = "RGB") -> Preprocessing:
        """One of USUAL's normalisations by name, on images of `size`; InputError lists the names."""
        require_choice("preprocessing", name, USUAL)
        return cls(size, mean=USUAL[name].mean, scale=USUAL[name].scale, channel_order=channel_order)

    @property
    def channels(self) -> int:
        """Number of channels the network takes: 3 or 1."""
        return CHANNEL_ORDERS[self.channel_order]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one input, (channels, height, width)."""
        return (self.channels, *self.size)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Bring one image, uint8 RGB (h, w, 3) or grey (h, w) or a Pillow image, to uint8 (height, width, channels).

        Channels come out in `channel_order`. Raises InputError for another type or shape.
        """
        image = self._resized(self._coloured(image))
        return image if image.ndim == 3 else image[:, :, None]

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, height, width, channels) -> float32 (n, channels, height, width), C-ordered."""
        mean = np.asarray(self.mean, np.float32)
        scale = np.asarray(self.scale, np.float32)
        out = np.empty((len(images), *self.shape), np.float32)
        for c in range(self.channels):
            np.subtract(images[..., c], mean[c], out=out[:, c], dtype=np.float32)
            out[:, c] *= scale[c]
        return out

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """One uint8 image of any size -> float32 (channels, height, width), ready for the network.

        >>> Preprocessing((2, 2), "stretch", mean=128.0, scale=0.5)(np.full((8, 8, 3), 130, np.uint8))[0]
        array([[1., 1.],
               [1., 1.]], dtype=float32)
        """
        return self.normalise(self.prepare(image)[None])[0]

    def _coloured(self, image):
        cv2 = require_cv2()
        image = as_pixels(image)
        if not are_pixels(image):
            raise InputError(f"an image must be uint8 (h, w) or (h, w, 3) RGB, got {image.dtype} {image.shape}")
        if self.channels == 1:
            return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if image.ndim == 2:
            return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        return image if self.channel_order == "RGB" else image[:, :, ::-1]

    def _resized(self, image):
        height, width = self.size
        if image.shape[:2] == (height, width) and self.short_side in (None, min(height, width)):
            return image
        if self.resize == "none":
            raise InputError(f"an image of {image.shape[0]}x{image.shape[1]} pixels meets a network that takes "
                             f"{height}x{width} and a preprocessing that does not resize")
        cv2 = require_cv2()
        flag = INTERPOLATIONS[self.interpolation]
        if self.resize == "stretch":
            return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=flag)
        h, w = image.shape[:2]
        factor = self.short_side / min(h, w)
        h, w = max(height, round(h * factor)), max(width, round(w * factor))
        if max(h, w) > 64 * max(self.size):
            raise InputError(f"an image of {image.shape[0]}x{image.shape[1]} pixels is too narrow for its short side "
                             f"to be resized to {self.short_side}")
        image = cv2.resize(np.ascontiguousarray(image), (w, h), interpolation=flag)
        top, left = (h - height) // 2, (w - width) // 2
        return image[top:top + height, left:left + width]

    def to_json(self) -> dict:
        """A dict in the form of the JSON file beside a checkpoint."""
        return {
            "input_shape": list(self.shape),
            "mean": list(self.mean),
            "scale": list(self.scale),
            "channel_order": self.channel_order,
            "resize": {"rule": self.resize, "short_side": self.short_side, "interpolation": self.interpolation},
        }

    @classmethod
    def read(cls, path: str | os.PathLike) -> Preprocessing:
        """The Preprocessing in a JSON file of its own, or in a checkpoint's; errors name the file."""
        try:
            return cls.from_json(read_json(path))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def from_json(cls, content: dict, strict: bool = True) -> Preprocessing:
        """The inverse of `to_json`; only input_shape must be there, and what is missing is ImageNet's custom.

        The keys may be those of torchvision, timm, Hugging Face or ImageRecordIter (see mxelm.preprocessing_keys).
        strict: refuse every other key, as what is said but not done would go unseen.
        """
        try:
            content = own_keys(content, strict)
            channels, height, width = content["input_shape"]
            order = content.get("channel_order", "RGB" if channels == 3 else "GREY")
            resize = content.get("resize", {})
            made = cls((height, width), resize.get("rule", "short_side"), resize.get("short_side"),
                       resize.get("interpolation", "bilinear"), content.get("mean", 0.0), content.get("scale", 1.0),
                       order)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError("preprocessing JSON needs input_shape [channels, height, width], and may say mean, scale "
                             f"or std, channel_order and resize: {error!r}") from None
        if made.channels != channels and width in (1, 3):
            raise InputError(f"preprocessing JSON says input_shape {content['input_shape']}: write [channels, height, "
                             "width], the channels first")
        if made.channels != channels:
            raise InputError(f"preprocessing JSON says {channels} channels and channel order {order}")
        return made

    def replace(self, **changes: Any) -> Preprocessing:
        """A copy with some fields changed; a new size takes its customary short side unless one is given."""
        if "size" in changes:
            changes.setdefault("short_side", None)
        return dataclasses.replace(self, **changes)
