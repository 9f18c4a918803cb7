"""The experiment of paper 3 on digits, as one runs it: interrupted, resumed, with the published labels, refused."""
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mxelm import data
from mxelm.containers import load_container, save_container
from mxelm.errors import FileError, InputError
from mxelm.files import locked
from mxelm.gunn import tasks
from mxelm.training import KIND

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "gunn.py"
FEW = ["--quick", "--images", "25", "--epochs", "2"]
FEW_FILES = "plain,images=25,epochs=2,quick"  # what they are called


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
    state, patience = tmp_path / "work" / f"{FEW_FILES}-3.state", time.monotonic() + 600
    while not state.exists() and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    return tmp_path, finish(process)


@pytest.mark.timeout(900)  # three processes, which may share their cores with others
def test_a_run_that_was_interrupted_goes_on(interrupted):
    folder, (code, out, err) = interrupted
    assert code == 130 and "interrupted; `train` goes on" in err and "Traceback" not in err, err
    left = {path.name for path in (folder / "work").iterdir()}
    assert f"{FEW_FILES}-3.state" in left and f"{FEW_FILES}-3.figures.json" not in left

    code, out, err = finish(start(folder, "train", "plain", *FEW, "--seeds", "3", "--work", "work", "--resume"))
    assert code == 0, err
    assert f"resumed work/{FEW_FILES}-3.state after epoch" in err
    found = rows_of_quick(folder / "work")
    assert set(found) == {"gunn.3class.plain.test3000", "gunn.3class.plain.test100"}
    assert found["gunn.3class.plain.test3000"]["command"].startswith("python experiments/gunn.py train plain --seeds 3")

    code, out, err = finish(start(folder, "train", "plain", *FEW, "--seeds", "3", "--work", "whole"))
    assert code == 0, err
    runs = [json.loads((folder / work / f"{FEW_FILES}-3.figures.json").read_text()) for work in ("work", "whole")]
    for made in runs:
        del made["minutes"]
        for entry in made["history"]:
            del entry["seconds"]
    assert runs[0] == runs[1]  # bit for bit what an uninterrupted run gives
    assert len(runs[0]["history"]) == 2 and sum(runs[0]["answers_of_the_first_100"]) == 100
    assert (folder / "work" / f"{FEW_FILES}-3-0000.params").exists() and not (folder / "experiments").exists()
    assert (folder / "work" / f"{FEW_FILES}.png").exists()  # the learning curves


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


# what is made of finished seeds

@pytest.fixture
def whole(monkeypatch, tmp_path):
    """The script as a module, in an empty folder."""
    import gunn
    monkeypatch.chdir(tmp_path)
    return gunn


@pytest.fixture
def module(whole, monkeypatch):
    """The script whose seeds take no time; `module.trained` lists what was asked for, (name, seed)."""
    monkeypatch.setattr(whole, "trained", [], raising=False)

    def one_seed(name, settings, seed, args):
        whole.trained.append((name, seed))
        right = {"plain": 0.9, "printed": 0.4}.get(name, 0.7) + 0.01 * seed * (name == "plain")
        history = [{"epoch": epoch, "loss": 1.0, "accuracy": 0.5, "validation_accuracy": 0.5, "seconds": 60.0}
                   for epoch in range(1, min(settings["epochs"], 3) + 1)]
        save_container(args.work / f"{whole.runs.stem(name, args)}-{seed}.state", KIND,
                       {"history": history, "turn": len(whole.trained)}, {})
        return {"seed": seed, "test3000": right, "test100": right, "answers": [], "answers_of_the_first_100": [],
                "constant_answer": [0, 0.4], "constant_answer_of_the_first_100": [0, 0.4], "minutes": 1.0,
                "history": history}
    monkeypatch.setattr(whole.runs, "one_seed", one_seed)
    return whole


def rows_of(module, *arguments):
    """The rows that a call writes into a file of its own, by id."""
    module.main([*arguments, "--out", "rows/rows.json"])
    rows = {row["id"]: row for row in json.loads(Path("rows/rows.json").read_text())["rows"]}
    Path("rows/rows.json").unlink()
    return rows


