"""The cache: what chosen layers say of every image of a set, kept in one file that is written as the pass goes.

A row is an image: its place in the set, label, id, a digest of its content, and for each layer the descriptor
V = (mu_0, sigma_0, mu_1, ...) or the maps themselves. Source: Anand et al., "Visualizing and caching feature maps".
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from mxelm.backbones import Backbone
from mxelm.chain import Chain
from mxelm.containers import require_same
from mxelm.data import Dataset
from mxelm.errors import FileError, InputError
from mxelm.feature_maps.layers import chain_of, require_finite
from mxelm.interrupts import Interrupted, held_back
from mxelm.pooling import mean_and_deviation
from mxelm.row_files import RowFile, RowWriter

KIND = "map-cache"
CONTENTS = {"descriptors": mean_and_deviation, "maps": lambda maps: maps.asnumpy()}
BELONGING = ("network", "preprocessing", "content", "classes")  # what parts of one cache have in common


@dataclass(frozen=True, eq=False)
class Cache:
    """Descriptors of a set of images, in memory.

    identity: dict, what they belong to: network, preprocessing, classes, samples. descriptors: dict of layer ->
    float32 (n, 2 channels). labels: int64 (n,), numbers of `identity["classes"]`. ids: list of str, the images' names.
    """

    identity: dict
    descriptors: dict
    labels: np.ndarray
    ids: list

    def __repr__(self) -> str:
        sizes = ", ".join(f"{layer} {rows.shape[1]}" for layer, rows in self.descriptors.items())
        return f"<Cache of {len(self.labels)} images: {sizes}>"

    @property
    def classes(self) -> list:
        return self.identity["classes"]

    @classmethod
    def of(cls, backbone: Backbone, dataset: Dataset, layers: Sequence[str], *, batch: int = 32,
           progress: bool = False) -> Cache:
        """The cache of a set that is small enough to need no file."""
        chain = chain_of(backbone, layers)
        blocks = list(described(chain, dataset, batch=batch, progress=progress))
        index = np.concatenate([index for _, index in blocks])
        descriptors = {layer: np.concatenate([rows[layer] for rows, _ in blocks]) for layer in chain.exits[:-1]}
        ids = dataset.ids
        return cls(_identity(chain, dataset, "descriptors"), descriptors, dataset.targets[index],
                   [ids[i] for i in index])

    @classmethod
    def load(cls, path: str | os.PathLike) -> Cache:
        """Read a finished file of `write` or `merge`; of kept maps the descriptors are computed, block by block."""
        with RowFile(path, KIND) as file:
            identity, layers = file.identity, list(file.identity["network"])
            describe = mean_and_deviation if identity["content"] == "maps" else lambda rows: rows
            n, done = len(file), 0
            descriptors, labels, ids = {}, np.empty(n, np.int64), []
            for block in file.blocks("label", "id", *layers):
                part = slice(done, done := done + len(block["label"]))
                labels[part] = block["label"]
                ids += [name.decode() for name in block["id"].tolist()]
                for layer in layers:
                    rows = describe(block[layer])
                    descriptors.setdefault(layer, np.empty((n, rows.shape[1]), np.float32))[part] = rows
        return cls(identity, descriptors, labels, ids)

    def require_network(self, chain: Chain, name: str = "the cache") -> None:
        """FileError unless it was made with the preprocessing of `chain` and holds its layers, of this very network."""
        remedy = "give the network that made it, or make it anew"
        require_same(self.identity, {"preprocessing": chain.backbone.preprocessing.to_json()}, name, remedy=remedy)
        require_same(self.identity["network"], network_identity(chain), name, remedy=remedy)


def described(chain: Chain, dataset: Dataset, *, content: Literal["descriptors", "maps"] = "descriptors",
              batch: int = 32, skip_bad: bool = False, start: int = 0,
              progress: bool = False) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Yield (dict of layer -> rows (b, ...), index int64 (b,) of the dataset) from sample `start` on.

    Raises InputError where maps are not finite, with the image's name.
    """
    ids, make = dataset.ids, CONTENTS[content]
    batches = dataset.module_iter(batch, chain.backbone.preprocessing, skip_bad=skip_bad, start=start, labels=False)
    with tqdm(total=len(dataset), initial=start, desc="maps", unit="image", disable=not progress) as bar:
        for part in batches:
            rows = {}
            for layer, maps in chain.run(part.data[0]):
                if len(rows) == len(chain.exits) - 1:
                    break  # nothing is asked of the layers beyond
                rows[layer] = np.array(make(maps), np.float32)
                require_finite(rows[layer], layer, [ids[i] for i in part.index])
            yield rows, part.index
            bar.update(len(part.index))


