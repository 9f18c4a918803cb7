"""accumulate, merge, subtract and solve: a model from shards, without seeing an image again."""
import json
from dataclasses import replace

import numpy as np
import pytest

from mxelm.cli import main
from mxelm.fused import ELMState, Predictor


@pytest.fixture
def run(capsys):
    """A function: the JSON that a command prints, or its sentence on stderr where `code` says that it must fail."""
    def call(*arguments, code=0):
        returned = main([*map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert returned == code, said.err
        return json.loads(said.out) if code == 0 else said.err

    return call


@pytest.fixture
def shards(run, tiny_checkpoint, image_folder, tmp_path):
    """Paths of a whole state and of three shards of it that use the same W."""
    common = ["--images", image_folder, "--checkpoint", tiny_checkpoint, "--neurons", 30]
    run("accumulate", *common, "--out", tmp_path / "whole.state")
    for i in (1, 2, 3):
        run("accumulate", *common, "--seed", i, "--like", tmp_path / "whole.state", "--shard", f"{i}/3", "--out",
            tmp_path / f"{i}.state")
    return tmp_path / "whole.state", [tmp_path / f"{i}.state" for i in (1, 2, 3)]


def test_merge_and_subtract(run, shards, tmp_path):
    whole, parts = shards
    assert run("merge", *parts, "--out", tmp_path / "sum.state")["n_samples"] == 36
    a, b = ELMState.load(whole), ELMState.load(tmp_path / "sum.state")
    np.testing.assert_allclose(a.HtH, b.HtH, rtol=1e-6, atol=1e-6 * np.abs(a.HtH).max())
    np.testing.assert_array_equal(a.samples, b.samples)
    run("subtract", tmp_path / "sum.state", parts[1], "--out", tmp_path / "rest.state")
    run("merge", parts[0], parts[2], "--out", tmp_path / "two.state")
    rest, two = ELMState.load(tmp_path / "rest.state"), ELMState.load(tmp_path / "two.state")
    np.testing.assert_allclose(rest.HtH, two.HtH, atol=1e-9 * np.abs(a.HtH).max())
    np.testing.assert_array_equal(rest.samples, two.samples)
    assert "share 12 samples" in run("merge", whole, parts[0], "--out", tmp_path / "x.state", code=1)
    assert "not in this state" in run("subtract", parts[0], parts[1], "--out", tmp_path / "x.state", code=1)
    assert not (tmp_path / "x.state").exists()


@pytest.mark.parametrize("way, criterion", [(["all"], "gcv"), (["all", "--folds"], "cv"), (["one"], "gcv"),
                                            (["one", "--validation"], "mse")])
def test_solve_without_an_image(run, shards, tiny_checkpoint, image_folder, tmp_path, way, criterion):
    whole, parts = shards
    states = parts if way[0] == "all" else parts[:1]
    extra = [*way[1:], *([parts[1]] if "--validation" in way else [])]
    said = run("solve", *states, *extra, "--picture", tmp_path / "grid.png", "--out",
               tmp_path / "model")
    assert said["choice"]["criterion"] == criterion and said["n_samples"] == 12 * len(states)
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert run("evaluate", tmp_path / "model", "--images", image_folder)["accuracy"] > 0.7


def test_solve_calibrates_on_images_held_out(run, shards, image_folder, tmp_path):
    from mxelm import data
    from mxelm.fused.confidence import fit_temperature
    images = data.load(image_folder)
    held_out = tmp_path / "held"
    learnt = set(map(bytes, ELMState.load(shards[1][0]).samples))
    for row, digest in enumerate(images.digests()):
        if bytes(digest) not in learnt:
            target = held_out / images.ids[row]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((image_folder / images.ids[row]).read_bytes())
    (held_out / "red" / "broken.png").write_bytes(b"no image")
    model = tmp_path / "model"
    solve = ["solve", shards[1][0], "--l2", 0.5, "--out", model, "--confidences"]
    said = run(*solve, held_out)
    assert [name for name, _ in said["skipped"]] == ["red/broken.png"]
    predictor, held = Predictor.load(str(model)), data.load(held_out)
    held = held.take([row for row in range(len(held)) if "broken" not in held.ids[row]])
    assert said["temperature"] == predictor.temperature == fit_temperature(predictor.scores(held), held.targets)
    answers = run("predict", model, held_out / held.ids[0])
    assert answers["temperature"] == said["temperature"]
    [best] = answers["predictions"].values()
    np.testing.assert_allclose([c for *_, c in best], np.sort(predictor.predict_proba(held.take([0]))[0])[::-1])
    model = tmp_path / "other"
    assert "12 of the 36 images" in run("solve", shards[1][0], "--out", model, "--confidences", image_folder, code=1)
    assert not list(tmp_path.glob("other*"))


def test_validation_must_be_of_the_same_run_and_of_other_images(run, shards, tiny_checkpoint, image_folder, tmp_path):
    whole, parts = shards
    run("accumulate", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--neurons", 40, "--out",
        tmp_path / "larger.state")
    solve = ["solve", parts[0], "--checkpoint", tiny_checkpoint, "--out", tmp_path / "model", "--validation"]
    assert "share 12 samples" in run(*solve, whole, code=1)
    assert "larger.state" in run(*solve, tmp_path / "larger.state", code=1)
    assert not list(tmp_path.glob("model*"))


def test_an_unfinished_state_is_told(run, shards, tiny_checkpoint, tmp_path, caplog):
    state = ELMState.load(shards[1][0])
    replace(state, progress={**state.progress, "of": 100}).save(tmp_path / "killed.state")
    run("solve", tmp_path / "killed.state", "--checkpoint", tiny_checkpoint, "--l2", 1, "--out", tmp_path / "model")
    assert "killed.state holds 12 of 100 images" in caplog.text


def test_solve_is_fit_with_the_same_numbers(run, shards, tiny_checkpoint, image_folder, tmp_path):
    whole, _ = shards
    run("solve", whole, "--checkpoint", tiny_checkpoint, "--l2", 0.5, "--neurons", 20, "--out", tmp_path / "a")
    run("fit", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--l2", 0.5, "--neurons", 30, "--out",
        tmp_path / "b", "--like", whole)
    a, b = (Predictor.load(str(tmp_path / name)).network.arg_params for name in "ab")
    np.testing.assert_array_equal(a["W"].asnumpy(), b["W"].asnumpy()[:20])
    assert a["beta"].shape == (3, 20) and b["beta"].shape == (3, 30)


def test_states_of_other_classes_merge_by_union(run, tiny_checkpoint, image_folder, tmp_path, shards):
    whole, _ = shards
    new = tmp_path / "new" / "violet"
    new.mkdir(parents=True)
    for path in (image_folder / "red").iterdir():
        (new / path.name).write_bytes(path.read_bytes() + b"\0")
    run("accumulate", "--images", tmp_path / "new", "--checkpoint", tiny_checkpoint, "--like", whole, "--out",
        tmp_path / "new.state")
    assert "classes" in run("merge", whole, tmp_path / "new.state", "--out", tmp_path / "x.state", code=1)
    said = run("merge", whole, tmp_path / "new.state", "--union-classes", "--out", tmp_path / "x.state")
    assert said["n_outputs"] == 4
    assert ELMState.load(tmp_path / "x.state").origin.classes == ("blue", "green", "red", "violet")
    said = run("subtract", tmp_path / "x.state", tmp_path / "new.state", "--out", tmp_path / "y.state")
    assert said["n_outputs"] == 4
    before, after = ELMState.load(whole), ELMState.load(tmp_path / "y.state")
    np.testing.assert_allclose(after.HtH, before.HtH, atol=1e-9 * np.abs(before.HtH).max())
    np.testing.assert_allclose(after.HtY, np.column_stack([before.HtY, np.zeros(len(before.HtY))]), atol=1e-9)
    assert "--union-classes" not in run("subtract", tmp_path / "new.state", whole, "--out", tmp_path / "z", code=1)
    run("subtract", whole, whole, "--out", tmp_path / "none.state")
    assert "no sample" in run("solve", tmp_path / "none.state", "--l2", 1, "--out", tmp_path / "model", code=1)
    assert "only class" in run("solve", tmp_path / "new.state", "--l2", 1, "--out", tmp_path / "model", code=1)


def test_damaged_and_foreign_states_are_named(run, shards, tiny_checkpoint, tmp_path):
    whole, parts = shards
    damaged = bytearray(whole.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (tmp_path / "damaged.state").write_bytes(damaged)
    assert "damaged.state" in run("merge", tmp_path / "damaged.state", parts[0], "--out", tmp_path / "x", code=1)
    (tmp_path / "cut.state").write_bytes(whole.read_bytes()[:-50])
    assert "cut.state" in run("solve", tmp_path / "cut.state", "--checkpoint", tiny_checkpoint, "--out", tmp_path / "m",
                              code=1)
    assert "note.txt" in run("merge", tmp_path / "note.txt", "--out", tmp_path / "x", code=1)


def test_solve_refuses_another_backbone(run, shards, tmp_path):
    from tiny_network import tiny_params, tiny_symbol

    from mxelm.backbones.checkpoint import save_checkpoint
    from mxelm.preprocessing import Preprocessing
    symbol = tiny_symbol()
    save_checkpoint(str(tmp_path / "other"), symbol, *tiny_params(symbol, seed=9), Preprocessing(
        (16, 16), "stretch", mean=100.0, scale=0.02).to_json())
    assert "not the backbone" in run("solve", shards[0], "--checkpoint", tmp_path / "other", "--out", tmp_path / "m",
                                     code=1)