def test_a_control_says_what_the_gradual_run_gains(module):
    rows_of(module, "train", "plain", "--seeds", "0", "2", "5")
    spoilt = Path("gunn-work/plain-5.figures.json")
    spoilt.write_text(spoilt.read_text().replace('"images": 5000', '"images": 4000'))  # another task: not compared
    rows = rows_of(module, "train", "sunn", "--seeds", "0", "1", "2", "5")
    for which in ("test3000", "test100"):
        assert rows[f"gunn.3class.sunn.{which}"]["n"] == 4
    gain = rows["gunn.3class.sunn.gain"]
    assert (gain["value"], gain["std"], gain["n"]) == (pytest.approx(21), pytest.approx(2 ** 0.5), 2)
    assert gain["conditions"]["seeds"] == [0, 2] and gain["conditions"]["by_seed"] == pytest.approx([20, 22])
    assert gain["conditions"]["reason"].startswith("2 seeds of both")
    assert Path("gunn-work/plain.png").exists() and Path("gunn-work/sunn.png").exists()
    alone = rows_of(module, "train", "original_sunn")["gunn.3class.original_sunn.gain"]
    assert alone["value"] is None and alone["conditions"]["reason"].startswith("0 seeds of both")


def test_finished_seeds_are_kept_apart_by_what_was_changed(module):
    rows_of(module, "train", "plain", "--resume")
    rows_of(module, "train", "plain", "--resume", "--layer", "sunn")
    rows_of(module, "train", "plain", "--resume", "--layer", "fast", "--seeds", "0", "1")  # the run's own layer
    assert module.trained == [("plain", 0), ("plain", 0), ("plain", 1)]
    assert Path("gunn-work/plain,layer=sunn-0.figures.json").exists()
    rows_of(module, "train", "plain")
    assert len(module.trained) == 4  # without --resume again from the start


@pytest.fixture
def merged(module):
    """A function: rows by id that `train ... --resume` leaves in one result file."""
    def run(*arguments):
        module.main(["train", *arguments, "--out", "rows.json", "--resume"])
        return {row["id"]: row for row in json.loads(Path("rows.json").read_text())["rows"]}

    return run


def test_seeds_that_the_result_file_tells_of_are_finished(module, merged):
    merged("plain", "--seeds", "0", "1")
    old = merged("sunn", "--seeds", "0", "1")
    for left in Path("gunn-work").iterdir():
        left.unlink()
    elsewhere = {"cpu": "another", "cores": 1, "memory": 2}
    content = json.loads(Path("rows.json").read_text())
    with_curves = [row for row in content["rows"] if "curves" in row["conditions"]]
    for seed in [seed for row in with_curves for seed in row["conditions"]["seeds"]]:
        seed["git"] = "older"
        del seed["machine"]  # which rows of old have not
    for curve in with_curves[0]["conditions"]["curves"] + with_curves[1]["conditions"]["curves"]:
        curve[:] = [entry[:3] for entry in curve]  # nor seconds
    Path("rows.json").write_text(json.dumps({**content, "machine": elsewhere}))
    found = merged("sunn", "--seeds", "0", "1", "2")
    assert module.trained[4:] == [("sunn", 2)]
    gain, row = found["gunn.3class.sunn.gain"], found["gunn.3class.sunn.test3000"]
    assert [gain[key] for key in ("value", "std", "n", "git")] == [
        *(old["gunn.3class.sunn.gain"][key] for key in ("value", "std")), 2, "older"]
    assert row["n"] == 3 and row["git"].startswith("older, ")
    seeds, curves = row["conditions"]["seeds"], row["conditions"]["curves"]
    assert curves[:2] == old["gunn.3class.sunn.test3000"]["conditions"]["curves"]
    assert [seed["machine"] == elsewhere for seed in seeds] == [True, True, False]


@pytest.mark.parametrize("run", ["plain", "batchnorm", "ten"])
@pytest.mark.parametrize("options", [[], ["--resume"], ["--epochs", "20"]])
def test_seeds_that_a_call_would_lose(module, merged, run, options):
    merged(run, "--seeds", "0", "2")
    before = Path("rows.json").read_text()
    with pytest.raises(InputError, match=rf"seeds of {run} that this call would lose: --resume --seeds 0 1 2 keeps th"):
        module.main(["train", run, "--seeds", "1", "--out", "rows.json", *options])
    assert Path("rows.json").read_text() == before
    assert merged("sunn", "--seeds", "2")["gunn.3class.sunn.test3000"]["n"] == 1  # another run's are not lost


