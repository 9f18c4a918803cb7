"""A cascade as files: M ordinary MXNet checkpoints, and one JSON with the thresholds and the classes.

DIR/cascade.json lists the segments; each is a checkpoint DIR/segment-1-symbol.json, -0000.params, whose first output is
the scores of its exit; the outputs behind it are what later segments are fed with, by the names that the JSON gives. A
cascade that replaces another has segments of other names, so that the JSON's move into place decides for all of them.
"""
from __future__ import annotations

import os
import re
from pathlib import Path
from string import ascii_lowercase
from typing import Literal

import numpy as np

from mxelm.backbones import Backbone, load_checkpoint, save_checkpoint
from mxelm.chain import Chain
from mxelm.containers import understood
from mxelm.early_exit.cascade import Cascade
from mxelm.early_exit.features import features_at
from mxelm.early_exit.heads import Linear
from mxelm.errors import FileError, InputError
from mxelm.files import (
    atomic_write,
    exclusive,
    make_folder,
    parse_json,
    read_bytes,
    remove_leftovers,
    require_writable,
    sha256,
)
from mxelm.graphs import Segment, cut, fusible, joined
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx
from mxelm.schemas import check
from mxelm.seals import UNSEALED, seal_of, sealed

KIND, VERSION = "cascade", 1
_SEGMENT = re.compile(  # a segment's file, or what a killed writer of one has left
    r"\.?(segment-(?:[a-z]-)?)\d+(?:\.json|-symbol\.json|-\d{4}\.params)(?:\.part-\w+\.\w+|\.lock)?")
_LOWEST = -1.7976931348623157e308  # JSON has no infinity; everybody leaves


def require_place(folder: str | os.PathLike) -> None:
    """Raise FileError, before hours of work, where `save` would write among other files, or could not write at all."""
    folder = Path(folder)
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise FileError(f"cannot write a cascade to {folder}: {nearest} is a file; name a folder")
    there = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in there  # what a killed save has left is none
              if not (name.startswith(("cascade.json", ".cascade.json")) or _SEGMENT.fullmatch(name))]
    if others and "cascade.json" not in there:
        raise FileError(f"{folder} holds other files ({', '.join(others[:3])}): name the cascade a folder of its own")
    require_writable(nearest / "cascade.json")


def save(cascade: Cascade, folder: str | os.PathLike) -> None:
    """Write a cascade of linear classifiers into a folder, or replace the one that is there as a whole.

    Raises InputError for a classifier that is not linear, FileError where nothing can be written or other files are.
    """
    require_place(folder)
    chain = cascade.chain
    for exit, head in zip(chain.exits, cascade.heads):
        if not isinstance(head, Linear):
            kind = type(getattr(head, "estimator", head)).__name__
            raise InputError(f"the classifier at {exit} is a {kind}: only linear ones can be saved as layers")
    path = make_folder(folder) / "cascade.json"
    with exclusive(path, wait=True):
        remove_leftovers(path)
        others = _segment_files(path.parent)  # they may belong to the cascade that is there
        try:
            content = {"kind": KIND, "version": VERSION, "network": chain.backbone.name,
                       "confidence": cascade.confidence, "classes": cascade.classes,
                       **chain.backbone.preprocessing.to_json(),
                       "segments": _save_segments(cascade, path.parent, _free_stem(others)), "sha256": UNSEALED}
            with atomic_write(path) as temporary:
                temporary.write_bytes(sealed(content))
        except BaseException:
            others = [file for file in _segment_files(path.parent) if file not in others]
            raise
        finally:
            for file in others:
                file.unlink(missing_ok=True)


def _segment_files(folder):
    return [file for file in folder.iterdir() if _SEGMENT.fullmatch(file.name)]


def _free_stem(files):
    """A beginning of names that none of these files has."""
    stems = ("segment-", *(f"segment-{letter}-" for letter in ascii_lowercase))
    taken = {_SEGMENT.fullmatch(file.name)[1] for file in files}
    return next(stem for stem in stems if stem not in taken)


def _save_segments(cascade, folder, stem):
    """Write the segments; what the JSON says of each."""
    chain, listed = cascade.chain, []
    arrays, aux = chain.backbone.feature_params()
    for number, (segment, head) in enumerate(zip(chain.segments, cascade.heads), 1):
        name, last = f"{stem}{number}", number == len(chain.segments)
        symbol = fusible(_with_scores(segment, head, f"exit{number}", last))  # bare MXNet binds it as it is
        own = {**arrays, f"exit{number}_weight": head.W, f"exit{number}_bias": head.b}
        save_checkpoint(folder / name, symbol,
                        {key: own[key] for key in symbol.list_arguments() if key not in segment.inputs},
                        {key: aux[key] for key in symbol.list_auxiliary_states()}, {"part of": KIND})
        listed.append({"checkpoint": name, "exit": segment.exit, "inputs": list(segment.inputs),
                       "outputs": ["scores", *(() if last else segment.outputs)],
                       "threshold": None if last else _as_json(cascade.thresholds[number - 1]),
                       "probabilities": head.probabilities, "sha256": _digest(folder / name)})
    return listed


