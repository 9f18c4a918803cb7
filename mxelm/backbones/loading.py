"""`load`: from a checkpoint's prefix, or the name of known weights, to a Backbone."""
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mxelm.backbones import stored
from mxelm.backbones.backbone import Backbone
from mxelm.backbones.checkpoint import classes_of, preprocessing_of, unpacked
from mxelm.backbones.images_in import images_in
from mxelm.download import search_folders
from mxelm.errors import FileError, InputError

if TYPE_CHECKING:
    from mxelm.preprocessing import Preprocessing
    from mxelm.runtime import mx

SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"


def load(prefix: str | os.PathLike, *, epoch: int | None = None, cut: str | None = "flatten_output",
         preprocessing: Preprocessing | None = None, ctx: str | mx.Context = "cpu",
         pooling_convention: Literal["valid", "full"] | None = None) -> Backbone:
    """Load a checkpoint as a Backbone.

    prefix: path without -symbol.json and -NNNN.params, or a name: of what ships with mxelm ("inception_small"), or of
    weights in a folder weights/ of one of MXELM_DATA's folders or of the cache ("efficientnet_lite0_224").
    epoch: int, the NNNN; None takes what PREFIX.json lists, else the highest. cut: name of the features' output.
    preprocessing: mxelm.preprocessing.Preprocessing; None takes what PREFIX.json says.
    pooling_convention: "valid" or "full" for poolings of old networks that do not say; None finds out.
    Raises FileError (missing or damaged files) and InputError (parameters that do not fit, unknown cut).
    """
    place = {"prefix": os.path.abspath(prefix) if stored.exists(Path(prefix)) else os.fspath(prefix), "epoch": epoch}
    prefix = resolve(prefix)
    shape = preprocessing.shape if preprocessing is not None else None
    found = stored.read(prefix, epoch)
    symbol, arg_params, aux_params, sidecar = unpacked(found, input_shape=shape,
                                                       pooling_convention=pooling_convention, cut=cut)
    if preprocessing is None:
        if "input_shape" not in sidecar:
            raise InputError(f"there is no {prefix}.json that tells the network's preprocessing: write that file, or "
                             "give preprocessing=Preprocessing(size, ...) (--preprocessing JSON)")
        preprocessing = preprocessing_of(found._replace(sidecar=sidecar))
    symbol = images_in(symbol, arg_params, preprocessing.shape, prefix)
    made = Backbone(Path(prefix).name, symbol, arg_params, aux_params, preprocessing, cut=cut,
                    classes=classes_of(found._replace(sidecar=sidecar)), source=sidecar, ctx=ctx)
    made.place = place
    if cut is None and made.classes is not None and len(made.classes) != made.n_features:
        raise InputError(f"{prefix}.json names {len(made.classes)} classes, the network has {made.n_features} outputs: "
                         "it is damaged or of another network")
    return made


def resolve(prefix: str | os.PathLike) -> str:
    """The path prefix of a checkpoint given by path or by name; FileError lists the folders looked in."""
    prefix = os.fspath(prefix)
    looked = [SHIPPED, *(folder / "weights" for folder in search_folders())]
    for candidate in (Path(prefix), *(folder / prefix for folder in looked)):
        if stored.exists(candidate):
            return str(candidate)
    if os.path.isfile(prefix):
        raise FileError(f"{prefix} is a file and no prefix of a checkpoint: `mxelm info {prefix}` tells what it is")
    if os.sep in prefix or os.path.isfile(f"{prefix}-symbol.json"):
        stored.params_path(prefix)  # says what is missing
    raise FileError(f"there is no checkpoint {prefix}, neither as a path nor by that name in "
                    f"{', '.join(str(folder) for folder in looked)}; `mxelm fetch` lists what can be fetched")


load_backbone = load  # its name at the package's top level, where `load` alone would not say what
