"""Numbers through float32 whole and exact; real schedulers, servers and workers on loopback, some of them killed."""
import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxelm import data
from mxelm.cli import distribute
from mxelm.errors import InputError, MxelmError
from mxelm.fused import ELMState, Projection, accumulate
from mxelm.fused.distributed import add_up, launch
from mxelm.fused.exact_sums import KEPT_BITS, exponent, joined, slice_bits, slices

finite = st.floats(allow_nan=False, allow_infinity=False, max_value=1e306, min_value=-1e306)


def added_up(rows):
    """What `rows`, one a worker, give after slicing, float32 addition and joining; and their common exponent."""
    workers = len(rows)
    scale = max((e for e in map(exponent, rows) if e is not None), default=0)
    sums = []
    for parts in zip(*(slices(row, scale, workers) for row in rows)):
        total = np.zeros_like(parts[0])
        for part in parts:
            assert part.dtype == np.float32 and (part == np.rint(part)).all()
            total += part
            assert np.abs(total).max() < 2**24
        sums.append(total)
    return joined(reversed(sums), scale, workers), scale


def assert_close_to_exact(rows):
    got, scale = added_up(rows)
    kept = Fraction(2) ** (scale - KEPT_BITS - 1) * len(rows)
    for value, column in zip(got, zip(*rows)):
        exact = sum(map(Fraction, column))
        # what the slices do not hold, and at most a rounding to float64 for each slice
        assert abs(Fraction(float(value)) - exact) <= kept + abs(exact) * Fraction(2) ** -50 + Fraction(2) ** -1074


@given(st.integers(1, 70), st.data())
@settings(deadline=None, max_examples=60)
def test_sums_of_any_float64_numbers_are_exact_to_60_bits_of_the_largest(workers, draw):
    rows = draw.draw(st.lists(st.lists(finite, min_size=3, max_size=3), min_size=workers, max_size=workers))
    assert_close_to_exact([np.array(row) for row in rows])


@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(0, 300))
@settings(deadline=None, max_examples=60)
def test_sums_over_a_huge_dynamic_range(workers, seed, decades):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(workers, 20)) * 10.0 ** rng.uniform(-decades, 0, (workers, 20))
    rows[rng.random(rows.shape) < 0.3] = 0
    assert_close_to_exact(list(rows))


@given(st.lists(st.lists(st.integers(-2**50, 2**50), min_size=2, max_size=2), min_size=1, max_size=8))
@settings(deadline=None)
def test_whole_numbers_are_exact(rows):
    got, _ = added_up([np.array(row, float) for row in rows])
    assert got.tolist() == [float(sum(column)) for column in zip(*rows)]


@given(st.lists(st.lists(finite, min_size=2, max_size=2), min_size=2, max_size=6), st.randoms())
@settings(deadline=None)
def test_the_order_of_workers_changes_no_bit(rows, random):
    rows = [np.array(row) for row in rows]
    there, _ = added_up(rows)
    random.shuffle(rows)
    np.testing.assert_array_equal(added_up(rows)[0], there)


def test_extremes():
    assert exponent(np.zeros(3)) is None and exponent(np.array([0.0, -5e-324])) == -1073
    assert exponent(np.array([1.7e308])) == 1024 and exponent(np.array([-1.0])) == 1
    for value in (5e-324, -2.5e-310, 1.7e308, 0.1):
        assert added_up([np.array([value]), np.zeros(1)])[0] == value
    assert added_up([np.zeros(4), np.zeros(4)])[0].tolist() == [0] * 4
    assert [slice_bits(w) for w in (1, 2, 3, 4, 5, 256)] == [(23, 3), (22, 3), (21, 3), (21, 3), (20, 3), (15, 4)]
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(InputError, match="NaN or infinity"):
            exponent(np.array([1.0, bad]))


class Rendezvous:
    """The exchange of two workers without MXNet: the second one's numbers meet those the first has left."""

    workers = 2

    def __init__(self, before=None):
        self.held = {} if before is None else before.held

    def put(self, name, numbers):
        self.held[name] = self.held.get(name, 0) + numbers

    def get(self, name):
        return self.held[name]

    def highest(self, name, exponents):
        return [20] * len(exponents)


def shard(samples, n_neurons=3):
    H = np.random.default_rng(len(samples)).normal(size=(len(samples), n_neurons))
    return ELMState(H.T @ H, H.T @ H[:, :2], len(samples), 1.5, samples=np.array(samples, np.uint8).reshape(-1, 16))


