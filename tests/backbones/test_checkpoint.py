"""Checkpoints: saved whole or not at all, loaded whole or refused by the name of what is wrong."""
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mxelm.backbones import load, load_checkpoint, save_checkpoint
from mxelm.errors import FileError, InputError
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
    save_checkpoint(tmp_path / "copy", symbol, {n: a.asnumpy() for n, a in arg_params.items()}, aux_params, sidecar, 7)
    again = load_checkpoint(tmp_path / "copy")
    assert again[0].tojson() == symbol.tojson()
    for ours, theirs in zip(again[1:3], (arg_params, aux_params)):
        assert set(ours) == set(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name].asnumpy(), theirs[name].asnumpy())
    assert set(again[3]["files"]) == {"copy-symbol.json", "copy-0007.params"}


def test_mxnet_loads_what_was_saved(prefix):
    symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, 0)
    ours = load_checkpoint(prefix)
    assert symbol.list_arguments() == ours[0].list_arguments()
    assert set(arg_params) == set(ours[1]) and set(aux_params) == set(ours[2])


def test_epochs(prefix):
    for number in (3, 12):
        shutil.copy(f"{prefix}-0000.params", f"{prefix}-{number:04d}.params")
    Path(f"{prefix}-0012.params").write_bytes(b"damaged")
    with pytest.raises(FileError, match="net-0012.params"):
        load(prefix)  # the highest
    assert load(prefix, 3).n_features == load(prefix, 0).n_features
    with pytest.raises(FileError, match=r"0005.params.*\[0, 3, 12\]"):
        load(prefix, 5)


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
    (b"", "damaged or not"), (b"\xff\xfe\0", "damaged or not"), (b"[1]", "damaged or not"), (b"{}", "damaged or not"),
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
    for content in ([1, 2], {"files": [1]}, {"files": {"net-0000.params": 3}}):
        Path(f"{prefix}.json").write_text(json.dumps(content))
        with pytest.raises(FileError, match="net.json"):
            load(prefix)
    for shape in ("abc", 3, [3, 16], [3, 16, -1], None, [2, 16, 16]):
        Path(f"{prefix}.json").write_text(json.dumps({"input_shape": shape}))
        with pytest.raises(InputError, match="net.json"):
            load(prefix)


@pytest.mark.parametrize("content, classes", [
    ({"classes": ["a", "b"]}, ["a", "b"]), ({"classes_file": "names.txt"}, ["x y", "z"]), ({}, None),
])
def test_classes_from_list_and_file(prefix, content, classes):
    sidecar = json.loads(Path(f"{prefix}.json").read_text())
    rest = {k: v for k, v in sidecar.items() if not k.startswith("classes")}
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


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_kill_between_the_moves_never_loads_as_a_mixture(prefix, monkeypatch, moves):
    symbol, arg_params, aux_params, sidecar = load_checkpoint(prefix)
    name, value = conv_weight(prefix)
    old = load(prefix).digest
    moved, replace = [], os.replace

    def killed(source, target):
        if len(moved) == moves:
            raise KeyboardInterrupt
        moved.append(Path(target).name)
        replace(source, target)
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(prefix, mx.sym.Group([symbol]), {**arg_params, name: value * 2}, aux_params, sidecar)
    monkeypatch.undo()
    assert "net.json" not in moved  # the sidecar, which vouches for the others, comes last
    if "net-0000.params" in moved:
        with pytest.raises(FileError, match="net-0000.params.*SHA-256"):
            load(prefix)
    else:
        assert load(prefix).digest == old
