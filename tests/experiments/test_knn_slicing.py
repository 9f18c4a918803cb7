"""The lesson of paper 2 and its benchmarks: what a search sees, what rows make of seeds, engines that lie on disk."""
from types import SimpleNamespace

import numpy as np
import pytest
from lab import Seed
from lab.beside import p_value
from lab.knn_rows import evolved

from mxelm.reporting.statistics import mcnemar


@pytest.fixture
def lesson(monkeypatch):
    """The script, with fewer patches for its k-means kernels."""
    import knn_slicing

    from mxelm.knn_slicing import banks
    monkeypatch.setattr(banks, "PATCHES", 2000)
    return knn_slicing


def test_one_seed_evolves_and_judges_both_ends(lesson, lab, monkeypatch):
    few = [(images[:400], labels[:400]) for images, labels in lesson.mnist(lab(lesson, "cma"))]
    monkeypatch.setattr(lesson, "mnist", lambda lab: few)
    settings = {**lesson.SEARCH, **lesson.QUICK, "references": 200, "queries": 100, "filters": 1}
    found = lesson.one_seed("cma", settings, 0, lab(lesson, "cma"))
    assert found["evaluations"] == 9 and set(found) == {"evaluations", "minutes", "rounds", "start.4000",
                                                        "evolved.4000"}
    side = found["evolved.4000"]
    assert side["test_images"] == 400 and side["accuracy"]["test10000"] == 1 - len(side["wrong"]) / 400
    assert side["accuracy"]["test10000"] > 0.8 and set(side["accuracy"]) == {"test1000", "test10000"}


@pytest.mark.parametrize("run, on_test", [("cma", False), ("cma_on_test", True)])
def test_a_search_sees_no_test_image_but_where_it_says_so(lesson, monkeypatch, run, on_test):
    seen = []
    monkeypatch.setattr(lesson, "KernelFitness", lambda images, labels, *rest, **options: seen.append((images, labels)))
    monkeypatch.setattr(lesson, "evolve", lambda start, fitness, queries, validation, **plan: seen.append(
        (queries, validation)))
    train = np.arange(30_000), np.zeros(30_000)
    test = -1 - np.arange(10_000), np.zeros(10_000)
    lesson.search(None, train, test, lesson.RUNS[run], 0)
    (images, _), (queries, validation) = seen
    if on_test:
        assert sorted(images[queries]) == sorted(test[0][:1000]) and validation is None
    else:
        assert images.tolist() == list(range(30_000)) and queries.tolist() == list(range(4000, 10_000))
        assert validation.tolist() == list(range(10_000, 30_000))


def seed_of(number, rate, start=0.8, settings=None, rounds=()):
    rng, figures = np.random.default_rng(number), {"evaluations": 9, "minutes": 1.0, "rounds": list(rounds)}
    for many in (4000, 60000):
        for name, p in (("start", start), ("evolved", rate)):
            right = rng.random(10_000) < p
            figures[f"{name}.{many}"] = {
                "accuracy": {"test1000": right[:1000].mean(), "test9000": right[1000:].mean(),
                             "test10000": right.mean()},
                "wrong": np.flatnonzero(~right).tolist(), "test_images": 10_000}
    return Seed("", settings or {}, number, [], figures)