def test_epochs_that_a_call_would_lose(module):
    for epochs, told in ((4, None), (3, "has printed after 4 epochs, which 3 would replace: name another"), (5, None)):
        call = ["train", "printed", "--epochs", str(epochs), "--out", "rows.json"]
        if told:
            with pytest.raises(InputError, match=told):
                module.main(call)
        else:
            module.main(call)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("epoch", [1, 0])
def test_a_training_that_overflows_is_scored_after_its_last_whole_epoch(whole, monkeypatch, epoch):
    def spoil(done):  # a rate that no parameter survives, in one epoch
        return 1e38 if done >= epoch / 2 else 1e-3
    monkeypatch.setitem(whole.runs.SCHEDULES, "constant", lambda peak: spoil)
    call = ["train", "as_published", "--quick", "--images", "50", "--work", "work"]
    if epoch == 0:
        with pytest.raises(InputError, match="not finite"):
            whole.main(call)
        return
    whole.main(call)
    row = rows_of_quick(Path("work"))["gunn.3class.as_published.test100"]
    assert "seed 0 is scored after epoch 1, for " in row["conditions"]["reason"]
    assert "not finite" in row["conditions"]["reason"] and "stopped early" not in row["conditions"]["reason"]
    assert len(row["conditions"]["curves"][0]) == 1
    assert 0 < row["conditions"]["seeds"][0]["largest_running_variance"] < np.inf


def test_gains_that_a_call_would_lose(module, merged):
    merged("plain")
    merged("sunn")
    with pytest.raises(InputError, match="gain of seed 0, for which elsewhere/plain-0.figures.json is missing"):
        module.main(["train", "sunn", "--out", "rows.json", "--work", "elsewhere"])
    assert merged("sunn", "--work", "elsewhere")["gunn.3class.sunn.gain"]["n"] == 1  # --resume takes it up
    assert module.trained == [("plain", 0), ("sunn", 0)]


def test_what_another_process_has_written_meanwhile_is_not_lost(module, monkeypatch):
    one_seed = module.runs.one_seed

    def slowly(name, settings, seed, args):
        if seed == 0:
            module.main(["train", "plain", "--seeds", "1", "--out", "rows.json"])
        return one_seed(name, settings, seed, args)
    monkeypatch.setattr(module.runs, "one_seed", slowly)
    with pytest.raises(InputError, match="--resume --seeds 0 1 keeps them"):
        module.main(["train", "plain", "--out", "rows.json"])
    module.main(["train", "plain", "--out", "rows.json", "--resume", "--seeds", "0", "1"])
    assert module.trained == [("plain", 1), ("plain", 0)]


def test_figures_of_other_settings_are_left_alone(module):
    rows_of(module, "train", "plain")
    file = Path("gunn-work/plain-0.figures.json")
    file.write_text(file.read_text().replace('"images": 5000', '"images": 4000'))
    with pytest.raises(FileError, match="plain-0.figures.json is of a run with other settings: remove it, or choose"):
        rows_of(module, "train", "plain", "--resume")
    assert file.exists()


def test_a_row_tells_the_commits_of_all_processes_that_trained(module, monkeypatch, tmp_path):
    begun, state = tmp_path / "run.begun.json", tmp_path / "run.state"
    steps = [("a", 0), ("b", 0), ("b", 2), (None, 3), ("c", 5)]  # commit, epochs done before: "a" and "c" did none
    for commit, after in steps:
        if after:
            save_container(state, KIND, {"history": [{}] * after}, {})
        monkeypatch.setattr(module.runs.results, "commit", lambda commit=commit: commit)
        monkeypatch.setattr(module.runs, "machine", lambda commit=commit: {"cpu": commit})
        module.runs.begin(begun, state, {"epochs": 5}, resume=True)
    assert module.runs.trained_by(begun, 5) == {"git": "b, from epoch 4 on unknown", "machine": {"cpu": None}}
    with pytest.raises(FileError, match="of a run with other settings: leave out --resume to begin anew"):
        module.runs.begin(begun, state, {"epochs": 6}, resume=True)
    module.runs.begin(begun, state, {"epochs": 6}, resume=False)
    assert module.runs.trained_by(begun, 6)["git"] == "c"
    assert not state.exists()  # which a resumed run would take for its own
    begun.unlink()
    save_container(state, KIND, {"history": [{}] * 4}, {})
    module.runs.begin(begun, state, {"epochs": 6}, resume=True)
    assert module.runs.trained_by(begun, 6)["git"] == "unknown, from epoch 5 on c"
    state.unlink()
    module.runs.begin(begun, state, {"epochs": 6}, resume=True)
    assert module.runs.trained_by(begun, 6)["git"] == "c"


