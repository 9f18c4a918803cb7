"""A pass that is saved as it goes: killed anywhere and resumed, it gives the same state bit for bit."""
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import FileError, InputError
from mxelm.files import exclusive
from mxelm.fused import ELMState, Projection, accumulate, balanced, gram, merge
from mxelm.interrupts import Interrupted

module = importlib.import_module("mxelm.fused.passes")


def noise(n, name="noise", seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (n, 16, 16, 3)).astype(np.uint8)
    return Dataset(ArraySource(images, name), rng.integers(0, 4, n), list("abcd"), name)


@pytest.fixture
def dataset():
    return noise(150)


@pytest.fixture
def projection():
    return Projection(20, 8, seed=2, scale=0.3)


@pytest.fixture
def often(monkeypatch):
    """Save at the end of every batch, of 8 rows, while blocks of the sums end every 20."""
    monkeypatch.setattr(gram, "BLOCK", 20)
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)


class Killed(Exception):
    pass


def die_at_save(monkeypatch, number):
    """Let `number` saves through, then raise before the next one."""
    save, done = ELMState.save, []

    def counted(state, path):
        if len(done) == number:
            raise Killed
        done.append(path)
        save(state, path)

    monkeypatch.setattr(ELMState, "save", counted)


def assert_same(a, b):
    for name in ("HtH", "HtY", "samples"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.n_samples, a.yty, a.origin, a.progress) == (b.n_samples, b.yty, b.origin, b.progress)


@pytest.mark.parametrize("method", ["blas", "paper"])
@pytest.mark.parametrize("saves", [0, 1, 2, 3])
def test_resumed_state_is_the_uninterrupted_one(tiny_backbone, dataset, projection, often, tmp_path, method, saves):
    whole, _ = accumulate(tiny_backbone, dataset, projection, method=method, batch=8)
    path = tmp_path / "a.state"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        die_at_save(patch, saves)
        accumulate(tiny_backbone, dataset, projection, method=method, batch=8, save=path)
    resumed, _ = accumulate(tiny_backbone, dataset, projection, method=method, batch=8, save=path, resume=True)
    assert_same(resumed, whole)
    assert_same(ELMState.load(path), whole)


def test_saving_does_not_change_the_sums(tiny_backbone, dataset, projection, tmp_path, monkeypatch):
    rarely, _ = accumulate(tiny_backbone, dataset, projection, save=tmp_path / "a.state")
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    always, _ = accumulate(tiny_backbone, dataset, projection, save=tmp_path / "b.state")
    assert_same(rarely, always)


def test_a_finished_shard_is_not_run_again(tiny_backbone, dataset, projection, tmp_path, monkeypatch):
    first, _ = accumulate(tiny_backbone, dataset, projection, save=tmp_path / "a.state")
    before = (tmp_path / "a.state").read_bytes()
    monkeypatch.setattr(module, "FusedAccumulator", None)  # a call would raise
    again, _ = accumulate(tiny_backbone, dataset, projection, save=tmp_path / "a.state", resume=True)
    assert_same(first, again)
    assert (tmp_path / "a.state").read_bytes() == before


def test_skipped_images_are_remembered_across_a_resume(tiny_backbone, image_folder, projection, tmp_path, monkeypatch):
    from mxelm import data
    (image_folder / "blue" / "broken.png").write_bytes(b"no image")
    dataset = data.load(str(image_folder))
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    whole, skipped = accumulate(tiny_backbone, dataset, projection, batch=10, skip_bad=True)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        die_at_save(patch, 2)
        accumulate(tiny_backbone, dataset, projection, batch=10, skip_bad=True, save=tmp_path / "a.state")
    resumed, again = accumulate(tiny_backbone, dataset, projection, batch=10, skip_bad=True,
                                save=tmp_path / "a.state", resume=True)
    assert_same(resumed, whole)
    assert skipped == again and [name for name, _ in again] == ["blue/broken.png"]
    assert whole.n_samples == len(dataset) - 1


