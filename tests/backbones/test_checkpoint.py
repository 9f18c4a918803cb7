"""Checkpoints: saved whole or not at all, loaded whole or refused by the name of what is wrong."""
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mxelm.backbones import load, load_checkpoint, save_checkpoint, stored, verify
from mxelm.errors import FileError, InputError, MxelmError
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx


@pytest.fixture
def prefix(tiny_checkpoint, tmp_path):
    for path in Path(tiny_checkpoint).parent.glob(Path(tiny_checkpoint).name + "*"):
        shutil.copy(path, tmp_path / path.name.replace(Path(tiny_checkpoint).name, "net", 1))
    sidecar = json.loads((tmp_path / "net.json").read_text())
    sidecar.pop("files")
    save_checkpoint(tmp_path / "net", *load_checkpoint(tiny_checkpoint)[:3], sidecar)
    return str(tmp_path / "net")


def resave(prefix, sidecar=None, **changes):
    """Save the checkpoint again with some parameters changed (None removes one), without its hashes."""
    symbol, arg_params, aux_params, content = load_checkpoint(prefix)
    arrays = {**{f"arg:{n}": a for n, a in arg_params.items()}, **{f"aux:{n}": a for n, a in aux_params.items()}}
    for name, array in changes.items():
        kind = "aux" if name in aux_params else "arg"
        arrays.pop(f"{kind}:{name}", None)
        if array is not None:
            arrays[f"{kind}:{name}"] = mx.nd.array(array)
    mx.nd.save(f"{prefix}-0000.params", arrays)
    content.pop("files", None)
    Path(f"{prefix}.json").write_text(json.dumps(content))


def conv_weight(prefix):
    """Name and value of the first convolution's weight."""
    symbol, arg_params, _, _ = load_checkpoint(prefix)
    name = next(n for n in symbol.list_arguments() if n.endswith("weight"))
    return name, arg_params[name].asnumpy()


def test_round_trip(prefix, tmp_path):
    symbol, arg_params, aux_params, sidecar = load_checkpoint(prefix)
    arrays = {n: a.asnumpy() for n, a in arg_params.items()}
    save_checkpoint(tmp_path / "copy", symbol, arrays, aux_params, sidecar, epoch=7)
    again = load_checkpoint(tmp_path / "copy")
    assert again[0].tojson() == symbol.tojson()
    for ours, theirs in zip(again[1:3], (arg_params, aux_params)):
        assert set(ours) == set(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name].asnumpy(), theirs[name].asnumpy())
    assert set(again[3]["files"]) == {"symbol", "params", "sidecar"} and again[3]["files"]["params"]["epoch"] == 7


def test_mxnet_loads_what_was_saved(prefix):
    symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, epoch=0)
    ours = load_checkpoint(prefix)
    assert symbol.list_arguments() == ours[0].list_arguments()
    assert set(arg_params) == set(ours[1]) and set(aux_params) == set(ours[2])


def test_epochs(prefix):
    for number in (3, 12):
        shutil.copy(f"{prefix}-0000.params", f"{prefix}-{number:04d}.params")
    Path(f"{prefix}-0012.params").write_bytes(b"damaged")
    load(prefix)  # what PREFIX.json lists
    sidecar = json.loads(Path(f"{prefix}.json").read_text())
    del sidecar["files"]
    Path(f"{prefix}.json").write_text(json.dumps(sidecar))
    with pytest.raises(FileError, match="net-0012.params"):
        load(prefix)  # the highest
    assert load(prefix, epoch=3).n_features == load(prefix, epoch=0).n_features
    with pytest.raises(FileError, match=r"0005.params.*\[0, 3, 12\]"):
        load(prefix, epoch=5)


@pytest.mark.parametrize("ending", ["-symbol.json", "-0000.params"])
def test_damage_that_mxnet_would_load_is_found_by_the_hash(prefix, ending):
    path = Path(prefix + ending)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match=f"net{ending}.*SHA-256"):
        load(prefix)
    path.write_bytes(content[:-10])
    with pytest.raises(FileError, match=f"net{ending}.*bytes"):
        load(prefix)
    path.unlink()
    with pytest.raises(FileError, match=f"net{ending}"):
        load(prefix)