def write(backbone: Backbone, dataset: Dataset, layers: Sequence[str], path: str | os.PathLike,
          *, content: Literal["descriptors", "maps"] = "descriptors", batch: int = 32, skip_bad: bool = False,
          resume: bool = False, made_from: dict | None = None, progress: bool = False) -> int:
    """Cache `dataset` in the file `path`, which grows as the pass goes; the number of rows.

    content: "descriptors", or "maps" to keep the maps themselves. resume: go on from the file that is there.
    made_from: JSON-able dict that the file keeps, for people and `mxelm maps similar`.
    Raises FileError for a file of another network, preprocessing, layers or samples; InputError for maps that are not
    finite; Interrupted, after a whole batch, on Ctrl-C or SIGTERM.
    """
    if dataset.kind != "classes":
        raise InputError(f"a cache keeps a class with every image; {dataset.name} has {dataset.kind} targets")
    chain = chain_of(backbone, layers)
    identity = {**_identity(chain, dataset, content), "made_from": made_from or {}}
    with held_back() as signals, RowWriter(path, KIND, identity, _columns(chain, dataset, content),
                                           resume=resume) as writer:
        if not writer.finished:
            start = 0 if writer.last is None else int(writer.last["place"]) + 1
            for rows, index in described(chain, dataset, content=content, batch=batch, skip_bad=skip_bad, start=start,
                                         progress=progress):
                part = dataset.take(index)
                writer.append(place=index, label=part.targets, sample=part.digests(),
                              id=np.array([name.encode() for name in part.ids], f"S{_id_bytes(dataset)}"), **rows)
                if signals:
                    raise Interrupted(signals[0], f"{path} keeps {writer.n_rows} of {len(dataset)} images: go on with "
                                                  "resume (--resume)")
            writer.finish()
        return writer.n_rows


def bytes_of(backbone: Backbone, dataset: Dataset, layers: Sequence[str],
             *, content: Literal["descriptors", "maps"] = "descriptors") -> int:
    """What `write` will take on disk for all images, but for a few hundred bytes a batch."""
    columns = _columns(chain_of(backbone, layers), dataset, content)
    return len(dataset) * sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in columns.values())


def merge(paths: Sequence[str | os.PathLike], path: str | os.PathLike) -> int:
    """Join caches of disjoint samples, of one network and its layers, into a new file; the number of rows.

    Raises InputError for caches that do not belong together or share samples.
    """
    if not paths:
        raise InputError("give at least one cache")
    if Path(path).exists():
        raise FileError(f"{path} exists: name another file for the joined cache, or remove it")
    with contextlib.ExitStack() as stack:
        parts = [stack.enter_context(RowFile(part, KIND)) for part in paths]
        first, seen = parts[0], set()
        width = max(np.dtype(part.columns["id"][0]).itemsize for part in parts)
        for part in parts[1:]:
            require_same(part.identity, {name: first.identity[name] for name in BELONGING}, part.path,
                         remedy="merge caches of one network, preprocessing and set of classes")
            if _spectrum(part) != _spectrum(first):
                raise InputError(f"{part.path} is of the spectrum {_spectrum(part)}, and {first.path} of "
                                 f"{_spectrum(first)}: merge caches of one")
        identity = {**first.identity, "parts": [{name: part.identity[name] for name in ("dataset", "samples", "of")}
                                                for part in parts]}
        writer = stack.enter_context(RowWriter(path, KIND, identity, {**first.columns, "id": (f"S{width}", ())}))
        stack.callback(lambda: writer.finished or Path(path).unlink())
        for part in parts:
            for block in part.blocks():
                samples = {sample.tobytes() for sample in block["sample"]}
                if seen & samples:
                    raise InputError(f"{part.path} shares samples with a cache before it, which would be kept twice: "
                                     "leave it out, or cache disjoint images (--shard)")
                seen |= samples
                writer.append(**{**block, "id": block["id"].astype(f"S{width}")})
        writer.finish()
        return writer.n_rows


def _spectrum(file):
    """What a cache of sounds has looked at, as far as it tells."""
    return ((file.identity.get("made_from") or {}).get("data") or {}).get("spectrum", "mel")


def network_identity(chain: Chain) -> dict:
    """SHA-256 of the graph and of the parameters up to each layer: what maps are a function of, and nothing beyond."""
    whole = chain.backbone
    return {layer: Backbone(whole.name, whole.features, *whole.feature_params(), whole.preprocessing, cut=layer,
                            ctx=whole.ctx).digest for layer in chain.exits[:-1]}


def _identity(chain, dataset, content):
    return {"network": network_identity(chain), "preprocessing": chain.backbone.preprocessing.to_json(),
            "content": content, "classes": dataset.classes, **dataset.identity}


def _columns(chain, dataset, content):
    """Columns of the file; the shapes of rows are those of one black image."""
    black = np.zeros((1, *chain.backbone.preprocessing.shape), np.float32)
    layers = {layer: ("float32", CONTENTS[content](maps).shape[1:]) for layer, maps in chain.run(black)
              if layer != chain.exits[-1]}
    return {"place": ("int64", ()), "label": ("int64", ()), "sample": ("uint8", (16,)),
            "id": (f"S{_id_bytes(dataset)}", ()), **layers}


def _id_bytes(dataset):
    """Of the longest id of the whole source, so that shards of it have the same columns."""
    return max(len(name.encode()) for name in dataset.source.ids)