def test_a_file_of_another_run_is_refused(tiny_backbone, dataset, projection, tmp_path):
    path = tmp_path / "a.state"
    accumulate(tiny_backbone, dataset, projection, save=path)
    with pytest.raises(FileError, match="of another run: .* projection differs"):
        accumulate(tiny_backbone, dataset, Projection(20, 8, seed=3), save=path, resume=True)
    with pytest.raises(FileError, match="of another run: .* method differs"):
        accumulate(tiny_backbone, dataset, projection, method="paper", save=path, resume=True)
    with pytest.raises(FileError, match="exists"):
        accumulate(tiny_backbone, dataset, projection, save=path)
    with pytest.raises(FileError, match="of another run: its batch is"):
        accumulate(tiny_backbone, dataset, projection, batch=16, save=path, resume=True)
    with pytest.raises(FileError, match="other samples, 150 of noise where there are now 100"):
        accumulate(tiny_backbone, dataset.take(range(100)), projection, save=path, resume=True)


def test_shards_make_up_the_whole_in_any_order(tiny_backbone, dataset, projection):
    whole, _ = accumulate(tiny_backbone, dataset, projection)
    shards = [accumulate(tiny_backbone, dataset.shard(i, 4), projection, batch=7 + i)[0] for i in range(1, 5)]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        both = merge([shards[i] for i in order])
        np.testing.assert_allclose(both.HtH, whole.HtH, rtol=1e-6, atol=1e-6 * np.abs(whole.HtH).max())
        np.testing.assert_array_equal(both.samples, whole.samples)
    with pytest.raises(InputError, match="share 38 samples"):
        merge([whole, shards[0]])


def test_same_names_with_other_content_are_other_samples(tiny_backbone, projection):
    a, _ = accumulate(tiny_backbone, noise(10, seed=1), projection)
    b, _ = accumulate(tiny_backbone, noise(10, seed=2), projection)
    assert (a + b).n_samples == 20


def test_class_weights_are_repetitions(tiny_backbone, projection):
    dataset = noise(60)
    weighted, _ = accumulate(tiny_backbone, dataset, projection, class_weight={"b": 3.0, "d": 0.0})
    X = tiny_backbone.extract(dataset.module_iter(8, tiny_backbone.preprocessing))
    H = projection.hidden(X).astype(np.float64)
    times = np.array([1, 3, 1, 0])[dataset.targets]
    H, Y = np.repeat(H, times, axis=0), np.repeat(dataset.target_matrix().astype(np.float64), times, axis=0)
    np.testing.assert_allclose(weighted.HtH, H.T @ H, rtol=1e-5, atol=1e-5 * np.abs(H.T @ H).max())
    np.testing.assert_allclose(weighted.HtY, H.T @ Y, rtol=1e-5, atol=1e-4)
    assert weighted.yty == pytest.approx((Y ** 2).sum())
    alike, _ = accumulate(tiny_backbone, dataset, projection, class_weight=balanced(dataset))
    assert alike.yty == pytest.approx(len(dataset))
    with pytest.raises(InputError, match="class_weight"):
        weighted + alike
    with pytest.raises(InputError, match="z"):
        accumulate(tiny_backbone, dataset, projection, class_weight={"z": 1.0})