def test_missing_misshapen_and_nan_parameters_are_named(prefix):
    name, value = conv_weight(prefix)
    resave(prefix, **{name: None})
    with pytest.raises(InputError, match=f"misses the parameter {name}"):
        load(prefix)
    resave(prefix, **{name: value[:, :, :, :2]})
    with pytest.raises(InputError, match=name):
        load(prefix)
    value[0, 0, 0, 0] = np.nan
    resave(prefix, **{name: value})
    with pytest.raises(FileError, match=f"NaN.*{name}"):
        load(prefix)


def test_a_missing_running_statistic_is_named(prefix):
    name = next(iter(load_checkpoint(prefix)[2]))
    resave(prefix, **{name: None})
    with pytest.raises(InputError, match=f"misses the parameter {name}"):
        load(prefix)


def test_extra_parameters_are_named_in_a_warning(prefix, caplog):
    resave(prefix, zz_weight=np.ones((2, 2)))
    load(prefix)
    assert "zz_weight" in caplog.text


def test_parameters_beyond_the_cut_may_be_missing(prefix):
    symbol, arg_params, _, _ = load_checkpoint(prefix)
    head = symbol.list_arguments()[-1]
    reference = load(prefix)
    resave(prefix, **{head: None})
    assert load(prefix).digest == reference.digest
    with pytest.raises(InputError, match=head):
        load(prefix, cut=None)


def test_preprocessing_by_hand_and_none_at_all(prefix):
    by_file = load(prefix).preprocessing
    Path(f"{prefix}.json").unlink()
    with pytest.raises(InputError, match="net.json"):
        load(prefix)
    assert load(prefix, preprocessing=by_file).preprocessing == by_file
    with pytest.raises(InputError, match="shape"):
        load(prefix, preprocessing=Preprocessing((16, 16), channel_order="GREY"))


@pytest.mark.parametrize("content, said", [
    (b"", "not a JSON file"), (b"\xff\xfe\0", "not a JSON file"), (b"[" * 99999, "nested too deeply"),
    (b"[1]", "damaged or not"), (b"{}", "damaged or not"),
    (b'{"nodes": [{"op": "Flatten", "name": "f", "inputs": [[0, 0, 0]]}], "arg_nodes": [], "heads": [[0, 0, 0]]}',
     "damaged or not"),  # a node that feeds itself, which MXNet loads
    (b'{"nodes": [{"op": "Warp", "name": "f", "inputs": []}], "arg_nodes": [], "heads": [[0, 0, 0]]}', "Warp"),
])
def test_symbol_files_that_are_none(prefix, content, said):
    Path(f"{prefix}.json").unlink()
    Path(f"{prefix}-symbol.json").write_bytes(content)
    with pytest.raises(FileError, match=f"net-symbol.json.*{said}"):
        load(prefix, preprocessing=Preprocessing((16, 16)))


def test_wrong_prefix_and_unknown_name(prefix, tmp_path, monkeypatch):
    monkeypatch.setenv("MXELM_DATA", str(tmp_path / "somewhere"))
    with pytest.raises(FileError, match="there is no checkpoint .*none"):
        load(str(tmp_path / "none"))
    (tmp_path / "digits.engine").touch()
    with pytest.raises(FileError, match="digits.engine is a file and no prefix of a checkpoint: `mxelm info"):
        load(tmp_path / "digits.engine")
    with pytest.raises(FileError, match="there is no checkpoint no_such_net.*somewhere"):
        load("no_such_net")


