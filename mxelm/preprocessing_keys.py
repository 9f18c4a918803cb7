"""A preprocessing in the keys that people write it in, brought to mxelm's own: nothing in it is passed over.

mean and std for pixels 0..1 (torchvision, timm) or 0..255 (MXNet), image_mean, image_std and rescale_factor (Hugging
Face), mean_r, std_r, ... and data_shape (ImageRecordIter), input_size, interpolation and crop_pct (timm).
"""
from __future__ import annotations

import difflib
import logging
import math

import numpy as np

from mxelm.errors import InputError

logger = logging.getLogger(__name__)
_OWN = ("input_shape", "mean", "scale", "channel_order", "resize")
_RESIZE = ("rule", "short_side", "interpolation")
_OTHER_NAMES = {"input_size": "input_shape", "data_shape": "input_shape", "image_mean": "mean", "image_std": "std"}
_BY_CHANNEL = {f"{what}_{channel}": what for what in ("mean", "std") for channel in "rgb"}
_KNOWN = (*_OWN, "std", "rescale_factor", "interpolation", "crop_pct", *_OTHER_NAMES, *_BY_CHANNEL)
_OF_A_CHECKPOINT = ("files", "features", "classes", "classes_file", "source", "elm")


def own_keys(content: dict, strict: bool = True) -> dict:
    """A dict of input_shape, mean, scale, channel_order and resize, as far as `content` says them.

    strict: refuse every key that is not known; else, and in the JSON file of a checkpoint, those alone that look like a
    slip of one. Raises InputError for those, for a key said twice, and for a mean and std that do not tell whether
    pixels run from 0 to 1 or to 255.
    """
    strict = strict and not any(key in content for key in _OF_A_CHECKPOINT)
    for key in content:
        near = difflib.get_close_matches(str(key).lower(), _KNOWN, n=1, cutoff=0.6 if strict else 0.8)
        if key not in _KNOWN and (strict or near and key not in _OF_A_CHECKPOINT):
            raise InputError(f"preprocessing JSON has the key {key!r}, which is not known: "
                             f"{f'write {near[0]}' if near else 'use ' + ', '.join(_KNOWN[:6])}")
    said = {}
    for key, value in _whole(content).items():
        name = _OTHER_NAMES.get(key, key)
        if name in said:
            raise InputError(f"preprocessing JSON says {name} twice: keep one")
        said[name] = value
    if "std" in said or "rescale_factor" in said:
        said.update(_levels(said))
    elif "scale" not in said and 0 < _largest(said.get("mean", 0)) <= 1:
        raise InputError(f"a mean of {said['mean']} is less than one grey level of 255: write std beside it where "
                         "pixels run from 0 to 1, or the mean in grey levels")
    if "interpolation" in said or "crop_pct" in said:
        said["resize"] = _resize(said)
    if not isinstance(said.get("resize", {}), dict) or set(said.get("resize", {})) - set(_RESIZE):
        raise InputError(f"preprocessing JSON says resize {said['resize']}: it must be an object of "
                         f"{', '.join(_RESIZE)}")
    return {key: said[key] for key in _OWN if key in said}


def _whole(content):
    """mean_r, mean_g, mean_b as one mean, in the order of the channels; std alike."""
    if not any(key in content for key in _BY_CHANNEL):
        return content
    order = str(content.get("channel_order", "RGB")).lower()
    made = {key: value for key, value in content.items() if key not in _BY_CHANNEL}
    for what, default in (("mean", 0), ("std", 1)):
        if any(_BY_CHANNEL.get(key) == what for key in content):
            if what in made:
                raise InputError(f"preprocessing JSON says {what} twice: keep one")
            made[what] = [content.get(f"{what}_{channel}", default) for channel in order if channel in "rgb"]
    return made


def _levels(said):
    """mean and scale for pixels 0..255 of mean and std (and rescale_factor): x = (pixel * factor - mean) / std."""
    if "scale" in said:
        raise InputError("preprocessing JSON says scale beside std or rescale_factor: keep one")
    mean, std = (np.asarray(said.get(name, default), float) for name, default in (("mean", 0), ("std", 1)))
    if not (np.isfinite(std).all() and (std > 0).all() and np.isfinite(mean).all()):
        raise InputError(f"preprocessing mean and std must be numbers, std above 0, got {said.get('mean')} and "
                         f"{said.get('std')}")
    factor = float(said["rescale_factor"]) if "rescale_factor" in said else 1 / _white(mean, std, said)
    if not 0 < factor < math.inf:
        raise InputError(f"rescale_factor must be a number above 0, got {said['rescale_factor']}")
    return {"mean": (mean / factor).tolist(), "scale": (factor / std).tolist()}


def _white(mean, std, said):
    """255 where mean and std are of pixels 0..1, 1 where they are of grey levels."""
    small = _largest(mean) <= 1 and std.max() < 1
    large = std.min() >= 1 and (_largest(mean) > 1 or _largest(mean) == 0 and std.min() > 1)
    if small == large:
        raise InputError(f"mean {said.get('mean', 0)} and std {said['std']} do not tell whether pixels run from 0 to 1 "
                         "or to 255: write mean in grey levels and scale, by which what remains is multiplied")
    logger.warning("mean %s and std %s are taken to be of pixels from 0 to %d", said.get("mean", 0), said["std"],
                   1 if small else 255)
    return 255 if small else 1


def _resize(said):
    """timm's words: the short side is the size over crop_pct."""
    resize = dict(said.get("resize", {}))
    if "interpolation" in said:
        resize["interpolation"] = said["interpolation"]
    if "crop_pct" in said:
        resize["short_side"] = math.floor(max(said["input_shape"][1:]) / said["crop_pct"])
    return resize


def _largest(values):
    return np.abs(np.asarray(values, float)).max(initial=0)
