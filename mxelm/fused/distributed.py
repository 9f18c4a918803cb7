"""Accumulation on several workers, whose sums meet in MXNet's own engine: kvstore 'dist_sync' (ps-lite).

Each worker streams its shard and pushes its sums once, at the end; the servers add them; worker 1 pulls the totals.
The kvstore rounds float64 to float32, but adds whole numbers up to 2**24 exactly. So every number is cut into slices
that are whole numbers, on a scale that all workers share. Sums of whole numbers do not depend on the order in which
workers come either: the result is the same bit for bit, whoever is first.
Reading order: `slices` and `joined`, then `add_up` (a worker), then `launch` (who starts and watches them all).
"""
import contextlib
import hashlib
import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mxelm.errors import InputError, MxelmError
from mxelm.files import remove_leftovers
from mxelm.fused.passes import accumulate
from mxelm.fused.state import ELMState, sorted_digests
from mxelm.runtime import mx

KEPT_BITS = 60  # of each number, counted from the highest bit of the largest number in its matrix
_LOWEST, _HIGHEST = -1073, 1024  # binary exponents of float64, as frexp counts them
CONNECT_SECONDS = 300.0  # for all workers to find each other
LOOPBACK = "127.0.0.1"

log = logging.getLogger(__name__)


def exponent(values):
    """The least e with all |values| < 2**e; None where all are zero. InputError where one is not finite."""
    if not np.isfinite(values).all():
        raise InputError("the sums of this shard hold NaN or infinity: check the network's weights and its images")
    largest = np.abs(values).max()
    return int(np.frexp(largest)[1]) if largest else None


def slice_bits(workers):
    """(bits of a slice, number of slices): as many of them added up stay below 2**24, with a bit to spare."""
    bits = 24 - (workers - 1).bit_length() - 1
    return bits, -(-KEPT_BITS // bits)


def slices(values, exponent, workers):
    """Yield float64 `values`, all below 2**exponent, as float32 arrays of whole numbers, the highest bits first.

    What is lost lies below 2**(exponent - KEPT_BITS - 1).
    """
    bits, count = slice_bits(workers)
    rest = np.ldexp(values, bits - exponent)
    for k in range(count):
        part = np.rint(rest) if k == count - 1 else np.trunc(rest)
        yield part.astype(np.float32)
        rest = np.ldexp(rest - part, bits)


def joined(sums, exponent, workers):
    """float64 numbers from the sums of all workers' slices; `sums` come as float32 arrays, the lowest bits first."""
    bits, _ = slice_bits(workers)
    total = 0.0
    for part in sums:
        total = np.ldexp(total + part.astype(np.float64), -bits)
    return np.ldexp(total, exponent)


class Exchange:
    """The kvstore as a worker sees it: arrays of whole numbers in, their sums over all workers out.

    Every worker puts the same names in the same order; the DMLC_ variables say who takes part.
    """

    def __init__(self):
        self._store = mx.kv.create("dist_sync")
        self.workers = self._store.num_workers
        self._shapes = {}

    def put(self, name, numbers):
        """Add whole numbers, float32 of any shape, to what the servers hold under `name`."""
        self._shapes[name] = numbers.shape
        # a pull without an optimizer gives the sum of one round, and no code is pickled to the servers
        self._store.init(name, mx.nd.zeros(numbers.shape))
        self._store.push(name, mx.nd.array(numbers))

    def get(self, name):
        """The sum of what all workers have put under `name`; waits for the last of them."""
        total = mx.nd.empty(self._shapes[name])
        self._store.pull(name, out=total)
        return total.asnumpy()

    def require_same(self, text, what):
        """InputError, on every worker, where `text` differs between them."""
        mine = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8).astype(np.float32)
        self.put(what, mine)
        if (self.get(what) != self.workers * mine).any():
            raise InputError(f"the workers do not have the same {what}: give all of them the same files")

    def highest(self, name, exponents):
        """The highest exponent of all workers for each place of a list of exponents; 0 where all have None."""
        marks = np.zeros((len(exponents), _HIGHEST - _LOWEST + 1), np.float32)
        for place, e in enumerate(exponents):
            if e is not None:
                marks[place, e - _LOWEST] = 1
        self.put(name, marks)
        return [int(np.flatnonzero(row)[-1]) + _LOWEST if row.any() else 0 for row in self.get(name)]


def accumulate_shard(exchange, backbone, dataset, projection, i, folder, method="blas", batch=32, skip_bad=False,
                     twin="symbol"):
    """(state, skipped) of shard i (from 1) of `dataset`, kept in `folder`; returned at once where it is there.

    Raises InputError, before the pass, where the workers' data sets, backbones or projections differ, and where
    there are fewer samples than workers.
    """
    if len(dataset) < exchange.workers:
        raise InputError(f"{dataset.name} has {len(dataset)} images: too few for {exchange.workers} workers")
    belongs = [backbone.digest, backbone.cut, backbone.preprocessing.to_json(), projection.to_json(), dataset.kind,
               dataset.classes, dataset.ids, hashlib.sha256(dataset.targets.tobytes()).hexdigest()]
    exchange.require_same(json.dumps(belongs), "data set, backbone and W")
    shard = dataset.shard(i, exchange.workers)
    return accumulate(backbone, shard, projection, method, batch, skip_bad,
                      save=shard_path(folder, i, exchange.workers), resume=True, twin=twin)