def test_a_seed_belongs_to_one_process(module):
    rows_of(module, "train", "plain")
    with locked("gunn-work/plain-0.lock"):
        with pytest.raises(FileError, match="another process holds gunn-work/plain-0.lock"):
            module.main(["train", "plain", "--out", "rows.json"])
        assert rows_of(module, "train", "plain", "--seeds", "1")


@pytest.mark.parametrize("content", ["[]", "{}", "nothing"])
def test_a_figures_file_that_is_something_else(module, content):
    rows_of(module, "train", "plain")
    Path("gunn-work/plain-0.figures.json").write_text(content)
    for run in ("plain", "sunn"):
        with pytest.raises(FileError, match="plain-0.figures.json (does not hold the figures|is not a JSON file)"):
            module.main(["train", run, "--out", "rows.json", "--resume"])


def test_what_is_not_taken_up(module, merged):
    module.main(["train", "plain", "--out", "rows.json", "--epochs", "3"])  # other settings
    merged("plain")
    module.main(["train", "sunn", "--out", "rows.json", "--patience", "3"])
    merged("sunn")
    for end in ("figures.json", "state"):
        Path(f"gunn-work/plain-0.{end}").unlink()
    prefix = Path("gunn-work/plain-0")
    module.runs.begin(Path(f"{prefix}.begun.json"), f"{prefix}.state", module.runs.REPORT, False)  # and interrupted
    merged("plain")
    assert module.trained == [(name, 0) for name in ("plain", "plain", "sunn", "sunn", "plain")]


def test_what_the_softmax_costs_takes_finished_seeds_too(module):
    rows_of(module, "train", "printed", "--seeds", "0", "1")
    row = rows_of(module, "train", "printed_plain", "--seeds", "0", "1")["gunn.softmax_head"]
    assert row["value"] == pytest.approx(30) and row["n"] == 2
    assert [(seed["seed"], seed["plain"]["test3000"], seed["softmax"]["test3000"])
            for seed in row["conditions"]["seeds"]] == [(0, 0.7, 0.4), (1, 0.7, 0.4)]
    assert module.trained == [(name, seed) for name in ("printed", "printed_plain", "printed_plain-settled",
                                                        "printed-settled") for seed in (0, 1)]
    assert row["conditions"]["with_settled_statistics"] == {"plain": [0.7, 0.7], "softmax": [0.7, 0.7]}
    rows_of(module, "train", "printed", "--seeds", "0")  # other weights
    rows_of(module, "train", "printed_plain", "--seeds", "0", "1", "--resume")
    assert module.trained[8:] == [("printed", 0), ("printed-settled", 0)]
    Path("gunn-work/printed-1.state").unlink()  # figures alone
    row = rows_of(module, "train", "printed_plain", "--seeds", "0", "1", "--resume")["gunn.softmax_head"]
    assert row["conditions"]["with_settled_statistics"] == {"plain": [0.7, 0.7]}


def test_settled_statistics_need_the_weights(module):
    assert rows_of(module, "train", "batchnorm", "--epochs", "3")["gunn.batchnorm.running_statistics"]["value"] == 0
    Path("gunn-work/batchnorm,epochs=3-0.state").unlink()
    with pytest.raises(InputError, match="has the figures of batchnorm without its weights: leave out --resume"):
        rows_of(module, "train", "batchnorm", "--epochs", "3", "--resume")