def test_rows_of_a_search(lesson):
    lab = SimpleNamespace(kept=lambda run: [seed_of(0, 0.5)] if run == "search" else [])
    rows = {row["id"]: row for row in lesson.rows("cma", lesson.SEARCH, [seed_of(0, 0.9), seed_of(1, 0.9)], lab)}
    assert set(rows) == {f"knn.cma.{many}.{cut}" for many in (4000, 60000) for cut in lesson.CUTS}
    row = rows["knn.cma.4000.test9000"]
    assert row["n"] == 2 and row["value"] == pytest.approx(row["conditions"]["test9000"]["evolved_mean"])
    told = row["conditions"]["test9000"]["mcnemar_p"]
    assert len(told["start"]) == 2 and len(told["search"]) == 1 and max(told["start"]) < 1e-6  # seed 1 of it is missing
    counts = row["conditions"]["test9000"]["mcnemar_counts"]["start"]
    assert len(counts) == 2 and np.diff(counts) == pytest.approx(  # what the evolved ones gain
        -9000 * (np.array([seed_of(n, 0.9)["evolved.4000"]["accuracy"]["test9000"] -
                           seed_of(n, 0.9)["start.4000"]["accuracy"]["test9000"] for n in (0, 1)])[:, None]))
    assert "training images only" in rows["knn.cma.4000.test1000"]["conditions"]["reason"]  # 90 where 97.5 is printed
    on_test, = lesson.rows("pso_on_test", {**lesson.ON_TEST, "method": "pso"}, [seed_of(0, 0.9)], lab)
    assert on_test["id"] == "knn.pso.fitness_on_test.4000"
    search = lesson.rows("search", lesson.RUNS["search"], [seed_of(0, 0.9)], lab)
    assert [row["id"] for row in search] == ["knn.baseline.search.4000", "knn.baseline.search.60000"]


def test_p_values_are_mcnemar_s():
    one, other = (seed_of(n, 0.9)["start.4000"] for n in (0, 1))
    rights = [np.isin(np.arange(10_000), side["wrong"], invert=True)[1000:] for side in (one, other)]
    assert p_value(one, other, slice(1000, None)) == mcnemar(*rights)


def test_a_refused_result_says_so(lesson):
    seeds = [seed_of(0, 0.9, rounds=[{"accepted": False}]), seed_of(1, 0.9, rounds=[{"accepted": True}])]
    row = evolved({"knn.a.b": "test9000"}, lesson.SEARCH, seeds, 4000, {})[0]
    assert "refused what 1 of 2 searches found" in row["conditions"]["reason"]


def test_banks_and_their_rows(lesson, lab):
    import knn_kernels
    settings = {**lesson.KNN, "bank": "random", "references": 300}
    found = knn_kernels.one_seed("random_4000", settings, 0, lab(knn_kernels, "random_4000"))
    assert found["plain"]["accuracy"]["test10000"] > 0.85 and found["deskewed"]["test_images"] == 539
    kept = {"random_4000": [Seed("", {}, 0, [], found)], "raw_4000": [Seed("", {}, 0, [], found)]}
    row, = knn_kernels.rows("random_4000", {**settings, "references": 4000}, kept["random_4000"], SimpleNamespace(
        quick=True, kept=lambda run: kept.get(run, [])))
    assert row["id"] == "knn.baseline.random.4000" and row["conditions"]["plain"]["mcnemar_p"] == {"raw": 1.0}


def test_sizes_are_the_talk_s(script, capsys):
    script("knn_networks", "sizes", "--quick")
    out = capsys.readouterr().out
    for line in ("quick.knn.params.128", "1,199,882 parameters", "18,816 parameters"):
        assert line in out


@pytest.mark.slow
@pytest.mark.parametrize("name, run, told", [
    ("small_engine", "75k", "quick.knn.engine.75k"), ("small_engine", "75k_held_out", "held-out images"),
    ("knn_fitness", "fitness", "quick.knn.fitness_speedup"), ("knn_kernels", "layer", "quick.knn.modes.layer"),
    ("knn_fitness", "inference", "quick.knn.inference_speedup.b32"),
    ("knn_networks", "8.4000_5", "quick.knn.accuracy")])
def test_a_trial_of_each_benchmark(script, capsys, name, run, told):
    script(name, run, "--quick")
    assert told in capsys.readouterr().out


@pytest.mark.slow
def test_the_lesson(script, capsys, tmp_path):
    script("knn_slicing")
    out = capsys.readouterr().out
    assert "evolved kernels" in out and (tmp_path / "knn_slicing-work" / "kernels.png").exists()
