"""Known weights: fetched from a mirror whole, or a sentence that says what to put where; and what verify finds."""
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mxelm.backbones import fetch, fetching, load, verify
from mxelm.backbones.manifest import at_hand, known
from mxelm.backbones.params_file import read_params
from mxelm.errors import FileError, InputError
from mxelm.files import sha256
from mxelm.runtime import mx


@pytest.fixture
def small(tiny_checkpoint, tmp_path, monkeypatch):
    """The manifest with one more entry, an archive of the tiny checkpoint, and a mirror that has it."""
    mirror, folder = tmp_path / "mirror", tmp_path / "weights"
    mirror.mkdir()
    name = Path(tiny_checkpoint).name
    with tarfile.open(mirror / "small.tar.gz", "w:gz") as archive:
        for ending in ("-symbol.json", "-0000.params"):
            archive.add(tiny_checkpoint + ending, f"inner/{name}{ending}")
        archive.add(__file__, "inner/synset.txt")
    entry = {"kind": "archive", "summary": "small", "mirrors": ["http://127.0.0.1:9/small.tar.gz"], "epoch": 0,
             "archive": "small.tar.gz", "sha256": sha256(mirror / "small.tar.gz"), "licence": "none",
             "source": "here", "advice": "put small-0000.params into {folder}"}
    entries = {**known(), "small": entry}
    monkeypatch.setattr(fetching, "known", lambda: entries)
    monkeypatch.setenv("MXELM_MIRRORS", mirror.as_uri())
    return entry, folder, mirror


def test_manifest_is_complete():
    entries = known()
    assert set(entries) == {"Inception21k", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}
    for name, entry in entries.items():
        assert {"kind", "summary", "sha256", "licence", "source", "advice"} <= set(entry), name
        assert entry["kind"] in fetching._FETCHERS
        if entry["sha256"] is None:
            assert "published" in entry["sha256_note"]
        else:
            assert len(entry["sha256"]) == 64
    from mxelm.backbones.efficientnet_lite import VARIANTS
    assert all(entries[name]["sha256"] == variant.sha256 for name, variant in VARIANTS.items())


def test_fetch_from_a_mirror(small, tiny_checkpoint):
    _, folder, mirror = small
    prefix = fetch("small", folder)
    assert sorted(path.name for path in folder.iterdir()) == ["small-0000.params", "small-symbol.json", "synset.txt"]
    assert load(prefix, preprocessing=load(tiny_checkpoint).preprocessing).digest == load(tiny_checkpoint).digest
    shutil.rmtree(mirror)
    assert fetch("small", folder) == prefix  # there already


def test_fetch_into_the_cache_is_found_by_name(small, tmp_path, monkeypatch, tiny_checkpoint):
    monkeypatch.setenv("MXELM_CACHE", str(tmp_path / "cache"))
    fetch("small")
    whole = load(tiny_checkpoint)
    assert load("small", preprocessing=whole.preprocessing).n_features == whole.n_features


def test_what_lies_in_the_searched_folders_is_at_hand(small, tmp_path, monkeypatch):
    for place, name in (("a", "mine-0000"), ("b", "mine-0003"), ("b", "yours-2-0001")):
        (tmp_path / place / "weights").mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "weights" / f"{name}.params").touch()
    monkeypatch.setenv("MXELM_DATA", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    monkeypatch.setenv("MXELM_CACHE", str(tmp_path / "c"))
    assert at_hand() == {"mine": f"{tmp_path}/a/weights/mine", "yours-2": f"{tmp_path}/b/weights/yours-2"}


def test_a_damaged_archive_leaves_nothing(small):
    _, folder, mirror = small
    content = bytearray((mirror / "small.tar.gz").read_bytes())
    content[100] ^= 1
    (mirror / "small.tar.gz").write_bytes(content)
    with pytest.raises(FileError, match="sha256.*put small-0000.params"):
        fetch("small", folder)
    assert list(folder.iterdir()) == []


def test_hosts_that_are_gone_say_what_to_put_where(small, monkeypatch):
    _, folder, _ = small
    monkeypatch.delenv("MXELM_MIRRORS")
    with pytest.raises(FileError, match=f"could not fetch.*put small-0000.params into {folder}"):
        fetch("small", folder)
    assert list(folder.iterdir()) == []


def test_damaged_weights_already_there_are_not_passed_on(small):
    _, folder, _ = small
    fetch("small", folder)
    path = folder / "small-0000.params"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FileError, match="small-0000.params.*fetch again"):
        fetch("small", folder)


def test_unknown_weights():
    with pytest.raises(InputError, match="resnet999.*Inception21k"):
        fetch("resnet999")


def test_verify_of_a_whole_checkpoint(tiny_checkpoint):
    report = verify(tiny_checkpoint)
    arrays = [array for params in read_params(f"{tiny_checkpoint}-0000.params") for array in params.values()]
    assert report["problems"] == [] and report["extra"] == []
    assert report["parameters"] == len(arrays) and report["numbers"] == sum(a.size for a in arrays)
    assert all(file["sha256"] == file["expected"] for file in report["files"] if file["name"].count("-"))
    json.dumps(report)


def test_verify_lists_what_is_wrong(tiny_checkpoint, tmp_path):
    prefix = tmp_path / "net"
    shutil.copy(f"{tiny_checkpoint}-symbol.json", f"{prefix}-symbol.json")
    sidecar = json.loads(Path(f"{tiny_checkpoint}.json").read_text())
    Path(f"{prefix}.json").write_text(json.dumps({k: v for k, v in sidecar.items() if k != "files"}))
    arrays = mx.nd.load(f"{tiny_checkpoint}-0000.params")
    missing, misshapen = [name for name in arrays if name.startswith("arg:")][:2]
    arrays.pop(missing)
    arrays[misshapen] = mx.nd.ones((1, 2, 3, 4, 5))
    arrays["arg:zz"] = mx.nd.array(np.ones(2))
    mx.nd.save(f"{prefix}-0000.params", arrays)
    report = verify(prefix)
    text = " ".join(report["problems"])
    assert f"{missing[4:]} is missing" in text and f"{misshapen[4:]} has shape (1, 2, 3, 4, 5)" in text
    assert report["extra"] == ["zz"]
    Path(f"{prefix}-symbol.json").unlink()
    assert "net-symbol.json" in verify(prefix)["problems"][0]
    with pytest.raises(FileError, match="there is no checkpoint"):
        verify(tmp_path / "none")
