"""Accumulation on several workers, whose sums meet in MXNet's own engine: kvstore 'dist_sync' (ps-lite).

Each worker streams its shard and pushes its sums once, at the end; the servers add them; worker 1 pulls the totals.
The kvstore rounds float64 to float32, but adds whole numbers up to 2**24 exactly, which is what `exact_sums` makes of
every number. Reading order: `exact_sums`, then `work` and `add_up` (a worker), then `launch` (who starts them all).
"""
from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mxelm import backbones, data
from mxelm.errors import InputError, MxelmError
from mxelm.files import remove_leftovers
from mxelm.fused.exact_sums import exponent, joined, slice_bits, slices
from mxelm.fused.passes import accumulate
from mxelm.fused.projection import Projection
from mxelm.fused.state import ELMState, sorted_digests
from mxelm.preprocessing import Preprocessing
from mxelm.processes import Child, watch
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.backbones.backbone import Backbone
    from mxelm.data.dataset import Dataset

_LOWEST, _HIGHEST = -1073, 1024  # binary exponents of float64, as frexp counts them
LOOPBACK = "127.0.0.1"


class Exchange:
    """The kvstore as a worker sees it: arrays of whole numbers in, their sums over all workers out.

    Every worker puts the same names in the same order; the DMLC_ variables say who takes part.
    """

    def __init__(self) -> None:
        self._store = mx.kv.create("dist_sync")
        self.workers = self._store.num_workers
        self._shapes = {}

    def put(self, name: str, numbers: np.ndarray) -> None:
        """Add whole numbers, float32 of any shape, to what the servers hold under `name`."""
        self._shapes[name] = numbers.shape
        # a pull without an optimizer gives the sum of one round, and no code is pickled to the servers
        self._store.init(name, mx.nd.zeros(numbers.shape))
        self._store.push(name, mx.nd.array(numbers))

    def get(self, name: str) -> np.ndarray:
        """The sum of what all workers have put under `name`; waits for the last of them."""
        total = mx.nd.empty(self._shapes[name])
        self._store.pull(name, out=total)
        return total.asnumpy()

    def require_same(self, text: str, what: str) -> None:
        """InputError, on every worker, where `text` differs between them."""
        mine = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8).astype(np.float32)
        self.put(what, mine)
        if (self.get(what) != self.workers * mine).any():
            raise InputError(f"the workers do not have the same {what}: give all of them the same files")

    def highest(self, name: str, exponents: Sequence[int | None]) -> list[int]:
        """The highest exponent of all workers for each place of a list of exponents; 0 where all have None."""
        marks = np.zeros((len(exponents), _HIGHEST - _LOWEST + 1), np.float32)
        for place, e in enumerate(exponents):
            if e is not None:
                marks[place, e - _LOWEST] = 1
        self.put(name, marks)
        return [int(np.flatnonzero(row)[-1]) + _LOWEST if row.any() else 0 for row in self.get(name)]


def accumulate_shard(exchange: Exchange, backbone: Backbone, dataset: Dataset, projection: Projection, *,
                     i: int, folder: str | os.PathLike, **options: Any) -> tuple[ELMState, list]:
    """(state, skipped) of shard i (from 1) of `dataset`, kept in `folder`; returned at once where it is there.

    options: of `accumulate`.
    Raises InputError, before the pass, where the workers' data sets, backbones or projections differ, and where
    there are fewer samples than workers.
    """
    if len(dataset) < exchange.workers:
        raise InputError(f"{dataset.name} has {len(dataset)} images: too few for {exchange.workers} workers")
    belongs = [backbone.digest, backbone.cut, backbone.preprocessing.to_json(), projection.to_json(), dataset.kind,
               dataset.classes, dataset.ids, hashlib.sha256(dataset.targets.tobytes()).hexdigest()]
    exchange.require_same(json.dumps(belongs), "data set, backbone and W")
    shard = dataset.shard(i, exchange.workers)
    return accumulate(backbone, shard, projection, save=shard_path(folder, i, exchange.workers), resume=True, **options)


def shard_path(folder: str | os.PathLike, i: int, workers: int) -> Path:
    """Where worker i keeps the state of its shard."""
    return Path(folder) / f"shard-{i}-of-{workers}.state"


def add_up(exchange: Exchange, state: ELMState, i: int, n_samples: int) -> ELMState | None:
    """The state of all shards on worker 1, None on the others; called once on each worker, with its own state.

    n_samples: of the whole data set, so that each worker has its own place in the ledger of samples.
    Raises InputError where shards share samples or sums are not finite.
    """
    lower = np.tri(len(state.HtH), dtype=bool)
    mine = {"HtH": state.HtH[lower], "HtY": state.HtY, "yty": np.array([state.yty]),
            "n_samples": np.array([float(state.n_samples)])}
    scales = exchange.highest("exponents", [exponent(values) for values in mine.values()])
    scales = dict(zip(mine, scales))
    for name, values in mine.items():
        for k, part in enumerate(slices(values, scales[name], exchange.workers)):
            exchange.put(f"{name}.{k}", part)
    ledger = np.zeros((n_samples, 8), np.float32)  # 16 bytes a sample, two in each number
    ledger[i - 1::exchange.workers][:len(state.samples)] = np.ascontiguousarray(state.samples).view(np.uint16)
    exchange.put("samples", ledger)
    if i != 1:
        return None
    return _total(exchange, {name: _pulled(exchange, name, scales[name]) for name in mine}, lower, state.origin)