@pytest.mark.timeout(600)
def test_what_lagging_statistics_cost_is_asked_of_the_same_weights(whole):
    whole.main(["train", "batchnorm", "--quick", "--images", "50"])
    row = rows_of_quick(Path("gunn-work"))["gunn.batchnorm.running_statistics"]
    told = row["conditions"]
    assert row["value"] == pytest.approx(100 * (told["settled"][0] - told["lagging"][0]))
    states = [load_container(f"gunn-work/batchnorm{name},images=50,quick-0.state", KIND)[1]
              for name in ("", "-settled")]
    moved = {name for name, values in states[0].items()
             if name.startswith("parameter.") and values.tobytes() != states[1][name].tobytes()}
    assert moved and all("running_" in name for name in moved)


def test_reasons_of_runs_that_are_shorter(module):
    row = rows_of(module, "train", "ten", "--epochs", "4", "--patience", "2")["gunn.10class"]
    reason = row["conditions"]["reason"]
    assert "300 on four GPUs" in reason and "4 of 6 epochs" in reason and "stopped early, after 3 epochs" in reason
    assert row["conditions"]["patience"] == 2 and "--epochs 4 --patience 2" in row["command"]
    own = rows_of(module, "train", "ten", "--epochs", "6")["gunn.10class"]
    assert "of 6 epochs" not in own["conditions"]["reason"] and "--epochs" not in own["command"]


def test_the_printed_recipe_tells_its_training_accuracies_and_how_short_it_was(module):
    rows = rows_of(module, "train", "printed", "--epochs", "2")
    assert {id.rsplit(".", 1)[1] for id in rows} == {"test3000", "test100", "train_last", "train_best"}
    lost = rows_of(module, "train", "printed_plain", "--epochs", "2")["gunn.softmax_head"]
    for row in (*rows.values(), lost):
        assert row["conditions"]["reason"] == "2 of 50 epochs: what there was time for"
        assert row["command"].endswith("--epochs 2 --out FILE")
    longer = rows_of(module, "train", "printed", "--epochs", "100")["gunn.3class.printed.test100"]
    assert "100 of 50" not in longer["conditions"]["reason"]


@pytest.mark.parametrize("run, ids", [("ten", {"gunn.10class"}), ("printed_plain", {"gunn.softmax_head"}), (
    "original_sunn", {f"gunn.3class.original_sunn.{which}" for which in ("test3000", "test100", "gain")})])
def test_what_did_not_fit_is_a_row_that_says_so(module, run, ids):
    rows = rows_of(module, "train", run, "--not-run", "a run takes three hours")
    assert set(rows) == ids and not module.trained
    for row in rows.values():
        assert row["value"] is None and row["conditions"]["reason"] == "not run: a run takes three hours"


def test_what_was_done_is_not_called_not_run(module, merged):
    merged("plain")
    with pytest.raises(InputError, match=r"rows.json has a figure of gunn.3class.plain.test100, which --not-run would"):
        module.main(["train", "plain", "--out", "rows.json", "--not-run", "no time"])


@pytest.mark.parametrize("run", ["plain", "sunn", "printed", "as_published", "printed_plain", "batchnorm", "ten"])
def test_a_run_writes_the_rows_that_its_names_say(module, run, monkeypatch):
    labels = {"real": np.arange(3).repeat([50, 30, 20]), "as-published": np.eye(3)[[0] * 83 + [1] * 17]}
    monkeypatch.setattr(module.runs, "load_task", lambda settings, args: (SimpleNamespace(
        test=SimpleNamespace(targets=labels[settings["labels"]])), None))
    rows = rows_of(module, "train", run)
    assert set(rows) == set(module.gunn_rows.ids(run, module.runs.RUNS[run]["classes"]))
    if run == "as_published":
        row = rows["gunn.3class.constant_answer.as_published"]
        assert (row["value"], row["conditions"]["answer"]) == (83, 0)
        assert row["conditions"]["labels_that_count_as_each_class"] == [83, 17, 0]


