"""Evolution: it improves, is a function of its seed, and survives interruption and processes bit for bit."""
import dataclasses
import os

import numpy as np
import pytest
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_info

from mxelm.containers import load_container, save_container
from mxelm.errors import EnvironmentProblem, FileError, InputError
from mxelm.knn_slicing import banks
from mxelm.knn_slicing.evolution import workers
from mxelm.knn_slicing.evolution.candidates import weights_of
from mxelm.knn_slicing.evolution.fitness import KernelFitness
from mxelm.knn_slicing.evolution.search import KIND, _Run, evolve
from mxelm.knn_slicing.evolution.strategies import METHODS
from mxelm.runtime import blas_threads

REFERENCES, QUERIES, VALIDATION = np.arange(250), np.arange(250, 370), np.arange(370, 450)
SHORT = {"generations": 3, "population": 6}


def digits():
    digits = load_digits()
    images = (digits.images[:450] * 15.9).astype(np.uint8).repeat(3, axis=1).repeat(3, axis=2)
    return np.pad(images, ((0, 0), (2, 2), (2, 2))), digits.target[:450]


@pytest.fixture(scope="module")
def fitness():
    return KernelFitness(*digits(), REFERENCES, kind="nca", listed=32)


@pytest.fixture(scope="module")
def start():
    return banks.random(0, (3, 5))


def assert_same(a, b):
    for one, other in zip(weights_of(a.kernels), weights_of(b.kernels)):
        np.testing.assert_array_equal(one, other)
    assert list(a.logbook) == list(b.logbook)
    assert (a.rounds, a.evaluations) == (b.rounds, b.evaluations)


@pytest.mark.parametrize("kind, metric", [("nca", "l2"), ("nca", "cosine"), ("accuracy", "l2")])
def test_fitness_rises_filter_by_filter(start, kind, metric):
    fitness = KernelFitness(*digits(), REFERENCES, kind=kind, metric=metric, listed=250)
    found = evolve(start, fitness, QUERIES, layers=("conv1", "conv2"), generations=5, population=8, sigma=0.5)
    weights = weights_of(start)
    tau = fitness.temperature(weights._replace(conv1=found.kernels.conv1, bias1=found.kernels.bias1), "conv2", QUERIES)
    before = fitness.score(weights._replace(conv1=found.kernels.conv1, bias1=found.kernels.bias1), "conv2", QUERIES,
                           kind=kind, tau=tau)
    after = fitness.score(weights_of(found.kernels), "conv2", QUERIES, kind=kind, tau=tau)
    assert after > before
    last = [record["best"] for record in found.logbook if record["layer"] == "conv2"][-1]
    assert after == pytest.approx(last, rel=1e-4)  # what the search saw is what the kernels give
    assert found.evaluations == (3 + 5) * (5 * 8 + 1)


def test_conv1_is_finished_before_conv2_begins(fitness, start):
    found = evolve(start, fitness, QUERIES, layers=("conv1", "conv2"), sweeps=2, **SHORT)
    order = [(r["layer"], r["sweep"], r["filter"]) for r in found.logbook][::3]
    assert order == [(layer, sweep, f) for layer, count in (("conv1", 3), ("conv2", 5))
                     for sweep in range(2) for f in range(count)]


def test_filters_and_layers_left_out_stay_as_they_are(fitness, start):
    found = evolve(start, fitness, QUERIES, filters=2, **SHORT)
    np.testing.assert_array_equal(found.kernels.conv1, start.conv1)
    np.testing.assert_array_equal(found.kernels.conv2[2:], start.conv2[2:])
    assert not np.array_equal(found.kernels.conv2[:2], start.conv2[:2])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_with_the_same_evaluations(fitness, start, method):
    found = evolve(start, fitness, QUERIES, method=method, filters=1, **SHORT)
    assert found.evaluations == 3 * 6 + 1 and len(found.logbook) == 3
    assert_same(found, evolve(start, fitness, QUERIES, method=method, filters=1, **SHORT))
    other = evolve(start, fitness, QUERIES, method=method, filters=1, seed=1, **SHORT)
    assert not np.array_equal(found.kernels.conv2, other.kernels.conv2)


def test_parallel_searches_are_those_against_the_initial_kernels(fitness, start):
    together = evolve(start, fitness, QUERIES, mode="parallel", **SHORT)
    alone = [r for r in evolve(start, fitness, QUERIES, filters=1, **SHORT).logbook]
    assert [r for r in together.logbook if r["filter"] == 0] == alone
    judged = together.rounds[0]
    if judged["accepted"]:
        assert judged["after"] >= judged["before"]
    else:
        np.testing.assert_array_equal(together.kernels.conv2, start.conv2)


