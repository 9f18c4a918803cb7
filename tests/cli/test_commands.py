"""The command line as a process: what it prints, writes and refuses."""
import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mxelm.cli import COMMANDS, main


def mxelm(*arguments, cwd=None, **options):
    return subprocess.run([sys.executable, "-m", "mxelm", *map(str, arguments)], cwd=cwd, capture_output=True,
                          text=True, timeout=120, **options)


@pytest.fixture
def refused(capsys):
    """A function: the one sentence on stderr of a command that must fail without a traceback; in this process."""
    def run(*arguments, code=1):
        try:
            returned = main([*map(str, arguments)])
        except SystemExit as stop:
            returned = stop.code
        said = capsys.readouterr().err
        assert returned == code and "Traceback" not in said, said
        assert code == 2 or len(said.strip().splitlines()) == 1, said
        return said

    return run


@pytest.fixture
def trained(tiny_checkpoint, image_folder, tmp_path):
    done = mxelm("fit", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--neurons", 40, "--out",
                 tmp_path / "model", "--state", tmp_path / "a.state", "--json")
    assert done.returncode == 0, done.stderr
    return str(tmp_path / "model"), json.loads(done.stdout)


def test_help_loads_no_mxnet():
    code = ("import sys\nfrom mxelm.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            "assert not {'mxnet', 'gluoncv', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout and "verify" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and "--json" in capsys.readouterr().out


def test_an_error_is_one_line_and_exit_code_1(tmp_path):
    done = mxelm("info", tmp_path / "nothing")
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1 and "nothing" in done.stderr


def test_a_missing_module_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)  # as in an environment of NumPy and Pillow alone
    monkeypatch.delitem(sys.modules, "mxelm.knn_slicing.engine.build", raising=False)
    monkeypatch.delitem(sys.modules, "mxelm.knn_slicing.kernels", raising=False)
    assert main(["engine", "build", "--out", str(tmp_path / "a.engine")]) == 1
    assert "the module sklearn.cluster is missing: install mxelm with what it needs" in capsys.readouterr().err


def test_fit_predict_evaluate_info(trained, image_folder, tmp_path):
    prefix, result = trained
    assert result["n_samples"] == 36 and result["classes"] == 3
    assert result["state_bytes"] == 8 * (40 * 41 // 2 + 40 * 3)
    one = image_folder / "red" / "image_00.png"
    said = json.loads(mxelm("predict", prefix, one, "--top", 2, "--json").stdout)
    assert len(said["predictions"][str(one)]) == 2
    assert said["predictions"][str(one)][0][1] >= said["predictions"][str(one)][1][1]
    done = mxelm("evaluate", prefix, "--images", image_folder, "--out", tmp_path / "confusion", "--json")
    score = json.loads(done.stdout)
    assert score["accuracy"] > 0.8 and set(score["per_class"]) == {"blue", "green", "red"}
    table = [line.split(",") for line in (tmp_path / "confusion.csv").read_text().splitlines()]
    counts = np.array([row[1:] for row in table[1:]], int)
    assert counts.sum() == 36 and np.trace(counts) / 36 == pytest.approx(score["accuracy"])
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(mxelm("info", prefix, "--json").stdout)["kind"] == "predictor"
    assert json.loads(mxelm("info", tmp_path / "a.state", "--json").stdout)["n_samples"] == 36
    arrays = json.loads(mxelm("info", f"{prefix}-0000.params", "--json").stdout)["arrays"]
    assert arrays["beta"].startswith("float32 (3,")


@pytest.mark.slow
def test_like_takes_the_same_W(trained, tiny_checkpoint, image_folder, tmp_path):
    from mxelm.fused import ELMState
    done = mxelm("fit", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--seed", 7, "--l2", "1",
                 "--like", tmp_path / "a.state", "--out", tmp_path / "other", "--state", tmp_path / "b.state", "--json")
    assert done.returncode == 0, done.stderr
    a, b = (ELMState.load(tmp_path / f"{name}.state") for name in "ab")
    assert a.origin.projection == b.origin.projection
    np.testing.assert_allclose(a.HtH, b.HtH, rtol=1e-5, atol=1e-5 * np.abs(a.HtH).max())


def test_text_output_names_the_files(tiny_checkpoint, image_folder, tmp_path):
    done = mxelm("fit", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--neurons", 10, "--out", "m",
                 cwd=tmp_path)
    assert done.returncode == 0 and "wrote m-symbol.json" in done.stdout
    assert "[" not in done.stderr.split("accumulate")[0]  # nothing of MXNet's own log


BAD_FIT = [
    (["--checkpoint", "{tmp}/nowhere"], 1, "nowhere"),
    (["--neurons", "0"], 2, "at least 1"),
    (["--neurons", "9" * 13], 1, "not enough memory"),
    (["--seed", "-1"], 2, "from 0"), (["--seed", "4294967296"], 2, "to 4294967295"),
    (["--out", ""], 2, "does not end in a name"),
    (["--out", "{tmp}/"], 2, "does not end in a name"),
    (["--out", "{tmp}/checkpoint/tiny"], 1, "is the checkpoint that is read"),
    (["--l2", "-1"], 2, ">= 0"),
    (["--l2", "nan"], 2, ">= 0"),
    (["--validation", "0"], 1, "between 0 and 1"),
    (["--out", "{tmp}/no/such/folder/model"], 1, "no/such/folder"),
    (["--images", "{tmp}/empty"], 1, "empty"),
    (["--images", "{tmp}/missing"], 1, "missing"),
    (["--cut", "fc9_output"], 1, "fc9_output"),
    (["--ctx", "gpu"], 1, "gpu"),
    (["--ctx", "tpu"], 1, "tpu"),
    (["--spread", "0"], 1, "spread"),
    (["--like", "{tmp}/images/red/image_00.png"], 1, "image_00.png"),
]


@pytest.mark.parametrize("change, code, word", BAD_FIT, ids=[" ".join(c[0]) for c in BAD_FIT])
def test_fit_refuses(refused, tiny_checkpoint, image_folder, tmp_path, change, code, word):
    (tmp_path / "empty").mkdir()
    arguments = {"--images": str(image_folder), "--checkpoint": tiny_checkpoint, "--neurons": "10",
                 "--out": str(tmp_path / "model")}
    arguments.update({change[0]: change[1].replace("{tmp}", str(tmp_path))})
    assert word in refused("fit", "--json", *[word for pair in arguments.items() for word in pair], code=code)
    assert not list(tmp_path.glob("model*"))


@pytest.mark.parametrize("content, word", [
    ("path,label\nimages/red/image_00.png,\nimages/red/image_01.png,1\n", "list.csv"),
    ("path,a,b\nimages/red/image_00.png,nan,1\nimages/red/image_01.png,0.5,1\n", "list.csv"),
    ("path,label\nimages/red/missing.png,0\nimages/red/image_01.png,1\nimages/red/image_02.png,1\n", "missing.png"),
])
def test_fit_refuses_lists(refused, tiny_checkpoint, image_folder, tmp_path, content, word):
    (tmp_path / "list.csv").write_text(content)
    assert word in refused("fit", "--images", tmp_path / "list.csv", "--checkpoint", tiny_checkpoint, "--neurons", 10,
                           "--l2", 1, "--json", "--out", tmp_path / "model")


def test_broken_image_is_named_or_skipped(refused, tiny_checkpoint, image_folder, tmp_path):
    (image_folder / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not an image")
    common = ["fit", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--neurons", 10, "--json",
              "--out", tmp_path / "model"]
    assert "broken.jpg" in refused(*common)
    done = mxelm(*common, "--skip-bad")
    assert done.returncode == 0 and [s[0] for s in json.loads(done.stdout)["skipped"]] == ["red/broken.jpg"]


def test_truncated_params_are_named(refused, tiny_checkpoint, image_folder, tmp_path):
    params = f"{tiny_checkpoint}-0000.params"
    with open(params, "r+b") as file:
        file.truncate(os.path.getsize(params) - 100)
    assert "tiny-0000.params" in refused("fit", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--json",
                                         "--out", tmp_path / "model")


def test_a_class_with_one_image_is_trained_on(tiny_checkpoint, image_folder, tmp_path):
    (image_folder / "single").mkdir()
    (image_folder / "red" / "image_00.png").rename(image_folder / "single" / "image_00.png")
    done = mxelm("fit", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--neurons", 10, "--out",
                 tmp_path / "model", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["classes"] == 4


def test_strange_images_pass(tiny_checkpoint, image_folder, tmp_path):
    from PIL import Image
    rng = np.random.default_rng(0)
    for mode, shape, ending in (("L", (30, 20), "png"), ("CMYK", (30, 20, 4), "jpg"), ("RGBA", (30, 20, 4), "png"),
                                ("RGB", (1, 1, 3), "png"), ("RGB", (1, 1, 3), "jpg")):
        array = rng.integers(0, 255, shape).astype(np.uint8)
        Image.fromarray(array, mode).save(image_folder / "red" / f"strange_{mode}_{shape[0]}.{ending}")
    done = mxelm("fit", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--neurons", 10, "--out",
                 tmp_path / "model", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["n_samples"] == 41, done.stderr


def test_evaluate_refuses_unknown_classes(refused, trained, image_folder):
    (image_folder / "red").rename(image_folder / "violet")
    assert "violet" in refused("evaluate", trained[0], "--json", "--images", image_folder)


def test_predict_refuses_what_is_no_image(refused, trained, image_folder, tmp_path):
    (tmp_path / "note.txt").write_text("hello")
    assert "note.txt" in refused("predict", trained[0], image_folder / "red" / "image_00.png", tmp_path / "note.txt")


def test_predict_names_an_image_that_cannot_be_brought_to_size(refused, tiny_checkpoint, image_folder, tmp_path):
    from mxelm.preprocessing import Preprocessing
    (tmp_path / "none.json").write_text(json.dumps(Preprocessing((16, 16), "none").to_json()))
    for image in image_folder.rglob("*.png"):
        cv2.imwrite(str(image), cv2.resize(cv2.imread(str(image)), (16, 16)))
    model = tmp_path / "model"
    assert main(["fit", "--images", str(image_folder), "--checkpoint", tiny_checkpoint, "--neurons", "5", "--json",
                 "--preprocessing", str(tmp_path / "none.json"), "--out", str(model)]) == 0
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((17, 16), np.uint8))
    assert "large.png: an image of 17x16" in refused("predict", model, tmp_path / "large.png")


def test_a_folder_that_is_called_like_a_known_set_is_read(tiny_checkpoint, image_folder, monkeypatch, capsys):
    image_folder.rename(image_folder.with_name("digits"))
    monkeypatch.chdir(image_folder.parent)
    assert main(["accumulate", "--images", "digits", "--checkpoint", tiny_checkpoint, "--neurons", "5", "--json",
                 "--out", "a.state"]) == 0
    assert json.loads(capsys.readouterr().out)["n_samples"] == 36


def test_whole_numbers_can_be_quantities(tiny_checkpoint, image_folder, tmp_path, refused, capsys):
    rows = [f"images/{c}/image_0{i}.png,{1000 * i}" for c in ("red", "green") for i in range(6)]
    (tmp_path / "prices.csv").write_text("\n".join(["path,price", *rows]))
    listed = ["--images", str(tmp_path / "prices.csv"), "--kind", "regression"]
    assert main(["fit", *listed, "--checkpoint", tiny_checkpoint, "--neurons", "5", "--json", "--out",
                 str(tmp_path / "model")]) == 0
    assert json.loads(capsys.readouterr().out)["choice"]["criterion"] == "gcv"
    assert main(["evaluate", str(tmp_path / "model"), *listed]) == 0
    assert "mean squared error" in capsys.readouterr().out
    assert "no confusion matrix" in refused("evaluate", tmp_path / "model", *listed, "--out", tmp_path / "matrix")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command, said", [("fit", "nothing half-written"), ("accumulate", "keeps 8 of 36 images")])
def test_an_interrupt_is_clean(tiny_checkpoint, image_folder, tmp_path, monkeypatch, capsys, command, said, number):
    from mxelm.fused.accumulator import FusedAccumulator
    update = FusedAccumulator.update

    def interrupted(accumulator, *batch):
        update(accumulator, *batch)
        if accumulator.n_samples == 8:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(FusedAccumulator, "update", interrupted)
    code = main([command, "--images", str(image_folder), "--checkpoint", tiny_checkpoint, "--neurons", "5", "--batch",
                 "4", "--out", str(tmp_path / "model")])
    told = capsys.readouterr().err
    assert code == 128 + number and "interrupted" in told and said in told and len(told.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.glob("*model*")] == (["model"] if command == "accumulate" else [])


def test_nothing_given_is_help_and_all_that_is_missing_is_told(capsys):
    assert main([]) == 2 and "fit" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fit"])
    told = capsys.readouterr().err
    assert "--images PATH | --data NAME" in told and "--out PREFIX" in told and len(told.splitlines()) == 2
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    assert "default: None" not in capsys.readouterr().out


def test_a_full_output_is_one_line(tiny_checkpoint):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "mxelm", "verify", tiny_checkpoint], stdout=full,
                              stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "No space left" in done.stderr


def test_evaluate_answers_for_all_but_the_bad_ones(trained, image_folder, capsys):
    (image_folder / "red" / "bad.jpg").write_text("<html>404</html>")
    evaluate = ["evaluate", trained[0], "--images", str(image_folder)]
    assert main(evaluate) == 1
    told = capsys.readouterr().out
    assert "36 images" in told and told.count("skipped red/bad.jpg") == 1
    assert main([*evaluate, "--skip-bad"]) == 0


def test_predict_answers_for_all_but_the_bad_ones(trained, image_folder, tmp_path, capsys):
    (image_folder / "red" / "bad.jpg").write_text("<html>404</html>")
    good, bad = image_folder / "red" / "image_00.png", image_folder / "red" / "bad.jpg"
    assert main(["predict", trained[0], str(good), str(bad)]) == 1
    told = capsys.readouterr()
    assert str(good) in told.out and "%" in told.out and told.err.count(str(bad)) == 1 and "--skip-bad" not in told.err
    assert main(["predict", trained[0], str(image_folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "image,class,confidence,score" and len(lines) == 37
    assert main(["predict", trained[0], str(good), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["predictions"][str(good)][0][2] > 1 / 3 and result["failed"] == {} and result["temperature"] > 0


def test_info_of_a_model_with_a_graph_in_it_is_a_summary(tmp_path, capsys):
    from mxelm.knn_slicing import SlicedClassifier, banks
    rng = np.random.default_rng(0)
    model = SlicedClassifier(banks.random(0, filters=(4, 6)), k=1)
    model.fit(rng.integers(0, 256, (6, 28, 28), dtype=np.uint8), np.arange(6) % 2).save(tmp_path / "sliced.model")
    assert main(["info", str(tmp_path / "sliced.model")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 30 and max(map(len, lines)) < 250 and any("letters)" in line for line in lines)


def test_any_checkpoint_with_classes_predicts_and_is_evaluated(tiny_checkpoint, image_folder, capsys):
    image = str(image_folder / "red" / "image_00.png")
    assert main(["predict", tiny_checkpoint, image, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["predictions"][image]
    assert 0 < answers[0][2] <= 1


def test_what_is_there_is_replaced_and_said(trained, tiny_checkpoint, image_folder, caplog, capsys):
    assert main(["fit", "--images", str(image_folder), "--checkpoint", tiny_checkpoint, "--neurons", "5", "--l2", "1",
                 "--out", trained[0]]) == 0
    assert "will be replaced" in caplog.text


def test_photographs_through_the_small_network_are_not_silent(image_folder, tmp_path, caplog):
    from mxelm import data
    from mxelm.fused.job import usual_backbone
    assert usual_backbone(data.load(str(image_folder))) == "inception_small" and not caplog.text
    cv2.imwrite(str(image_folder / "blue" / "a_photograph.png"), np.zeros((200, 300, 3), np.uint8))
    usual_backbone(data.load(str(image_folder)))
    assert "300x200 pixels" in caplog.text and "efficientnet_lite0" in caplog.text


def test_resume_says_that_other_images_are_there(refused, tiny_checkpoint, image_folder, tmp_path):
    command = ["accumulate", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--neurons", 5, "--out",
               tmp_path / "a.state"]
    assert main([*map(str, command)]) == 0
    (image_folder / "red" / "new.png").write_bytes((image_folder / "red" / "image_00.png").read_bytes())
    assert "other samples, 36 of images where there are now 37" in refused(*command, "--resume")