def test_patience_reaches_the_training(whole, monkeypatch):
    class Stop(Exception):
        pass

    def fit(*arguments, **options):
        assert options["patience"] == 3
        raise Stop
    monkeypatch.setattr(whole.runs, "build", lambda settings, seed: None)
    monkeypatch.setattr(whole.runs, "fit", fit)
    with pytest.raises(Stop):
        whole.main(["train", "plain", "--quick", "--patience", "3"])


@pytest.mark.parametrize("epochs, sizes", [(6, [16, 16, 24, 24, 32, 32]), (2, [24, 32]), (1, [32]), (3, [16, 24, 32])])
def test_images_grow_and_the_last_epoch_sees_them_whole(whole, epochs, sizes):
    images = data.load("digits").take(np.arange(20))
    settings = {**whole.runs.REPORT, "batch": 10, "epochs": epochs, "sizes": [16, 24, 32]}
    loader = whole.runs.training_loader(images, settings, tasks.PER_CHANNEL, 1)
    seen = []
    for epoch in range(epochs):
        loader.epoch = epoch
        batches = list(loader)
        assert len(batches) == len(loader) == 2
        seen.append({x.shape for x, _ in batches})
        order = np.random.default_rng([1, epoch]).permutation(20)  # that of whole images
        np.testing.assert_array_equal(np.concatenate([y.asnumpy() for _, y in batches]), images.targets[order])
    assert seen == [{(10, 3, size, size)} for size in sizes]


def test_the_reports_network_keeps_whole_images(module, monkeypatch):
    asked = []
    monkeypatch.setattr(module.runs, "finished", lambda name, settings, seed, args: asked.append(settings) or 1 / 0)
    for network in ("report", "original"):
        with pytest.raises(ZeroDivisionError):
            module.main(["train", "ten", "--network", network, "--out", "rows.json"])
    assert ["sizes" in settings for settings in asked] == [False, True]


def test_small_images_are_shifted_by_an_eighth_too(whole):
    settings = {**whole.runs.REPORT, "sizes": [16, 32]}
    loader = whole.runs.training_loader(data.load("digits").take(np.arange(4)), settings, tasks.PER_CHANNEL, 0)
    small, large = loader.identity
    assert "'pad': 2" in small["augmentation"] and "'pad': 4" in large["augmentation"]
    assert (small["preprocessing"]["size"], small["shuffle"]) == ((16, 16), 0)


# calls that are refused

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
    (["train", "plain", "--epochs", "3"], "with --epochs it is another run than plain: name a result file with --out"),
    (["train", "plain", "--epochs", "0"], "--epochs: '0' is not a whole number of at least 1"),
    (["train", "plain", "--peak", "0"], "--peak: '0' is not a number above 0"),
    (["train", "plain", "--patience", "-1"], "--patience: '-1' is not a whole number of at least 1"),
    (["train", "plain", "--seeds", "1", "1"], "seeds: each once, not 1 1"),
    (["train", "plain", "--seeds", "-1"], "--seeds: '-1' is not a whole number from 0")])
def test_calls_that_are_not(arguments, told, script, capsys):
    with pytest.raises(SystemExit) as stopped:
        script(*arguments)
    assert stopped.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.parametrize("arguments, told", [
    (["plain", "--quick", "--classes", "11"], "gunn.py: digits has classes 0..9, not 10"),
    (["printed", "--quick", "--network", "original"], "gunn.py: the original's network ends in one linear layer"),
    (["batchnorm", "--quick", "--network", "original"], "gunn.py: the original's network ends in one linear layer"),
    (["plain", "--out", "a-file/rows.json"], "gunn.py: cannot make the folder a-file")])
def test_a_call_that_fails_says_one_sentence(arguments, told, script, tmp_path):
    (tmp_path / "a-file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        script("train", *arguments)
    assert stopped.value.code.startswith(told)


@pytest.mark.parametrize("case", ["network", "layers"])
def test_a_quick_timing_measures_both_forms(module, case):
    times = module.gunn_speed.times(case, "imperative", quick=True)
    assert set(times) == {"step-by-step", "fast"} and min(times.values()) > 0


def test_peak_memory_is_measured_in_a_process_of_its_own(module):
    speed = module.gunn_speed
    step, fast = (speed.child("peak", "network", [form, "hybridized"], True) for form in speed.FORMS)
    assert step > fast > 0