def test_killed_process_resumes_bit_for_bit(tiny_checkpoint, image_folder, tmp_path):
    """SIGKILL at whatever moment; nothing half-written under the name, and --resume finishes the same state."""
    code = ("import importlib, sys; m = importlib.import_module('mxelm.fused.passes'); "
            "m.SAVE_SECONDS = 0.0; from mxelm.cli import main; raise SystemExit(main(sys.argv[1:]))")
    command = [sys.executable, "-c", code, "accumulate", "--images", str(image_folder), "--checkpoint", tiny_checkpoint,
               "--neurons", "900", "--batch", "4", "--json", "--out"]
    assert subprocess.run([*command, str(tmp_path / "whole.state")], capture_output=True).returncode == 0
    path = tmp_path / "a.state"
    process = subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not path.exists() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(np.random.default_rng().uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ELMState.load(path)  # whole, whatever moment it was
    done = subprocess.run([*command, str(path), "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(ELMState.load(path), ELMState.load(tmp_path / "whole.state"))
    assert sorted(p.name for p in tmp_path.iterdir() if "state" in p.name) == ["a.state", "whole.state"]


def test_a_full_disk_loses_nothing(tiny_backbone, dataset, projection, tmp_path, monkeypatch):
    import errno
    import zipfile

    path = tmp_path / "a.state"
    state, _ = accumulate(tiny_backbone, dataset, projection, save=path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(FileError, match="No space left"):
        state.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.state"]


def test_a_rest_of_which_nothing_is_left_does_not_end_the_pass(tiny_backbone, image_folder, projection, tmp_path,
                                                               often):
    from mxelm import data
    (image_folder / "red" / "zzz.png").write_bytes(b"no image")  # the only one after the 36 whole ones
    options = {"batch": 36, "skip_bad": True, "save": tmp_path / "a.state"}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        die_at_save(patch, 1)
        accumulate(tiny_backbone, data.load(str(image_folder)), projection, **options)
    state, skipped = accumulate(tiny_backbone, data.load(str(image_folder)), projection, resume=True, **options)
    assert state.n_samples == 36 and len(skipped) == 1


def interrupt_at(monkeypatch, number, signals):
    """Send this process signals while it counts batch `number`."""
    update, seen = module.FusedAccumulator.update, []

    def counted(accumulator, *batch):
        update(accumulator, *batch)
        seen.append(1)
        if len(seen) == number:
            for one in signals:
                os.kill(os.getpid(), one)

    monkeypatch.setattr(module.FusedAccumulator, "update", counted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_the_end_of_the_batch(tiny_backbone, dataset, projection, tmp_path, number):
    whole, _ = accumulate(tiny_backbone, dataset, projection, batch=8)
    path, handlers = tmp_path / "a.state", [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted, match="keeps 24 of 150 images") as caught:
        interrupt_at(patch, 3, [number])
        accumulate(tiny_backbone, dataset, projection, batch=8, save=path)
    assert caught.value.number == number
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert ELMState.load(path).n_samples == 24  # the rows that wait for their block count
    resumed, _ = accumulate(tiny_backbone, dataset, projection, batch=8, save=path, resume=True)
    assert_same(resumed, whole)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.state"]


def test_a_second_signal_does_not_wait(tiny_backbone, dataset, projection, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        interrupt_at(patch, 3, [signal.SIGINT, signal.SIGINT])
        accumulate(tiny_backbone, dataset, projection, batch=8, save=tmp_path / "a.state")
    assert not (tmp_path / "a.state").exists()


def test_one_writer_of_a_state_at_a_time(tiny_backbone, dataset, projection, tmp_path):
    path = tmp_path / "a.state"
    with exclusive(path), pytest.raises(FileError, match="another process is writing"):
        accumulate(tiny_backbone, dataset, projection, save=path)
    accumulate(tiny_backbone, dataset, projection, save=path)


@pytest.mark.parametrize("finished", [True, False])
def test_images_that_changed_are_no_part_of_a_resumed_pass(tiny_backbone, dataset, projection, tmp_path, finished):
    path = tmp_path / "a.state"
    with contextlib.nullcontext() if finished else pytest.raises(Interrupted), pytest.MonkeyPatch.context() as patch:
        if not finished:
            interrupt_at(patch, 3, [signal.SIGINT])
        accumulate(tiny_backbone, dataset, projection, batch=8, save=path)
    before = path.read_bytes()
    dataset.source.images[5] += 1
    with pytest.raises(FileError, match="1 images that have changed since, noise/5"):
        accumulate(tiny_backbone, dataset, projection, batch=8, save=path, resume=True)
    assert path.read_bytes() == before
