"""The lesson of paper 4 and its benchmarks, at their smallest."""
import numpy as np
import pytest


def test_the_talks_table_of_one_split(script, capsys):
    script("early_exit", "squeezenet", "--quick")
    out = capsys.readouterr().out
    for line in ("svm.first", "adaptive", "risk", "placed", "cdl"):
        assert f"quick.exit.{line}.squeezenet.accuracy" in out
    assert "quick.exit.speedup.squeezenet.frozen" in out and "quick.exit.curve_area.squeezenet" in out


@pytest.mark.slow
def test_heads_on_all_exits_of_a_few_digits(script, capsys):
    script("early_exit", "cifar10", "--quick")
    assert "quick.exit.cifar10.speedup" in capsys.readouterr().out


@pytest.mark.slow
def test_a_network_fine_tuned_on_a_few_digits(script, capsys):
    script("early_exit", "finetuned", "--quick")
    out = capsys.readouterr().out
    assert "quick.exit.speedup.mobilenet.finetuned" in out and "quick.exit.loss.mobilenet.finetuned" in out


@pytest.mark.slow
def test_the_lesson(script, capsys, tmp_path):
    script("early_exit")
    out = capsys.readouterr().out
    assert "last exit" in out and (tmp_path / "early_exit-work" / "early_exit.png").exists()


def test_a_split_takes_so_many_of_each_class_and_leaves_the_others():
    from lab.exits import split
    y = np.arange(60) % 3
    train, test = split(y, 5, seed=1)
    assert np.bincount(y[train]).tolist() == [5, 5, 5] and sorted([*train, *test]) == list(range(60))


def test_losses_are_counted_against_the_last_exit():
    import early_exit
    y = np.array([0, 0, 1, 1])
    first = np.array([[2, 0], [0, 2], [0, 2], [0.1, 0]])
    last = np.array([[1, 0], [1, 0], [0, 1], [1, 0]])
    found = early_exit.scored([first, last], [0.5, -np.inf], "margin", y, [1, 3])
    assert found["accuracy"] == 50 and found["loss"] == 25 and found["left"].tolist() == [3, 1]
    assert found["speedup"] == 3 / 1.5