def test_shared_samples_are_refused():
    a, b = [[1] * 16, [2] * 16], [[2] * 16]
    first = Rendezvous()
    assert add_up(first, shard(b), 2, 3) is None
    with pytest.raises(InputError, match="twice"):
        add_up(Rendezvous(first), shard(a), 1, 3)


def test_samples_of_both_shards_are_in_the_sum():
    a, b = [[1] * 16, [0, 3] * 8], [[2] * 16]
    first = Rendezvous()
    add_up(first, shard(b), 2, 4)  # one of four was skipped
    total = add_up(Rendezvous(first), shard(a), 1, 4)
    expected = shard(a) + shard(b)
    np.testing.assert_array_equal(total.samples, expected.samples)
    np.testing.assert_allclose(total.HtH, expected.HtH, rtol=0, atol=1e-12)
    np.testing.assert_allclose(total.HtY, expected.HtY, rtol=0, atol=1e-12)
    assert (total.n_samples, total.yty) == (3, 3.0)


# Below, everything is real.

def command(*arguments):
    return [sys.executable, "-m", "mxelm", "distribute", *map(str, arguments)]


@pytest.fixture
def environment():
    """This process's, with one thread for each child."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def late_image(environment, image_folder, tmp_path):
    """The fourth image of all, in the shard of worker 2, at which `environment` has whoever opens it wait for ever."""
    late = image_folder / "blue" / "image_03.png"
    (tmp_path / "waits").mkdir()
    (tmp_path / "waits" / "sitecustomize.py").write_text(
        "import sys, time\n"
        f"sys.addaudithook(lambda event, what: event == 'open' and str(what[0]) == {str(late)!r} and time.sleep(600))")
    environment["PYTHONPATH"] = str(tmp_path / "waits")
    return late


@pytest.fixture
def single(tiny_backbone, image_folder, tmp_path):
    """The state of one process, and a file from which others take its W."""
    state, _ = accumulate(tiny_backbone, data.load(str(image_folder)), Projection(30, 8, seed=3, scale=0.3), batch=8)
    state.save(tmp_path / "single.state")
    return state


@pytest.fixture
def arguments(tiny_checkpoint, image_folder, tmp_path, single):
    return ["--images", image_folder, "--checkpoint", tiny_checkpoint, "--like", tmp_path / "single.state", "--batch",
            8, "--workers", 2, "--work", tmp_path / "work", "--out", tmp_path / "all.state", "--json"]


def children_of(pid):
    """Process id of each living child -> its name, such as "worker 2"."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            words = (path / "cmdline").read_bytes().decode().split("\0")
            if int(parent) == pid and state != "Z" and "-c" in words:
                found[int(path.name)] = words[-2]
    return found


