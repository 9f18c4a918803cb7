"""The experiment of paper 3 on digits, as one runs it: interrupted, resumed, with the published labels, refused."""
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "gunn.py"
FEW = ["--quick", "--images", "25", "--epochs", "2"]


def start(folder, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return subprocess.Popen([sys.executable, str(SCRIPT), *arguments], cwd=folder, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


@pytest.fixture
def interrupted(tmp_path):
    """A folder in which `train plain` was stopped by ctrl-c after its first epoch; (folder, what it said)."""
    process = start(tmp_path, "train", "plain", *FEW, "--seeds", "3", "--work", "work")
    state, patience = tmp_path / "work" / "plain-3.state", time.monotonic() + 600
    while not state.exists() and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    return tmp_path, finish(process)


@pytest.mark.timeout(900)  # three processes, which may share their cores with others
def test_a_run_that_was_interrupted_goes_on(interrupted):
    folder, (code, out, err) = interrupted
    assert code == 1 and "interrupted; `--resume` goes on" in err and "Traceback" not in err, err
    assert (folder / "work" / "plain-3.state").exists() and not (folder / "work" / "plain-3.figures.json").exists()

    code, out, err = finish(start(folder, "train", "plain", *FEW, "--seeds", "3", "--work", "work", "--resume"))
    assert code == 0, err
    assert "resumed work/plain-3.state after epoch" in err
    found = rows_of_quick(folder / "work")
    assert set(found) == {"gunn.3class.plain.test3000", "gunn.3class.plain.test100"}
    assert found["gunn.3class.plain.test3000"]["command"].startswith("python experiments/gunn.py train plain --seeds 3")

    code, out, err = finish(start(folder, "train", "plain", *FEW, "--seeds", "3", "--work", "whole"))
    assert code == 0, err
    runs = [json.loads((folder / work / "plain-3.figures.json").read_text()) for work in ("work", "whole")]
    for made in runs:
        del made["minutes"]
        for entry in made["history"]:
            del entry["seconds"]
    assert runs[0] == runs[1]  # bit for bit what an uninterrupted run gives
    assert len(runs[0]["history"]) == 2 and sum(runs[0]["answers_of_the_first_100"]) == 100
    assert (folder / "work" / "plain-3-0000.params").exists() and not (folder / "experiments").exists()


def rows_of_quick(work):
    """Rows by id of the result file that a quick run writes among its other files."""
    return {row["id"]: row for row in json.loads((work / "quick.json").read_text())["rows"]}


@pytest.mark.timeout(900)
def test_the_published_labels_beside_constant_answers(tmp_path):
    code, out, err = finish(start(tmp_path, "train", "as_published", "--quick", "--images", "25", "--epochs", "1"))
    assert code == 0, err
    found = rows_of_quick(tmp_path / "gunn-work")
    assert set(found) == {"gunn.3class.as_published.test100", "gunn.3class.constant_answer.as_published",
                          "gunn.3class.constant_answer.real"}
    seen = found["gunn.3class.as_published.test100"]["conditions"]
    assert seen["labels"] == "as-published" and seen["head"] == "printed" and seen["momentum"] == 0.99
    figures = seen["seeds"][0]
    always, share = figures["constant_answer_of_the_first_100"]
    assert found["gunn.3class.constant_answer.as_published"]["value"] == pytest.approx(100 * share) and always == 0
    assert sum(figures["answers_of_the_first_100"]) == 100 and len(figures["answers"]) == 3
    assert "gunn.3class.as_published.test100" in out


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A function that runs the script in this process."""
    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return run


@pytest.mark.parametrize("arguments, told", [
    (["train", "plane"], "invalid choice: 'plane'"), (["train"], "required: run"),
    ([], "params|speed|checkpoint|train"), (["train", "plain", "--head", "soft"], "invalid choice: 'soft'"),
    (["train", "plain", "--epochs", "3"], "with --epochs it is another run than plain: name a result file with --out")])
def test_calls_that_are_not(arguments, told, script, capsys):
    with pytest.raises(SystemExit) as stopped:
        script(*arguments)
    assert stopped.value.code == 2 and told in capsys.readouterr().err


def test_a_call_that_fails_says_one_sentence(script):
    with pytest.raises(SystemExit) as stopped:
        script("train", "plain", "--quick", "--images", "0")
    assert stopped.value.code.startswith("gunn.py: digits has") and stopped.value.code.endswith(
        "not 0 and 30 for validation")