def shard_path(folder, i, workers):
    """Where worker i keeps the state of its shard."""
    return Path(folder) / f"shard-{i}-of-{workers}.state"


def add_up(exchange, state, i, n_samples):
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


# What a child runs. It reads its job from stdin, and when stdin ends, because whoever started it is gone, so does it.
# The roles of scheduler and server run inside the import of MXNet.
CHILD = """
import importlib, json, os, sys, threading
job = json.loads(sys.stdin.readline())
os.environ.update(job["environment"])
threading.Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start()
if os.environ["DMLC_ROLE"] == "worker":
    importlib.import_module(job["module"]).work(job)
else:
    importlib.import_module("mxelm.runtime").mx
"""


class Child:
    """A scheduler, server or worker in a process of its own, here or (by ssh) on another machine.

    name: what it is called in messages and in the list of processes. host: None for here.
    """

    def __init__(self, name, job, host=None):
        self.name, self.is_worker = name, name.startswith("worker")
        self._said, self._complained = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 `stop` closes
        command = [sys.executable, "-c", CHILD, name]
        if host is not None:
            command = ["ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "--", host,
                       f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(command)}"]
        # a session of its own: Ctrl-C reaches the one who watches, which then ends them all
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._said,
                                            stderr=self._complained, start_new_session=True)
        except OSError as error:
            raise MxelmError(f"{name} cannot be started: {command[0]}: {error.strerror}") from None
        with contextlib.suppress(BrokenPipeError):  # it is dead already, which its exit code will tell
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()

    def reports(self):
        """The JSON lines it has printed so far."""
        lines = _content(self._said).split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def failure(self):
        """How it ended, in words, or None while it runs or has ended well."""
        code = self.process.poll()
        if not code:
            return None
        complaint = _content(self._complained).decode(errors="replace")
        log.info("stderr of %s:\n%s", self.name, complaint)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = [line.strip() for line in complaint.splitlines() if line.strip() and "[bt]" not in line]
        return f"{self.name} {how}" + (f" ({last[-1]})" if last else "")

    def stop(self):
        """End it now, if it has not ended."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self._said.close()
        self._complained.close()


def launch(module, job, folder, workers, servers=1, hosts=(), address=LOOPBACK, timeout=None):
    """Start a scheduler, servers and workers, watch them to the end, and return each worker's last report.

    module: name of the module whose `work(job)` does a worker's part; it prints a JSON line when it is connected and
    one when its shard is finished. job: JSON-able dict, which every worker gets with "shard": its number from 1.
    folder: where shards are kept. hosts: machines, reached by ssh, that the workers but the first take turns on.
    address: of this machine, as the others reach it. timeout: seconds for the whole job, None for no limit.
    Raises MxelmError, with every child ended, as soon as one fails, and when time is over.
    """
    on_machine = -(-(workers - 1) // len(hosts)) if hosts else workers
    common = _environment(workers, servers, address, max(1, on_machine))
    children = []
    try:
        roles = [("scheduler", "scheduler", None)]
        roles += [(f"server {i}", "server", None) for i in range(1, servers + 1)]
        roles += [(f"worker {i}", "worker", hosts[(i - 2) % len(hosts)] if hosts and i > 1 else None)
                  for i in range(1, workers + 1)]
        for name, role, host in roles:
            own = {"DMLC_ROLE": role, **({} if host else {"DMLC_NODE_HOST": address})}
            children.append(Child(name, {**job, "module": module, "environment": {**common, **own},
                                         "shard": int(name.split()[-1]) if role == "worker" else None}, host))
        _watch(children, timeout)
        return [child.reports()[-1] for child in children if child.is_worker]
    except MxelmError as error:
        raise MxelmError(f"{error}; finished parts are in {folder}, and the same command goes on from them") from None
    finally:
        for child in children:
            child.stop()
        for i in range(1, workers + 1):
            remove_leftovers(shard_path(folder, i, workers))


def _watch(children, timeout):
    """Return when all workers have ended well; MxelmError when one child fails or time is over."""
    started, workers = time.monotonic(), [child for child in children if child.is_worker]
    while any(child.process.poll() is None for child in workers):
        failures = list(filter(None, (child.failure() for child in children)))
        if failures:
            raise MxelmError(failures[0])
        seconds = time.monotonic() - started
        missing = [child.name for child in workers if not child.reports()]
        if missing and seconds > CONNECT_SECONDS:
            raise MxelmError(f"{', '.join(missing)} did not connect within {CONNECT_SECONDS:g} s")
        if timeout is not None and seconds > timeout:
            late = [child.name for child in workers if len(child.reports()) < 2] or ["the exchange of sums"]
            raise MxelmError(f"after {timeout:g} s {', '.join(late)} had not finished")
        time.sleep(0.1)
    failures = list(filter(None, (child.failure() for child in workers)))
    if failures:
        raise MxelmError(failures[0])


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


def _content(file):
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