def wait_for(condition, what, seconds=100):
    """The first true value of `condition()`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail(f"{what} did not come about in {seconds} s")


def assert_all_gone(pids):
    def alive():
        found = []
        for pid in pids:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append(pid)
        return found

    wait_for(lambda: not alive(), "the end of all children", 20)


def assert_is_single(path, single):
    """That a state is the single process's, but for features in float32: a shard's last batch is a short one, and on
    some processors the kernels for a few rows round otherwise than those for many."""
    state = ELMState.load(path)
    for name in ("HtH", "HtY"):
        expected = getattr(single, name)
        assert np.linalg.norm(getattr(state, name) - expected) <= 1e-7 * np.linalg.norm(expected)
    np.testing.assert_array_equal(state.samples, single.samples)
    assert state.n_samples == single.n_samples and state.yty == pytest.approx(single.yty, rel=1e-12)
    assert state.origin == single.origin and state.progress is None
    return state


def started(arguments, environment):
    return subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment, start_new_session=True)


def test_two_workers_on_loopback_give_the_single_process_matrices(arguments, environment, single, tmp_path):
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["n_samples"] == 36 and said["shards"] == [18, 18] and said["skipped"] == []
    first = assert_is_single(tmp_path / "all.state", single)
    shards = [ELMState.load(tmp_path / "work" / f"shard-{i}-of-2.state") for i in (1, 2)]
    merged = shards[0] + shards[1]
    np.testing.assert_allclose(first.HtH, merged.HtH, rtol=1e-15)
    assert sorted(p.name for p in (tmp_path / "work").iterdir()) == ["job.json", "shard-1-of-2.state",
                                                                      "shard-2-of-2.state"]


@pytest.mark.slow
def test_a_killed_worker_fails_the_job_and_its_finished_part_is_kept(arguments, environment, single, late_image,
                                                                     tmp_path):
    job = started(arguments, environment)
    kept = tmp_path / "work" / "shard-1-of-2.state"
    wait_for(lambda: kept.exists() or job.poll() is not None, "the first shard")
    children = children_of(job.pid)
    assert sorted(children.values()) == ["scheduler", "server 1", "worker 1", "worker 2"], job.communicate()[1]
    os.kill(next(pid for pid, name in children.items() if name == "worker 2"), signal.SIGKILL)
    _, complaint = job.communicate(timeout=20)
    assert job.returncode == 1 and len(complaint.strip().splitlines()) == 1, complaint
    assert "worker 2 was killed by SIGKILL" in complaint and str(tmp_path / "work") in complaint
    assert_all_gone(children)
    assert not (tmp_path / "all.state").exists()

    del environment["PYTHONPATH"]
    before = kept.stat().st_mtime_ns
    assert subprocess.run(command(*arguments), env=environment, capture_output=True, timeout=200).returncode == 0
    assert_is_single(tmp_path / "all.state", single)
    assert kept.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_behind_when_the_launcher_is_stopped(arguments, environment, late_image, tmp_path, how):
    job = started(arguments, environment)
    wait_for(lambda: (tmp_path / "work" / "shard-1-of-2.state").exists() or job.poll() is not None, "the first shard")
    children = children_of(job.pid)
    assert len(children) == 4, job.communicate()[1]
    job.send_signal(how)
    _, complaint = job.communicate(timeout=20)
    assert job.returncode == (130 if how == signal.SIGINT else -how) and "Traceback" not in complaint
    assert_all_gone(children)


@pytest.mark.slow
def test_a_worker_that_hangs_meets_the_timeout(arguments, environment, late_image):
    done = subprocess.run(command(*arguments, "--timeout", 15), env=environment, capture_output=True, text=True,
                          timeout=100)
    assert done.returncode == 1 and "after 15 s" in done.stderr and "worker 2" in done.stderr, done.stderr


@pytest.mark.slow
def test_what_a_worker_refuses_is_said(arguments, environment, image_folder, tmp_path):
    (image_folder / "green" / "image_00.png").write_bytes(b"no image")
    done = subprocess.run(command(*arguments), env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "green/image_00.png" in done.stderr and "worker 1" in done.stderr
    done = subprocess.run(command(*arguments, "--batch", 9), env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "holds another job, with batch 8 and not 9" in done.stderr


def parsed(arguments):
    parser = argparse.ArgumentParser()
    distribute.add_arguments(parser)
    return argparse.Namespace(**vars(parser.parse_args([str(a) for a in arguments if a != "--json"])), json=True)


@pytest.mark.parametrize("given, complaint", [
    (["--workers", 37], "36 images: too few for 37 workers"),
    (["--hosts", "node1"], "hosts cannot reach 127.0.0.1"),
    (["--out", "/nowhere/all.state"], "cannot write"),
])
def test_what_cannot_work_is_refused_before_a_process_is_started(arguments, monkeypatch, given, complaint):
    def started(*_):
        pytest.fail("a process was started")

    monkeypatch.setattr("mxelm.fused.distributed.Child", started)
    with pytest.raises(MxelmError, match=complaint):
        distribute.run(parsed([*arguments, *given]))


def test_an_address_that_is_not_of_this_machine(tmp_path):
    with pytest.raises(MxelmError, match="give an address of this machine"):
        launch({}, tmp_path, workers=2, address="192.0.2.1")


@pytest.mark.slow
def test_hosts_are_reached_by_ssh(arguments, single, environment, monkeypatch, tmp_path):
    """With a stand-in for ssh that runs the command here, after what an ssh client takes from its command line."""
    script = tmp_path / "bin" / "ssh"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\n'
                      f'echo "$2" >> {tmp_path}/called\nDMLC_INTERFACE=lo exec sh -c "$3"\n')
    script.chmod(0o755)
    for name, value in {**environment, "PATH": f"{script.parent}:{environment['PATH']}"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "work").mkdir()
    job = distribute.job_of(parsed(arguments), single.origin.projection.to_json())
    done = launch(job, tmp_path / "work", workers=3, servers=2, hosts=["far", "farther"])
    assert [part["n_samples"] for part in done] == [12, 12, 12]
    assert sorted((tmp_path / "called").read_text().split()) == ["far", "farther"]
    assert_is_single(tmp_path / "all.state", single)
