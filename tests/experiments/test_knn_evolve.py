"""Evolution's part of paper 2's experiment on digits: rows under their ids, finished seeds kept, votes equal."""

import numpy as np
import pytest

from mxelm.errors import InputError


@pytest.mark.parametrize("words, ids", [
    (["--method", "cma"], ["knn.cma.4000.test1000", "knn.cma.60000.test10000"]),
    (["--method", "pso", "--deskew"], ["knn.pso.60000.test10000.deskewed", "knn.pso.4000.test1000.deskewed"]),
    (["--method", "cma", "--fitness-on-test", "--fitness", "accuracy"], ["knn.cma.fitness_on_test.4000"]),
    (["--method", "random"], ["knn.baseline.search.60000"]),
    (["--method", "sepcma", "--mode", "layer"], [])], ids=lambda words: " ".join(words))
def test_evolve(rows, tmp_path, words, ids):
    found = rows("evolve", "--seeds", "1", *words)
    assert set(ids) <= set(found) and bool(ids) == bool(found)
    for id in ids:
        assert found[id]["value"] > 85 and found[id]["conditions"]["evaluations"] > 0
    assert len(list(tmp_path.glob("evolved-*.png"))) == 2


@pytest.fixture
def rows_of(tmp_path):
    """A function: rows of two made-up seeds, by id, for the words of `evolve`."""
    import knn_evolve
    import knn_slicing

    def made(*words, better=0.9):
        args = knn_slicing.parsed(["evolve", *words, "--work", str(tmp_path)])
        settings, rng = knn_evolve.settings_of(args), np.random.default_rng(0)
        done = [({"seed": seed, "seconds": 1.0, "evaluations": 9, "rounds": []},
                 {f"{name}.{many}": rng.random(10_000) < p for name, p in (("start", 0.8), ("evolved", better))
                  for many in knn_evolve.sizes_of(settings)}) for seed in range(2)]
        for meta, right in done:
            knn_evolve.save_container(tmp_path / f"{knn_evolve.name_of(settings)}-{meta['seed']}", "knn-evolved", meta,
                                      right)
        return {row["id"]: row for row in knn_evolve.rows_of(args, settings, done)}

    return made


@pytest.mark.parametrize("words", [["--deskew"], ["--method", "random"]], ids=" ".join)
def test_fitness_on_test_has_one_id_and_no_other(rows_of, words):
    assert set(rows_of("--fitness-on-test")) == {"knn.cma.fitness_on_test.4000"}
    assert not rows_of("--fitness-on-test", *words)


def test_mcnemar_against_the_start_and_other_methods(rows_of):
    alone = rows_of("--method", "random", better=0.5)["knn.baseline.search.4000"]["conditions"]
    assert set(alone["test9000"]["mcnemar_p"]) == {"start"}
    row = rows_of("--method", "cma")["knn.cma.4000.test1000"]
    assert set(row["conditions"]["test9000"]["mcnemar_p"]) == {"start", "search"}
    assert all(p < 1e-6 for values in row["conditions"]["test9000"]["mcnemar_p"].values() for p in values)
    assert "training images only" in row["conditions"]["reason"]  # 90 % where the talk prints 97.5


def test_mcnemar_against_baselines_that_are_kept(rows_of, tmp_path):
    import knn_baselines
    for seed in range(2):
        knn_baselines.save_container(tmp_path / f"baseline-pca-plain-mnist-4000-{seed}", "knn-baseline", {},
                                     {"right": np.arange(10_000) % 2 == 0})
    knn_baselines.save_container(tmp_path / "baseline-raw-plain-mnist-4000-0", "knn-baseline", {},
                                 {"right": np.arange(10_000) % 2 == 0})  # knows no chance: one seed stands for all
    knn_baselines.save_container(tmp_path / "baseline-random-plain-mnist-4000-0", "knn-baseline", {},
                                 {"right": np.arange(10_000) % 2 == 0})  # seed 1 is missing
    found = rows_of()["knn.cma.4000.test9000"]["conditions"]["test9000"]["mcnemar_p"]
    assert set(found) == {"start", "pca", "raw"} and all(len(p) == 2 for p in found.values())
    deskewed = rows_of("--deskew")["knn.cma.4000.test9000.deskewed"]
    assert set(deskewed["conditions"]["test9000"]["mcnemar_p"]) == {"start"}


def test_a_refused_result_says_so(rows_of):
    import knn_evolve
    assert "refused" not in rows_of()["knn.cma.4000.test9000"]["conditions"].get("reason", "")
    refused = [{"rounds": [{"accepted": False}]}, {"rounds": [{"accepted": True}]}, {"rounds": []}]
    assert knn_evolve.refusals([(meta, None) for meta in refused]).startswith(
        "the validation images refused what 1 of 3 searches found")


@pytest.mark.parametrize("words", [["--mode", "parallel"], ["--start", "random"], ["--generations", "3"],
                                   ["--fitness", "accuracy"], ["--layers", "conv1", "conv2"]], ids=" ".join)
def test_another_search_than_the_table_s_has_no_row(rows_of, capsys, words):
    assert not rows_of(*words)
    assert "another search than the table's" in capsys.readouterr().out


def test_only_parallel_searches_can_be_shared(knn_slicing, tmp_path):
    with pytest.raises(InputError, match="--workers and --cluster need --mode parallel"):
        knn_slicing.main(["evolve", "--quick", "--workers", "2", "--work", str(tmp_path)])


def test_evolve_goes_on_from_finished_seeds(rows, monkeypatch):
    first = rows("evolve", "--seeds", "1")
    import knn_evolve
    monkeypatch.setattr(knn_evolve, "search", None)
    assert rows("evolve", "--seeds", "1")["knn.cma.4000.test1000"]["value"] == first["knn.cma.4000.test1000"]["value"]


def test_processes_give_the_same_kernels(rows, tmp_path):
    rows("evolve", "--seeds", "1", "--mode", "parallel")
    kernels = {path: path.read_bytes() for path in tmp_path.glob("*.kernels")}
    for path in tmp_path.glob("evolved-*"):
        path.unlink()
    rows("evolve", "--seeds", "1", "--mode", "parallel", "--workers", "2")
    from mxelm.knn_slicing.kernels import Kernels
    (path, content), = kernels.items()
    again = Kernels.load(path)
    path.write_bytes(content)
    assert (Kernels.load(path).conv2 == again.conv2).all()


def test_the_search_sees_no_test_image(rows, monkeypatch):
    import knn_evolve
    seen, real = [], knn_evolve.KernelFitness

    class watched(real):
        def __init__(self, images, *rest):
            seen.append(images)
            super().__init__(images, *rest)

    monkeypatch.setattr(knn_evolve, "KernelFitness", watched)
    for words in ([], ["--fitness-on-test"]):
        rows("evolve", "--seeds", "1", *words)

    class args:
        quick = True

    train, test = ({image.tobytes() for image in part.source.images} for part in knn_evolve.load_mnist(args))
    for images, on_test in zip(seen, (False, True)):
        there = {image.tobytes() for image in images}
        assert (there <= train) is not on_test and bool(there & (test - train)) is on_test


def test_cost(rows):
    found = rows("fitness")
    speedup = found["knn.fitness_speedup"]
    assert speedup["conditions"]["votes_equal"] == speedup["conditions"]["votes"] == 8 * 60
    assert speedup["value"] > 0 and found["knn.evolution_minutes"]["conditions"]["filters_run"] == 2
