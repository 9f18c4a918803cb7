"""`load`: from a checkpoint's prefix, or the name of known weights, to a Backbone."""
import os
from pathlib import Path

from mxelm.backbones.backbone import Backbone
from mxelm.backbones.checkpoint import find_params, load_checkpoint, preprocessing_of
from mxelm.download import search_folders
from mxelm.errors import FileError, InputError

SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"


def load(prefix, epoch=None, cut="flatten_output", preprocessing=None, ctx="cpu", pooling_convention=None):
    """Load a checkpoint as a Backbone.

    prefix: path without -symbol.json and -NNNN.params, or a name: of what ships with mxelm ("inception_small"), or of
    weights in a folder weights/ of one of MXELM_DATA's folders or of the cache ("efficientnet_lite0_224").
    epoch: int, the NNNN; None takes the highest there is. cut: name of the features' output.
    preprocessing: mxelm.preprocessing.Preprocessing; None takes what PREFIX.json says.
    pooling_convention: "valid" or "full" for poolings of old networks that do not say; None finds out.
    Raises FileError (missing or damaged files) and InputError (parameters that do not fit, unknown cut).
    """
    prefix = resolve(prefix)
    shape = preprocessing.shape if preprocessing is not None else None
    symbol, arg_params, aux_params, sidecar = load_checkpoint(prefix, epoch, shape, pooling_convention)
    if preprocessing is None:
        if "input_shape" not in sidecar:
            raise InputError(f"there is no {prefix}.json that tells the network's preprocessing: write that file, or "
                             "give preprocessing=Preprocessing(size, ...) (--preprocessing JSON)")
        preprocessing = preprocessing_of(prefix, sidecar)
    return Backbone(Path(prefix).name, symbol, arg_params, aux_params, preprocessing, cut,
                    read_classes(prefix, sidecar), sidecar, ctx)


def resolve(prefix):
    """The path prefix of a checkpoint given by path or by name; FileError lists the folders looked in."""
    prefix = os.fspath(prefix)
    looked = [SHIPPED, *(folder / "weights" for folder in search_folders())]
    for candidate in (Path(prefix), *(folder / prefix for folder in looked)):
        if _present(candidate):
            return str(candidate)
    if os.path.isfile(prefix):
        raise FileError(f"{prefix} is a file and no prefix of a checkpoint: `mxelm info {prefix}` tells what it is")
    if os.sep in prefix:
        find_params(prefix)  # says what is missing
    raise FileError(f"there is no checkpoint {prefix}, neither as a path nor by that name in "
                    f"{', '.join(str(folder) for folder in looked)}; `mxelm fetch` lists what can be fetched")


def _present(prefix):
    try:
        find_params(prefix)
    except FileError:
        return False
    return True


def read_classes(prefix, sidecar):
    """Class names of a checkpoint: its sidecar's list, or the lines of the file beside it that the sidecar names."""
    classes = sidecar.get("classes")
    if classes is None and "classes_file" in sidecar:
        path = Path(prefix).parent / sidecar["classes_file"]
        try:
            classes = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"cannot read the class names in {path}: {error}") from None
    if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise FileError(f"{prefix}.json: classes must be a list of names")
    return classes