def test_weights_are_found_by_name(prefix, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    shutil.copytree(Path(prefix).parent, tmp_path / "data" / "weights", ignore=shutil.ignore_patterns("data"))
    monkeypatch.setenv("MXELM_DATA", f"/nowhere:{tmp_path / 'data'}")
    assert load("net").digest == load(prefix).digest


def test_unknown_cut_names_near_ones(prefix):
    with pytest.raises(InputError, match="flatten_output"):
        load(prefix, cut="flaten_output")


def test_sidecar_that_is_none(prefix):
    Path(f"{prefix}.json").write_text("[1, 2")
    with pytest.raises(FileError, match="net.json"):
        load(prefix)
    for content in ([1, 2], {"files": [1]}, {"files": {"net-0000.params": 3}}, {"files": {}}, {"classes": [1]},
                    {"files": {"net-0000.params": {"sha256": [1]}}}, {"classes_file": "../names"}, {"elm": 3},
                    {"classes_file": "/etc/passwd"}, {"elm": {}}, {"elm": {"kind": "guess"}},
                    {"input_shape": [3, 2 ** 31, 8]}, {"input_shape": [3, 10 ** 400, 8]}):
        Path(f"{prefix}.json").write_text(json.dumps(content))
        with pytest.raises(FileError, match="net.json"):
            load(prefix)
    for shape in ("abc", 3, [3, 16], [3, 16, -1], None, [2, 16, 16]):
        Path(f"{prefix}.json").write_text(json.dumps({"input_shape": shape}))
        with pytest.raises(MxelmError, match="net.json"):
            load(prefix)


@pytest.mark.parametrize("content, classes", [
    ({"classes": ["a", "b"]}, ["a", "b"]), ({"classes_file": "names.txt"}, ["x y", "z"]), ({}, None),
])
def test_classes_from_list_and_file(prefix, content, classes):
    sidecar = json.loads(Path(f"{prefix}.json").read_text())
    rest = {k: v for k, v in sidecar.items() if k != "files" and not k.startswith("classes")}
    Path(f"{prefix}.json").write_text(json.dumps({**rest, **content}))
    Path(prefix).with_name("names.txt").write_text("x y\nz\n")
    assert load(prefix).classes == classes


def test_save_refuses_what_could_not_be_loaded(prefix, tmp_path):
    symbol, arg_params, aux_params, sidecar = load_checkpoint(prefix)
    name, value = conv_weight(prefix)
    before = sorted(tmp_path.iterdir())
    for broken in (value[:1], np.full_like(value, np.inf)):
        with pytest.raises(InputError, match=name):
            save_checkpoint(tmp_path / "new", symbol, {**arg_params, name: broken}, aux_params, sidecar)
    with pytest.raises(FileError, match="cannot write"):
        save_checkpoint(tmp_path / "no_folder" / "new", symbol, arg_params, aux_params, sidecar)
    assert sorted(tmp_path.iterdir()) == before


def test_a_save_that_breaks_off_leaves_the_old_checkpoint(prefix, monkeypatch):
    symbol, arg_params, aux_params, sidecar = load_checkpoint(prefix)
    name, value = conv_weight(prefix)
    digest = load(prefix).digest

    def full_disk(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(mx.nd, "save", full_disk)
    with pytest.raises(FileError, match="No space left"):
        save_checkpoint(prefix, symbol, {**arg_params, name: value * 2}, aux_params, sidecar)
    assert load(prefix).digest == digest
    assert not [path for path in Path(prefix).parent.iterdir() if path.name.startswith(".")]


def doubled(prefix, factor=2.0, name="fc1_bias"):
    """Replace the checkpoint by one whose parameter `name` is `factor` and whose first class says so."""
    symbol, arg_params, aux_params, sidecar = load_checkpoint(prefix)
    value = np.full(arg_params[name].shape, factor, "f4")
    save_checkpoint(prefix, mx.sym.Group([symbol]), {**arg_params, name: value}, aux_params,
                    {**sidecar, "classes": [str(factor), "b", "c", "d"]})


def told(prefix, name="fc1_bias"):
    """What the checkpoint says it is, by its parameters and by its classes."""
    backbone = load(prefix, cut=None)
    return float(backbone.arg_params[name].asnumpy()[0]), backbone.classes[0]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), OSError(5, "Input/output error")])
@pytest.mark.parametrize("moves", [0, 1, 2])
def test_whatever_ends_a_save_the_checkpoint_is_the_old_one_or_the_new_one(prefix, monkeypatch, moves, end):
    doubled(prefix, 2.0)
    moved, replace = [], os.replace

    def ending(source, target):
        if len(moved) == moves:
            raise end
        moved.append(replace(source, target))
    monkeypatch.setattr(os, "replace", ending)
    with pytest.raises((KeyboardInterrupt, FileError)):
        doubled(prefix, 3.0)
    monkeypatch.undo()
    assert told(prefix) == ((3.0, "3.0") if moves else (2.0, "2.0"))
    assert not verify(prefix)["problems"]
    doubled(prefix, 4.0)  # the next one clears up
    assert told(prefix) == (4.0, "4.0") and not [p for p in Path(prefix).parent.iterdir() if p.name.startswith(".")]