def load(folder: str | os.PathLike, *, ctx: str = "cpu", interface: Literal["symbol", "gluon"] = "symbol") -> Cascade:
    """Read what `save` wrote: a Cascade that answers the same.

    Raises FileError for a folder that holds no cascade, or files that are damaged or of another network.
    """
    path = Path(folder) / "cascade.json"
    while True:
        text = read_bytes(path)
        try:
            return _read(path, text, ctx, interface)
        except FileError:
            if read_bytes(path) == text:  # else another process has just replaced it
                raise


def _read(path, text, ctx, interface):
    content = parse_json(text, path)
    check(KIND, content, path)
    if content["version"] > VERSION:
        raise FileError(f"{path} was written by a newer mxelm: update mxelm")
    if "sha256" in content and seal_of(text, content["sha256"]) != content["sha256"]:
        raise FileError(f"{path} is damaged or was changed by an editor: it has not its own SHA-256; restore it, or "
                        "take its sha256 out, and it counts as it is")
    parts, heads, arrays, aux = [], [], {}, {}
    with understood(path):
        for number, entry in enumerate(content["segments"], 1):
            part, head = _read_segment(path.parent, entry, f"exit{number}", arrays, aux)
            parts.append(part)
            heads.append(head)
        thresholds = [_from_json(entry["threshold"]) for entry in content["segments"]]
        backbone = Backbone(content["network"], joined(parts), arrays, aux, Preprocessing.from_json(content), cut=None,
                            ctx=ctx)
        chain = Chain(backbone, [entry["exit"] for entry in content["segments"][:-1]], interface=interface)
        for (_, maps), head in zip(chain.run(np.zeros((1, *backbone.preprocessing.shape), np.float32)), heads):
            if head(features_at(maps)).shape != (1, len(content["classes"])):
                raise ValueError("its classes are not those of its segments")
        return Cascade(chain, heads, thresholds, content["classes"], confidence=content["confidence"])


def _with_scores(segment, head, name, last):
    """A segment's Symbol with the head's layers: outputs are the scores and, but for the last, the segment's own."""
    maps = segment.symbol[0]
    x = maps if last else mx.sym.flatten(mx.sym.Pooling(maps, global_pool=True, pool_type="avg", kernel=(1, 1)))
    x = mx.sym.L2Normalization(x, mode="instance", name=f"{name}_features")
    x = mx.sym.FullyConnected(x, num_hidden=len(head.b), name=name)
    scores = mx.sym.softmax(x, name=f"{name}_probabilities") if head.probabilities else x
    return scores if last else mx.sym.Group([scores, mx.sym.BlockGrad(maps), *list(segment.symbol)[1:]])


def _read_segment(folder, entry, name, arrays, aux):
    """A Segment without its head, and the head; the parameters go into `arrays` and `aux`."""
    prefix = folder / entry["checkpoint"]
    for ending in ("symbol.json", "0000.params"):
        if not Path(f"{prefix}-{ending}").is_file():
            raise FileError(f"{prefix}-{ending} is missing from the cascade: restore it, or fit the cascade anew")
    symbol, found, found_aux, _ = load_checkpoint(prefix)
    if entry["sha256"] != _digest(prefix):
        raise FileError(f"{prefix} is not the checkpoint that {folder / 'cascade.json'} was written with: restore it")
    head = Linear(found.pop(f"{name}_weight").asnumpy(), found.pop(f"{name}_bias").asnumpy(), entry["probabilities"])
    arrays.update(found)
    aux.update(found_aux)
    outputs = [cut(symbol, entry["exit"]), *list(symbol)[2:]]
    return Segment(mx.sym.Group(outputs), tuple(entry["inputs"]), entry["exit"], tuple(entry["outputs"][2:])), head


def _digest(prefix):
    return {suffix: sha256(f"{prefix}-{suffix}") for suffix in ("symbol.json", "0000.params")}


def _as_json(threshold):
    return None if threshold == np.inf else max(float(threshold), _LOWEST)


def _from_json(threshold):
    return np.inf if threshold is None else float(threshold)
