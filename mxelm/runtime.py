"""The one door to MXNet and GluonCV: shims, refusals, contexts, threads, and what `mxelm env` prints.

`from mxelm.runtime import mx` loads MXNet (2-3 s) at that moment; importing this module alone loads nothing.
"""
from __future__ import annotations

import contextlib
import functools
import importlib
import os
import platform
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from mxelm.errors import EnvironmentProblem, InputError

if TYPE_CHECKING:
    import mxnet as mx

MXNET_VERSION = "1.9.1"
_SUPPORTED_PYTHON = ((3, 9), (3, 12))
_SYSTEM_LIBRARIES = {
    "libgomp.so.1": "apt-get install libgomp1",
    "libquadmath.so.0": "apt-get install libquadmath0",
    "libGL.so.1": "apt-get install libgl1, or pip install opencv-python-headless over opencv-python",
}
_loaded = {}
_stderr = threading.RLock()  # file descriptor 2, which a process has once


def __getattr__(name: str) -> ModuleType:
    if name == "mx":
        return _load("mxnet")
    if name == "gluoncv":
        _load("mxnet")
        return _load("gluoncv")
    raise AttributeError(f"module 'mxelm.runtime' has no attribute {name!r}")


def _load(name):
    if name not in _loaded:
        refuse_unsupported()
        # oneDNN fuses FullyConnected with what follows it even where the FullyConnected is itself an output, and
        # then answers wrongly; the switch is read at the first bind only, so it is set before MXNet is loaded.
        os.environ["MXNET_DISABLE_MKLDNN_FC_OPT"] = "1"
        # MXNet by default takes every other processor for a hyper-thread, and computes on half of them
        if "OMP_NUM_THREADS" not in os.environ:
            os.environ.setdefault("MXNET_OMP_MAX_THREADS", str(len(os.sched_getaffinity(0))))
        # otherwise operators share four scratch buffers a context, which are never freed (299 MB each)
        os.environ.setdefault("MXNET_CPU_TEMP_COPY", "1")
        # otherwise the thread that hands over a batch copies it with an OpenMP team of its own, beside the engine's:
        # with more threads than cores OpenMP no longer spins at its barriers, and small operators take twice the time
        os.environ.setdefault("MXNET_CPU_PARALLEL_SIZE", str(2**30))
        os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # a line on stderr at each bind
        try:
            with _numpy_bool(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _loaded[name] = importlib.import_module(name)
        except (ImportError, OSError, AttributeError) as error:
            raise EnvironmentProblem(_import_problem(name, error)) from None
        if name == "mxnet" and _loaded[name].__version__ != MXNET_VERSION:
            version = _loaded.pop(name).__version__
            raise EnvironmentProblem(f"MXNet {version} is installed, mxelm needs {MXNET_VERSION}: "
                                     f"pip install 'mxnet=={MXNET_VERSION}' 'numpy<2'")
    return _loaded[name]


@contextlib.contextmanager
def _numpy_bool():
    """Give NumPy >= 1.24 the alias `np.bool` that MXNet's import needs, and remove it afterwards."""
    import numpy as np
    lend = "bool" not in vars(np)
    if lend:
        np.bool = np.bool_
    try:
        yield
    finally:
        if lend:
            del np.bool


def refuse_unsupported() -> None:
    """Raise EnvironmentProblem, in one sentence, for a Python, platform or NumPy on which MXNet 1.9.1 cannot work."""
    low, high = _SUPPORTED_PYTHON
    if not low <= sys.version_info[:2] <= high:
        raise EnvironmentProblem(f"Python {platform.python_version()} cannot work with MXNet {MXNET_VERSION}: "
                                 f"use Python {low[0]}.{low[1]} to {high[0]}.{high[1]}")
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise EnvironmentProblem(f"MXNet {MXNET_VERSION} has no wheel for {sys.platform} on {platform.machine()}: "
                                 "use Linux on x86_64 (a container or WSL2 will do)")
    import numpy as np
    version = tuple(int(part) for part in np.__version__.split(".")[:2])
    if not (1, 23) <= version < (2, 0):
        raise EnvironmentProblem(f"NumPy {np.__version__} cannot work with MXNet {MXNET_VERSION}: "
                                 "pip install 'numpy>=1.23,<2'")


def _import_problem(name, error):
    text = str(error)
    if isinstance(error, ModuleNotFoundError) and error.name == name:
        wanted = f"'{name}=={MXNET_VERSION}'" if name == "mxnet" else name
        return f"{name} is not installed: pip install {wanted} 'numpy<2'"
    if "distutils" in text or (name == "gluoncv" and "mxnet" in text and sys.version_info >= (3, 12)):
        return "MXNet on Python 3.12 needs setuptools (it brings distutils back): pip install setuptools"
    for library, remedy in _SYSTEM_LIBRARIES.items():
        if library in text:
            return f"the system library {library} is missing: {remedy}"
    return f"{name} cannot be imported: {text}; `mxelm env` says more"


def require_cv2() -> ModuleType:
    """OpenCV's module; EnvironmentProblem says what to install where it cannot load."""
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise EnvironmentProblem(_import_problem("cv2", error)) from None


def context(name: str | mx.Context = "cpu") -> mx.Context:
    """An MXNet context from "cpu", "gpu" or "gpu(1)"; a context object passes through.

    Raises InputError for another word, or for a GPU that this MXNet build or machine does not have.
    """
    mx = _load("mxnet")
    if isinstance(name, mx.Context):
        return name
    match = re.fullmatch(r"(cpu|gpu)(?:\(([0-9]{1,3})\))?", str(name))
    if match is None:
        raise InputError(f"context {name!r} is not known: use cpu, gpu or gpu(0)")
    kind, number = match[1], int(match[2] or 0)
    if kind == "gpu" and number >= (mx.context.num_gpus() if mx.runtime.Features().is_enabled("CUDA") else 0):
        raise InputError(f"context {name} is not available: this MXNet sees no such GPU; use --ctx cpu")
    return mx.Context(kind, number)


def blas_threads(count: int | None) -> contextlib.AbstractContextManager:
    """A context manager that holds the process's BLAS libraries to `count` threads; None leaves them alone.

    MXNet's OpenMP team and OpenBLAS's threads spin against each other when both hold all cores.
    """
    return _blas_libraries().limit(limits=count)


@functools.cache
def _blas_libraries():
    """Looked up once: it takes milliseconds, as long as adding a block of rows."""
    importlib.import_module("scipy.linalg.blas")
    from threadpoolctl import ThreadpoolController
    return ThreadpoolController().select(user_api="blas")


@contextlib.contextmanager
def without_lines(*endings: str) -> Iterator[None]:
    """Hold back what native code writes to stderr in the block; then print it without lines that end in `endings`."""
    sys.stderr.flush()
    with _stderr, tempfile.TemporaryFile() as held:
        real = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            unwanted = tuple(ending.encode() for ending in endings)
            kept = [line for line in held if not line.rstrip().endswith(unwanted)]
            os.write(2, b"".join(kept))


def seed(number: int) -> None:
    """Seed MXNet's generator (initialisers, shuffles and dropout of MXNet); NumPy code takes its own Generator."""
    _load("mxnet").random.seed(number)


def versions() -> dict[str, str]:
    """Versions of what a result depends on: dict of name -> version, "missing" where not installed."""
    from importlib import metadata
    found = {"python": platform.python_version()}
    for name in ("mxnet", "gluoncv", "numpy", "scipy", "scikit-learn", "deap", "opencv-python", "Pillow", "mxelm"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def machine() -> dict:
    """What the timings were taken on: dict with cpu (model name), cores and memory in GB."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "memory": round(memory)}


def features() -> list[str]:
    """Names of the features that this MXNet build has switched on, sorted."""
    found = _load("mxnet").runtime.Features()
    return sorted(name for name in found if found.is_enabled(name))


def missing_libraries() -> dict[str, str]:
    """System libraries that MXNet or OpenCV need and this machine lacks: dict of name -> how to get it."""
    import ctypes
    missing = {}
    for library, remedy in _SYSTEM_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing[library] = remedy
    return missing
