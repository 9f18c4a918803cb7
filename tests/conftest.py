"""Small networks and data sets for every test, and the way to real data."""
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many workers as cores: teams of threads would fight over them
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

settings.register_profile("mxelm", deadline=None)  # a busy machine is no fault of the code's
settings.load_profile("mxelm")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts background jobs so, and their children would inherit it: tests interrupt children of theirs
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data():
    """A function from a name below a data folder to its path; skips the test where no folder of MXELM_DATA has it."""
    folders = [Path(folder) for folder in os.environ.get("MXELM_DATA", "").split(os.pathsep) if folder]

    def find(name):
        for folder in folders:
            if (folder / name).exists():
                return folder / name
        pytest.skip(f"{name} is in none of MXELM_DATA's folders ({os.pathsep.join(map(str, folders)) or 'not set'})")

    return find


@pytest.fixture
def tiny_checkpoint(tmp_path):
    """Prefix of a small convolutional checkpoint with BatchNorms: 3x16x16 -> 8 features, 4 classes."""
    from tiny_network import tiny_params, tiny_symbol

    from mxelm.backbones.checkpoint import save_checkpoint
    from mxelm.preprocessing import Preprocessing
    symbol = tiny_symbol()
    sidecar = {**Preprocessing((16, 16), "stretch", mean=100.0, scale=0.02).to_json(), "features": "flatten_output",
               "classes": ["ant", "bee", "cat", "dog"]}
    prefix = tmp_path / "checkpoint" / "tiny"
    prefix.parent.mkdir()
    save_checkpoint(str(prefix), symbol, *tiny_params(symbol), sidecar)
    return str(prefix)


@pytest.fixture
def tiny_backbone(tiny_checkpoint):
    """The same as a Backbone."""
    from mxelm import backbones
    return backbones.load(tiny_checkpoint)


@pytest.fixture
def image_folder(tmp_path):
    """A folder of three class folders with 12 coloured noise images each, told apart by their mean colour."""
    import cv2
    rng = np.random.default_rng(5)
    for c, name in enumerate(("blue", "green", "red")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(12):
            image = rng.integers(0, 120, (20 + i, 24, 3))
            image[..., c] += 120
            cv2.imwrite(str(tmp_path / "images" / name / f"image_{i:02d}.png"), image.astype(np.uint8))
    return tmp_path / "images"
