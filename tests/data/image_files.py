"""Small images and image files for the tests of mxelm.data."""
import io

import cv2
import numpy as np
from PIL import Image


def picture(height=30, width=40, seed=0):
    """A smooth random RGB image, uint8 (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(image, form="PNG", **options):
    """Bytes of an array or a Pillow image in one of Pillow's formats."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def class_folders(root, counts, form="PNG", size=(12, 12)):
    """Write folders of distinct images, `counts` a dict of class -> number; return `root`."""
    seed = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            seed += 1
            (root / name / f"image_{i}.{form.lower()}").write_bytes(encoded(picture(*size, seed), form))
    return root
