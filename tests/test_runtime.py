import ctypes
import importlib
import os
import platform
import subprocess
import sys
import threading
from collections import namedtuple

import numpy as np
import pytest

import mxelm
from mxelm import runtime
from mxelm.errors import EnvironmentProblem, InputError

VersionInfo = namedtuple("VersionInfo", "major minor micro")


def child(code):
    """What a fresh process prints, in words; the process must end well."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_mxelm_and_the_door_loads_no_mxnet():
    code = "import sys, mxelm, mxelm.runtime; print({'mxnet', 'gluoncv', 'cv2', 'scipy'} & set(sys.modules) or 'none')"
    assert child(code) == ["none"]


def test_loading_leaves_no_alias_in_numpy_and_sets_the_switch_first():
    code = ("import sys, os, numpy as np\nbefore = 'bool' in vars(np)\nfrom mxelm.runtime import mx\n"
            "print('mxnet' in sys.modules, before == ('bool' in vars(np)), mx.__version__, "
            "os.environ['MXNET_DISABLE_MKLDNN_FC_OPT'], int(mx.nd.ones((2, 2)).sum().asscalar()))\n"
            "from mxelm.runtime import gluoncv\nprint(before == ('bool' in vars(np)), gluoncv.__name__)")
    assert child(code) == ["True", "True", "1.9.1", "1", "4", "True", "gluoncv"]


def test_the_alias_is_taken_back_when_an_import_fails_and_the_cause_is_told(monkeypatch):
    def fail(name):
        raise ImportError("libgomp.so.1: cannot open shared object file")

    before = "bool" in vars(np)
    monkeypatch.setattr(runtime, "_loaded", {})
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(EnvironmentProblem, match="libgomp.so.1 is missing: apt-get install libgomp1"):
        runtime.mx  # noqa: B018
    assert ("bool" in vars(np)) == before and not runtime._loaded


def test_another_mxnet_is_refused(monkeypatch):
    class Old:
        __version__ = "1.0.0"

    monkeypatch.setattr(runtime, "_loaded", {})
    monkeypatch.setattr(importlib, "import_module", lambda name: Old)
    for _ in range(2):  # and again, not only the first time
        with pytest.raises(EnvironmentProblem, match="MXNet 1.0.0 is installed, mxelm needs 1.9.1"):
            runtime.mx  # noqa: B018


@pytest.mark.parametrize("name, message, remedy", [
    ("mxnet", "No module named 'distutils'", "pip install setuptools"),
    ("mxnet", "libquadmath.so.0: cannot open shared object file", "apt-get install libquadmath0"),
    ("cv2", "libGL.so.1: cannot open shared object file", "libgl1"),
    ("mxnet", "something else", "mxnet cannot be imported: something else; `mxelm env` says more"),
])
def test_what_is_told_of_an_import_that_failed(name, message, remedy):
    assert remedy in runtime._import_problem(name, ImportError(message))


@pytest.mark.parametrize("name", ["mxnet", "gluoncv"])
def test_what_is_told_of_a_package_that_is_not_there(name):
    problem = runtime._import_problem(name, ModuleNotFoundError(f"No module named '{name}'", name=name))
    assert problem.startswith(f"{name} is not installed: pip install")


def test_opencv_that_cannot_load(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)  # makes its import fail
    with pytest.raises(EnvironmentProblem, match="cv2"):
        runtime.require_cv2()


# refusals

def test_this_machine_is_supported():
    runtime.refuse_unsupported()


@pytest.mark.parametrize("version", [(3, 8, 18), (3, 13, 0), (4, 0, 0)])
def test_pythons_that_are_refused(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", VersionInfo(*version))
    with pytest.raises(EnvironmentProblem, match="use Python 3.9 to 3.12"):
        runtime.refuse_unsupported()


@pytest.mark.parametrize("system, processor", [("darwin", "arm64"), ("win32", "AMD64"), ("linux", "aarch64")])
def test_platforms_that_are_refused(monkeypatch, system, processor):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    with pytest.raises(EnvironmentProblem, match=f"no wheel for {system} on {processor}: use Linux on x86_64"):
        runtime.refuse_unsupported()


@pytest.mark.parametrize("version, works", [("1.22.4", False), ("1.23.0", True), ("1.26.4", True),
                                            ("2.0.0rc1", False), ("2.1.3", False)])
def test_versions_of_numpy(monkeypatch, version, works):
    monkeypatch.setattr(np, "__version__", version)
    if works:
        runtime.refuse_unsupported()
    else:
        with pytest.raises(EnvironmentProblem, match=rf"NumPy {version} cannot work .* 'numpy>=1.23,<2'"):
            runtime.refuse_unsupported()


def test_nothing_is_imported_where_a_refusal_is_due(monkeypatch):
    monkeypatch.setattr(runtime, "_loaded", {})
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    monkeypatch.setattr(sys, "version_info", VersionInfo(3, 13, 0))
    for name in ("mx", "gluoncv"):
        with pytest.raises(EnvironmentProblem):
            getattr(runtime, name)


# contexts

def test_contexts_that_are_there():
    mx = runtime.mx
    assert runtime.context() == runtime.context("cpu") == runtime.context("cpu(0)") == mx.cpu()
    assert runtime.context("cpu(1)") == mx.cpu(1)
    assert runtime.context(mx.cpu(2)) == mx.cpu(2)


@pytest.mark.parametrize("name", ["tpu", "", "cpu(", "cpu0)", "cpu(0", "cpu(-1)", "gpu(x)", "gpu(²)", "gpu()", None, 0])
def test_words_that_are_no_context(name):
    with pytest.raises(InputError, match="is not known: use cpu, gpu or gpu"):
        runtime.context(name)


@pytest.mark.parametrize("name", ["gpu", "gpu(0)", "gpu(7)"])
def test_a_gpu_that_is_not_there(monkeypatch, name):
    monkeypatch.setattr(runtime.mx.context, "num_gpus", lambda: 0)
    with pytest.raises(InputError, match="sees no such GPU; use --ctx cpu"):
        runtime.context(name)


# lines of native code

def native(text):
    os.write(2, text)


def test_only_the_lines_that_were_named_are_held_back(capfd):
    with runtime.without_lines("is disabled."):
        native(b"[12:00:00] ../x.cc:12: subgraph is disabled.\nsome is disabled. warning\n")
        native(b"no end of line")
    native(b"\nafter is disabled.\n")
    assert capfd.readouterr().err == "some is disabled. warning\nno end of line\nafter is disabled.\n"


def test_lines_come_through_when_the_block_fails_and_when_blocks_are_nested(capfd):
    with pytest.raises(RuntimeError), runtime.without_lines("away"):
        with runtime.without_lines("gone"):
            native(b"one gone\ntwo away\nthree\n")
        raise RuntimeError
    assert capfd.readouterr().err == "three\n"


def test_two_threads_leave_stderr_as_it_was(capfd):
    entered, leave = threading.Event(), [threading.Event(), threading.Event()]

    def hold_back(number):
        with runtime.without_lines("gone"):
            entered.set()
            leave[number].wait(5)

    before = os.fstat(2)
    first, second = (threading.Thread(target=hold_back, args=(number,)) for number in (0, 1))
    first.start()
    assert entered.wait(5)
    second.start()
    second.join(0.2)  # were it let in, it would take the first's file for stderr and leave it behind as such
    leave[0].set()
    first.join()
    leave[1].set()
    second.join()
    after = os.fstat(2)
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
    native(b"heard\n")
    assert capfd.readouterr().err == "heard\n"


# what is told of the machine

def test_missing_libraries_come_with_a_remedy(monkeypatch):
    def load(name):
        if name == "libquadmath.so.0":
            raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert runtime.missing_libraries() == {"libquadmath.so.0": "apt-get install libquadmath0"}


def test_versions_and_machine():
    versions = runtime.versions()
    assert versions["mxnet"] == runtime.mx.__version__ and versions["numpy"] == np.__version__
    assert versions["python"] == platform.python_version()
    machine = runtime.machine()
    assert machine["cpu"] and 1 <= machine["cores"] <= os.cpu_count() and machine["memory"] >= 0
    assert {"MKLDNN", "OPENCV"} <= set(runtime.features())


def test_a_package_that_is_not_installed_is_missing(monkeypatch):
    from importlib import metadata

    def version(name):
        if name == "deap":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", version)
    assert runtime.versions()["deap"] == "missing" and runtime.versions()["scipy"] == "1"


def test_the_seed_decides_what_mxnet_draws():
    def draw(seed):
        runtime.seed(seed)
        return runtime.mx.nd.random.uniform(shape=(5,)).asnumpy().tolist()

    assert draw(3) == draw(3) != draw(4)


def test_blas_threads_are_held_and_let_go():
    from threadpoolctl import threadpool_info

    def counts():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = counts()
    with runtime.blas_threads(1):
        assert set(counts()) == {1}
    assert counts() == before


# the package's names

def test_every_public_name_is_there():
    for name in mxelm.__all__:
        assert getattr(mxelm, name) is not None
    assert dir(mxelm) == sorted(mxelm.__all__)


@pytest.mark.parametrize("package", ["mxelm", *(f"mxelm.{room}" for room in (
    "backbones", "data", "fused", "gunn", "knn_slicing", "training"))])
def test_every_name_of_a_package_is_there_and_listed(package):
    found = importlib.import_module(package)
    assert found.__all__ and all(getattr(found, name) is not None for name in found.__all__)
    assert set(dir(found)) == set(found.__all__)


def test_what_needs_no_mxnet_loads_none():
    code = ("import sys, mxelm; mxelm.ELMClassifier, mxelm.data, mxelm.fused, mxelm.gunn, mxelm.knn_slicing; "
            "from mxelm.knn_slicing.engine import Engine; print('mxnet' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("module", [mxelm, runtime])
def test_a_name_that_is_not_there(module):
    with pytest.raises(AttributeError, match=f"{module.__name__}.* attribute .*nothing"):
        module.nothing  # noqa: B018
