"""From an encoded image to uint8 pixels, strictly: what is not whole is refused."""
import contextlib
import io
import threading
from pathlib import Path

import numpy as np

from mxelm.errors import FileError
from mxelm.runtime import require_cv2

_pillow = threading.Lock()


def read_image(path):
    """The image file at `path` as uint8 (h, w, 3) RGB or (h, w) grey; FileError names a file that is broken."""
    return decode(read_bytes(path), path)


def read_bytes(path):
    """The content of a file; FileError names one that cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None


def decode(content, name):
    """Encoded bytes (JPEG, PNG, BMP, TIFF, WebP, GIF, ...) -> uint8 (h, w, 3) RGB or (h, w) grey.

    Alpha is dropped, 16 bits are cut to 8, the first frame of several is taken, EXIF's rotation is applied.
    Raises FileError, with `name` in it, for bytes that are no image or end too early.
    """
    if not content:
        raise FileError(f"{name} is empty: remove it, restore it, or use --skip-bad")
    cv2 = require_cv2()
    try:
        image = None if _is_cut_jpeg(content) else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_ANYCOLOR)
    except cv2.error:  # a header that announces more than 2^30 pixels
        image = None
    if image is None:
        return _decode_with_pillow(content, name)
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _is_cut_jpeg(content):
    """Whether no end-of-image marker follows the last scan of a JPEG: not every OpenCV refuses to fill up the rest."""
    return content.startswith(b"\xff\xd8") and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")


def _decode_with_pillow(content, name):
    from PIL import Image, ImageOps, UnidentifiedImageError
    try:
        with strict_pillow(), Image.open(io.BytesIO(content)) as image:
            image = ImageOps.exif_transpose(image)
            return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except UnidentifiedImageError:
        raise FileError(f"{name} is not an image: remove it, or use --skip-bad") from None
    except Exception as error:  # Pillow's decoders raise many kinds on damaged bytes; all mean the same here
        raise FileError(f"{name} is damaged ({error}): restore it, remove it, or use --skip-bad") from None


@contextlib.contextmanager
def strict_pillow():
    """Have cut images refused in the block: a switch of the whole process, on since GluonCV's import, fills them up."""
    from PIL import ImageFile
    with _pillow:
        before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