def test_a_worse_joint_result_is_refused(fitness, start, monkeypatch):
    scores = iter([0.5, 0.4])
    monkeypatch.setattr(KernelFitness, "score", lambda *_, **__: next(scores))
    found = evolve(start, fitness, QUERIES, mode="parallel", validation=VALIDATION, **SHORT)
    assert found.rounds == [{"layer": "conv2", "sweep": 0, "before": 0.5, "after": 0.4, "accepted": False}]
    for one, other in zip(weights_of(found.kernels), weights_of(start)):
        np.testing.assert_array_equal(one, other)


def test_validation_is_the_accuracy_in_full(fitness, start):
    found = evolve(start, fitness, QUERIES, validation=VALIDATION, **SHORT)
    assert found.rounds[0]["before"] == fitness.score(weights_of(start), "conv2", VALIDATION)
    if found.rounds[0]["accepted"]:
        assert found.rounds[0]["after"] == fitness.score(weights_of(found.kernels), "conv2", VALIDATION)


def test_a_whole_layer_at_once(fitness, start):
    found = evolve(start, fitness, QUERIES, method="sepcma", mode="layer", layers=("conv1", "conv2"), **SHORT)
    assert [r["filter"] for r in found.logbook] == [None] * 6
    with pytest.raises(InputError, match="sepcma"):
        evolve(start, fitness, QUERIES, method="cma", mode="layer")


def test_queries_are_drawn_anew_for_each_search(fitness, start, monkeypatch):
    asked, evaluate = [], KernelFitness.evaluate
    monkeypatch.setattr(KernelFitness, "evaluate", lambda self, task: (asked.append(task), evaluate(self, task))[1])
    evolve(start, fitness, QUERIES, n_queries=50, **SHORT)
    drawn = [tuple(task.queries) for task in asked]
    assert len(set(drawn)) == 5 and all(len(set(part)) == 50 and set(part) <= set(QUERIES) for part in drawn)


class Killed(Exception):
    pass


def killed_after(monkeypatch, generations):
    save, done = _Run.save, []

    def counted(run, path):
        save(run, path)
        done.append(path)
        if len(done) == generations:
            raise Killed

    monkeypatch.setattr(_Run, "save", counted)


@pytest.mark.parametrize("plan", [{"method": "cma"}, {"method": "pso", "mode": "parallel"}, {"method": "cma-talk"},
                                  {"method": "sepcma", "mode": "layer"}, {"method": "random"},
                                  {"method": "pso-talk", "n_queries": 40}], ids=str)
@pytest.mark.parametrize("generations", [1, 2, 3, 4])
def test_a_resumed_run_is_the_uninterrupted_one(start, tmp_path, plan, generations):
    plan = {**SHORT, "layers": ("conv1", "conv2"), "filters": 2, **plan}
    whole = evolve(start, KernelFitness(*digits(), REFERENCES), QUERIES, validation=VALIDATION, **plan)
    path = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, generations)
        evolve(start, KernelFitness(*digits(), REFERENCES), QUERIES, validation=VALIDATION, checkpoint=path, **plan)
    resumed = evolve(start, KernelFitness(*digits(), REFERENCES), QUERIES, validation=VALIDATION,
                     checkpoint=path, resume=True, **plan)
    assert_same(resumed, whole)
    again = evolve(start, KernelFitness(*digits(), REFERENCES), QUERIES, validation=VALIDATION,
                   checkpoint=path, resume=True, **plan)
    assert_same(again, whole)


def test_a_run_goes_on_with_one_thread_of_blas(start, tmp_path, monkeypatch):
    """CMA-ES decomposes its matrix again then; with more threads the bits could be others."""
    path, threads, load = tmp_path / "run", [], _Run.load

    def watched(run, path):
        threads.extend(found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas")
        load(run, path)

    whole = evolve(start, KernelFitness(*digits(), REFERENCES), QUERIES, checkpoint=path, filters=1, **SHORT)
    monkeypatch.setattr(_Run, "load", watched)
    with blas_threads(2):
        again = evolve(start, KernelFitness(*digits(), REFERENCES), QUERIES, checkpoint=path, resume=True,
                       filters=1, **SHORT)
    assert set(threads) == {1}
    assert again.seconds == whole.seconds > 0  # nothing was left to do


def test_checkpoints_of_other_runs_are_refused(fitness, start, tmp_path):
    path = tmp_path / "run"
    evolve(start, fitness, QUERIES, checkpoint=path, filters=1, **SHORT)
    with pytest.raises(FileError, match="exists"):
        evolve(start, fitness, QUERIES, checkpoint=path, filters=1, **SHORT)
    others = [({"seed": 1}, "seed"), ({"population": 7}, "population"), ({"method": "pso"}, "method")]
    for change, named in others:
        with pytest.raises(FileError, match=f"another run: its {named} is"):
            evolve(start, fitness, QUERIES, checkpoint=path, resume=True, **{"filters": 1, **SHORT, **change})
    with pytest.raises(FileError, match="images"):
        evolve(start, fitness, QUERIES[:50], checkpoint=path, resume=True, filters=1, **SHORT)
    with pytest.raises(FileError, match="start kernels"):
        evolve(banks.random(5, (3, 5)), fitness, QUERIES, checkpoint=path, resume=True, filters=1, **SHORT)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileError, match="damaged"):
        evolve(start, fitness, QUERIES, checkpoint=path, resume=True, filters=1, **SHORT)
    save_container(path, "elm-state", {}, {})
    with pytest.raises(FileError, match="elm-state"):
        evolve(start, fitness, QUERIES, checkpoint=path, resume=True, filters=1, **SHORT)