def test_a_new_checkpoint_counts_from_its_first_move_on(prefix, tmp_path, monkeypatch):
    whole = load_checkpoint(prefix)
    monkeypatch.setattr(os, "replace", lambda source, target, replace=os.replace: (replace(source, target), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(tmp_path / "new", *whole, epoch=3)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.glob("new*")) == ["new.json"]
    assert load(tmp_path / "new").digest == load(prefix).digest


@pytest.mark.parametrize("at", range(4))
def test_a_reader_never_mixes_two_checkpoints(prefix, monkeypatch, at):
    """Another process replaces the checkpoint just before one of its files is read."""
    doubled(prefix, 1.0)
    read, count = stored._content, []

    def disturbed(path):
        count.append(path)
        if len(count) == at + 1:
            with monkeypatch.context() as undisturbed:
                undisturbed.setattr(stored, "_content", read)
                doubled(prefix, 10.0)
        return read(path)
    monkeypatch.setattr(stored, "_content", disturbed)
    assert told(prefix) == (10.0, "10.0") and len(count) > at


def test_every_bit_of_all_three_files_counts(prefix):
    """Among them the bits of the names in PREFIX.json under which the hashes stand."""
    random = np.random.default_rng(0)
    for end in (".json", "-symbol.json", "-0000.params"):
        path = Path(prefix + end)
        whole = path.read_bytes()
        first = whole.index(b'"files"') if end == ".json" else 0
        places = [*range(first, first + 30), *random.integers(0, len(whole), 30)]
        for place in places:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << random.integers(8)
            path.write_bytes(damaged)
            assert verify(prefix)["problems"], (end, place)
        path.write_bytes(whole)
    assert not verify(prefix)["problems"]


def test_a_copy_under_another_name_is_as_whole(prefix, tmp_path):
    old = json.loads(Path(f"{prefix}.json").read_text())
    files = {f"net{end}": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
             for end in ("-symbol.json", "-0000.params") for content in [Path(prefix + end).read_bytes()]}
    for sidecar in (old, {**old, "files": files}):  # by role, and by name as until December 2026
        if sidecar is not old:
            Path(f"{prefix}.json").write_text(json.dumps(sidecar))
        for end in (".json", "-symbol.json", "-0000.params"):
            shutil.copy(prefix + end, f"{tmp_path}/copy{end}")
        report = verify(tmp_path / "copy")
        assert not report["problems"] and all(file["expected"] == file["sha256"] for file in report["files"][:2])
        (tmp_path / "copy-0000.params").write_bytes(b"x" + (tmp_path / "copy-0000.params").read_bytes()[1:])
        assert "damaged" in verify(tmp_path / "copy")["problems"][0]


def test_parameters_of_another_number_are_no_part_of_what_is_recorded(prefix):
    shutil.copy(f"{prefix}-0000.params", f"{prefix}-0005.params")
    assert not verify(prefix, 5)["problems"] and verify(prefix, 5)["files"][1]["expected"] is None
    assert verify(prefix)["files"][1]["expected"] is not None


def test_parameters_under_another_name_are_named(prefix, tmp_path, monkeypatch):
    os.rename(f"{prefix}-0000.params", f"{prefix}-cc729d95.params")
    monkeypatch.chdir(tmp_path)
    for name in (prefix, "net"):
        with pytest.raises(FileError, match="net-cc729d95.params is there: rename it to net-0000.params"):
            load(name)


def test_class_names_must_be_as_many_as_the_scores(prefix):
    sidecar = json.loads(Path(f"{prefix}.json").read_text())
    del sidecar["files"]
    Path(f"{prefix}.json").write_text(json.dumps({**sidecar, "classes": ["a", "b", "c"]}))
    with pytest.raises(InputError, match="names 3 classes, the network has 4 outputs"):
        load(prefix, cut=None)
    assert load(prefix).classes == ["a", "b", "c"]  # at its features they are only told