def _pulled(exchange, name, scale):
    _, count = slice_bits(exchange.workers)
    return joined((exchange.get(f"{name}.{k}") for k in reversed(range(count))), scale, exchange.workers)


def _total(exchange, sums, lower, origin):
    ledger = exchange.get("samples")
    samples = sorted_digests(ledger[ledger.any(axis=1)].astype(np.uint16).view(np.uint8))
    n_samples = int(sums["n_samples"][0])
    if len(samples) != n_samples:
        raise InputError(f"the shards hold {n_samples} samples and name {len(samples)}: remove the work folder")
    HtH = np.zeros(lower.shape)
    HtH[lower] = sums["HtH"]
    HtH += np.tril(HtH, -1).T
    return ELMState(HtH, sums["HtY"], n_samples, float(sums["yty"][0]), origin, samples)


def work(job: dict) -> None:
    """A worker's part; an error ends this process at once, since MXNet's orderly end waits for the other workers.

    job: dict of "shard", number from 1; "data" and "backbone", arguments of `data.load` and `backbones.load` (of the
    latter "preprocessing" as JSON); "projection", JSON; "options" of `accumulate`; "folder" of shards; "out", path of
    the state of all. Reports go to stdout, a JSON line when connected and one when the shard is finished.
    """
    try:
        _work(job)
    except MxelmError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _work(job):
    i, exchange = job["shard"], Exchange()
    print(json.dumps({"connected": i}), flush=True)
    given = job["backbone"].pop("preprocessing")
    preprocessing = None if given is None else Preprocessing.from_json(given)
    dataset, backbone = data.load(**job["data"]), backbones.load(**job["backbone"], preprocessing=preprocessing)
    state, skipped = accumulate_shard(exchange, backbone, dataset, Projection.from_json(job["projection"]), i=i,
                                      folder=job["folder"], **job["options"])
    print(json.dumps({"n_samples": state.n_samples, "skipped": skipped}), flush=True)
    total = add_up(exchange, state, i, len(dataset))
    if total is not None:
        total.save(job["out"])


def launch(job: dict, folder: str | os.PathLike, workers: int, *, servers: int = 1, hosts: Sequence[str] = (),
           address: str = LOOPBACK, timeout: float | None = None) -> list[dict]:
    """Start a scheduler, servers and workers, watch them to the end, and return each worker's last report.

    job: what `work` takes, but for "shard" and "folder". folder: where shards are kept.
    hosts: machines, reached by ssh, that the workers but the first take turns on.
    address: of this machine, as the others reach it. timeout: seconds for the whole job, None for no limit.
    Raises MxelmError, with every child ended, as soon as one fails, and when time is over.
    """
    on_machine = -(-(workers - 1) // len(hosts)) if hosts else workers
    common = _environment(workers, servers, address, max(1, on_machine))
    here = {**common, "DMLC_NODE_HOST": address}
    serving = {"module": "mxelm.runtime", "function": "mx"}  # scheduler and servers run inside the import of MXNet
    children, working = [], []
    try:
        for name, role in [("scheduler", "scheduler"), *((f"server {i}", "server") for i in range(1, servers + 1))]:
            children.append(Child(name, {**serving, "environment": {**here, "DMLC_ROLE": role}}))
        for i in range(1, workers + 1):
            host = hosts[(i - 2) % len(hosts)] if hosts and i > 1 else None
            own = {**job, "module": "mxelm.fused.distributed", "function": "work", "shard": i, "folder": str(folder),
                   "environment": {**(common if host else here), "DMLC_ROLE": "worker"}}
            working.append(Child(f"worker {i}", own, host))
            children.append(working[-1])
        watch(children, working, timeout)
        return [child.reports()[-1] for child in working]
    except MxelmError as error:
        raise MxelmError(f"{error}; finished parts are in {folder}, and the same command goes on from them") from None
    finally:
        for child in children:
            child.stop()
        for i in range(1, workers + 1):
            remove_leftovers(shard_path(folder, i, workers))


def _environment(workers, servers, address, on_machine):
    """What MXNet reads on every machine; as many threads for each of `on_machine` workers as keep to the cores."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise MxelmError(f"{address} cannot be used: {error.strerror}; give an address of this machine") from None
        port = probe.getsockname()[1]
    threads = max(1, len(os.sched_getaffinity(0)) // on_machine)
    return {"DMLC_PS_ROOT_URI": address, "DMLC_PS_ROOT_PORT": str(port), "DMLC_NUM_WORKER": str(workers),
            "DMLC_NUM_SERVER": str(servers), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