@pytest.mark.parametrize("mode", ["parallel", "serial"])
def test_processes_give_the_same_run(fitness, start, mode):
    expected = evolve(start, fitness, QUERIES, mode=mode, **SHORT)
    with workers.Processes(2) as over:
        assert_same(evolve(start, fitness, QUERIES, mode=mode, map=over, **SHORT), expected)


def dying(task):
    os._exit(1)


def test_a_worker_that_dies_ends_the_run_in_a_sentence():
    with workers.Processes(2) as over, pytest.raises(EnvironmentProblem, match="a worker process died"):
        over(dying, [1, 2, 3])


def test_progress_tells_the_best_fitness(fitness, start, capsys):
    found = evolve(start, fitness, QUERIES, filters=1, progress=True, **SHORT)
    assert f"best={found.logbook[-1]['best']:.4f}" in capsys.readouterr().err


def test_the_logbook_follows_deaps_idiom(fitness, start):
    book = evolve(start, fitness, QUERIES, filters=1, **SHORT).logbook
    assert book.select("generation") == [0, 1, 2]
    assert all(m <= x <= b for m, x, b in zip(book.select("mean"), book.select("max"), book.select("best")))
    assert "nevals" in str(book)


def test_conv1_comes_before_conv2_and_numbers_may_be_numpys(fitness, start):
    found = evolve(start, fitness, QUERIES, layers=("conv2", "conv1"), filters=np.int64(1), seed=np.int64(3), **SHORT)
    assert [record["layer"] for record in found.logbook] == ["conv1"] * 3 + ["conv2"] * 3


@pytest.mark.parametrize("change, message", [
    ({"method": "ga"}, "cma"), ({"mode": "both"}, "serial, parallel"), ({"layers": ("conv3",)}, "conv3"),
    ({"layers": ()}, "conv1, conv2"), ({"generations": 0}, "generations must be .* at least 1"),
    ({"population": 2}, "4 or more"),
    ({"sigma": 0}, "sigma"), ({"n_queries": 121}, "121"), ({"validation": QUERIES[:2]}, "validation"),
    ({"validation": np.arange(440, 460)}, "validation images must be indices in 0..449"),
    ({"validation": []}, "validation images must be a list"), ({"filters": 0}, "filters must be .* at least 1"),
    ({"filters": 6}, "first 6 filters were asked for, but there are 5"),
    ({"sweeps": 1.5}, "sweeps must be .* got 1.5"), ({"seed": -1}, "seed must be a whole number of at least 0")])
def test_plans_that_cannot_be_run(fitness, start, change, message):
    with pytest.raises(InputError, match=message):
        evolve(start, fitness, QUERIES, **change)


def test_kernels_come_back_as_they_went_in(fitness, start):
    found = evolve(start, fitness, QUERIES, filters=1, **SHORT).kernels
    assert type(found) is type(start) and [f.name for f in dataclasses.fields(found)] == ["conv1", "bias1", "conv2",
                                                                                          "bias2"]


@pytest.mark.parametrize("change", [
    lambda meta, arrays: arrays.pop("now.conv1"),
    lambda meta, arrays: arrays.update({"now.conv1": arrays["now.conv1"][:1]}),
    lambda meta, arrays: arrays.update({"0.centroid": np.zeros(3)}),
    lambda meta, arrays: meta.pop("stage"),
    lambda meta, arrays: meta["searches"][0].update(filter=99),
    lambda meta, arrays: meta["searches"][0]["strategy"].pop("random"),
    lambda meta, arrays: meta["searches"][0]["strategy"].update(sigma="wide")],
    ids=["no array", "short", "misshapen", "no stage", "filter", "no random", "text"])
def test_a_checkpoint_of_odd_content_is_refused(fitness, start, tmp_path, monkeypatch, change):
    path = tmp_path / "run"
    (tmp_path / ".run.part-ab12").touch()  # of a killed save
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 1)
        evolve(start, fitness, QUERIES, checkpoint=path, filters=1, **SHORT)
    meta, arrays = load_container(path, KIND)
    change(meta, arrays)
    save_container(path, KIND, meta, arrays)
    with pytest.raises(FileError, match=f"{path} is damaged"):
        evolve(start, fitness, QUERIES, checkpoint=path, resume=True, filters=1, **SHORT)
    assert [found.name for found in tmp_path.iterdir()] == ["run"]
