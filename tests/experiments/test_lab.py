"""The lab: a seed is a file that is made once, a row a function of all kept ones, a process of one's own answers."""
import json
import os
import sys

import numpy as np
import pytest
from lab import digest, in_a_process, in_turn, kept, main, memory, seeds, step, table

from mxelm.errors import EnvironmentProblem, FileError
from mxelm.files import locked
from mxelm.reporting import results

RUNS = {"plain": {"classes": 3, "images": 5000}, "control": {"classes": 3, "images": 4000}}


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A function that calls a script of two runs, whose `made` lists the seeds that were made."""
    monkeypatch.setattr(sys, "argv", ["toy.py"])
    monkeypatch.chdir(tmp_path)

    def one_seed(run, settings, seed, lab):
        if seed == 9:
            raise KeyboardInterrupt
        call.made.append((run, seed, lab.place(seed).name))
        return {"accuracy": settings["images"] / 100 + seed}

    def rows(run, settings, seeds, lab):
        beside = {seed.seed: seed["accuracy"] for seed in lab.kept("control")}
        gains = [seed["accuracy"] - beside[seed.seed] for seed in seeds if seed.seed in beside]
        return [results.over_seeds(f"toy.{run}.accuracy", [seed["accuracy"] for seed in seeds], "%", "higher"),
                results.over_seeds(f"toy.{run}.gain", gains, "%", "none",
                                   conditions={**settings, **({} if gains else {"reason": "no seed of both"})})]

    def call(*words):
        main("A toy.", RUNS, one_seed, rows, lesson=lambda lab: step("a lesson"), quick={"images": 200},
             argv=[*words, "--out", str(tmp_path / "out")])
        file = tmp_path / "out" / "toy.json"
        return {row["id"]: row for row in json.loads(file.read_text())["rows"]} if file.exists() else {}

    call.made = []
    return call


def test_rows_are_of_all_kept_seeds_and_none_is_made_twice(script):
    script("control", "--seeds", "1")
    assert not script("plain", "--seeds", "0", "1")  # a look writes no rows
    found = script("plain", "--seeds", "2", "--write")
    row, gain = found["toy.plain.accuracy"], found["toy.plain.gain"]
    assert (row["value"], row["std"], row["n"], gain["value"], gain["n"]) == (51, 1, 3, 10, 1)
    assert row["command"].endswith("toy.py plain --seeds 0 1 2")
    assert [made[:2] for made in script.made] == [("control", 1), ("plain", 0), ("plain", 1), ("plain", 2)]
    again = script("plain", "--seeds", "2", "--write")
    assert again == found and len(script.made) == 4
    script("plain", "--seeds", "2", "--fresh")
    assert len(script.made) == 5


def test_quick_rows_say_so_and_are_kept_apart(script, capsys):
    script("plain", "--quick")
    assert "quick.toy.plain.accuracy" in capsys.readouterr().out
    script("plain")
    assert script.made == [("plain", 0, f"plain-{digest({**RUNS['plain'], 'images': 200})}-0"),
                           ("plain", 0, f"plain-{digest(RUNS['plain'])}-0")]
    with pytest.raises(SystemExit) as stopped:
        script("plain", "--quick", "--write")
    assert stopped.value.code == 2


def test_an_interrupted_seed_is_no_finished_one(script, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        script("plain", "--seeds", "0", "9")
    assert stopped.value.code == 130 and "the same call goes on" in capsys.readouterr().err
    folder = tmp_path / "out" / "seeds" / "toy"
    assert [seed.seed for seed in seeds(folder, "plain", RUNS["plain"])] == [0]
    done = kept(folder, "plain", RUNS["plain"], 9, lambda: {"accuracy": 1.0})
    assert len(done.started) == 2 and done["accuracy"] == 1.0  # both processes that worked at it


def test_a_lesson_without_a_run(script, capsys):
    assert not script() and "a lesson" in capsys.readouterr().out and not script.made


def test_a_seed_belongs_to_one_process_and_one_kind_of_file(tmp_path):
    file = tmp_path / f"a-{digest({})}-0.json"
    lock = file.with_suffix(".lock")
    lock.touch()
    with locked(lock), pytest.raises(FileError, match="another process holds"):
        kept(tmp_path, "a", {}, 0, dict)
    kept(tmp_path, "a", {}, 0, lambda: {"x": 1})
    assert not lock.exists()
    file.write_text("[]")
    with pytest.raises(FileError, match="does not hold a seed: remove it"):
        kept(tmp_path, "a", {}, 0, dict)


def test_a_fresh_seed_that_fails_leaves_the_old_one(tmp_path):
    kept(tmp_path, "a", {}, 0, lambda: {"x": 1})
    with pytest.raises(ZeroDivisionError):
        kept(tmp_path, "a", {}, 0, lambda: {"x": 1 / 0}, fresh=True)
    assert seeds(tmp_path, "a", {})[0]["x"] == 1


def test_rows_tell_the_machine_and_commits_of_their_seeds(tmp_path):
    seed = kept(tmp_path, "a", {}, 0, lambda: {"x": 1})
    row = results.over_seeds("toy.a", [1.0], "%", "higher")
    assert "measured_on" not in results.from_seeds(row, "", [seed])["conditions"]
    seed.started[0].update(machine={"cpu": "another", "cores": 1, "memory": 2}, git="old", date="2026-01-02")
    told = results.from_seeds(row, "", [seed])
    assert told["conditions"]["measured_on"]["machine"]["cpu"] == "another"
    assert (told["git"], told["date"]) == ("old", "2026-01-02")


def _threads():
    return os.environ["OMP_NUM_THREADS"], os.getpid(), memory("VmHWM") > 0


def _exit():
    os._exit(3)


def test_a_process_of_its_own_answers(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads, process, has_memory = in_a_process(_threads, threads=2)
    assert threads == "2" and process != os.getpid() and has_memory and os.environ["OMP_NUM_THREADS"] == "1"
    with pytest.raises(EnvironmentProblem, match="_exit ended with code 3"):
        in_a_process(_exit)
    with pytest.raises(EnvironmentProblem, match="int: ValueError: invalid literal"):
        in_a_process(int, "x")


def test_calls_run_in_turn_and_the_first_round_is_not_counted():
    order, now = [], iter(range(100))
    found = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, clock=lambda: next(now))
    assert order == list("ababab") and found == {"a": 1.0, "b": 1.0}


def test_a_lesson_s_lines(capsys):
    step("1. draw W", W=np.zeros((2, 3), np.float32), spread=1.0, exits=["a"])
    table(["name", "accuracy / %"], [["raw", 93.2], ["evolved", 97.123]])
    out = capsys.readouterr().out
    assert "float32 (2, 3), 0 to 0" in out and "evolved" in out and "97.12" in out
