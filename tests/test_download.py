import contextlib
import hashlib
import http.server
import threading

import pytest

from mxelm.download import cache_folder, fetch_file, search_folders
from mxelm.errors import FileError

CONTENT = b"weights" * 1000
HASHES = {"md5": hashlib.md5(CONTENT).hexdigest(), "sha256": hashlib.sha256(CONTENT).hexdigest()}


@pytest.fixture(autouse=True)
def no_mirrors(monkeypatch):
    monkeypatch.delenv("MXELM_MIRRORS", raising=False)


def mirror(folder, content=CONTENT, name="w.params"):
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    return f"{folder.as_uri()}/{name}"


@pytest.mark.parametrize("hashes", [HASHES, {}])
def test_the_first_mirror_that_works_counts(tmp_path, hashes):
    urls = [f"{tmp_path.as_uri()}/gone", mirror(tmp_path / "bad", CONTENT[:-1])] if hashes else []
    urls.append(mirror(tmp_path / "good"))
    assert fetch_file(urls, tmp_path / "w.params", hashes) == HASHES["sha256"]
    assert (tmp_path / "w.params").read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", ["md5", "sha256"])
def test_a_wrong_hash_leaves_what_was_there_and_says_what_to_do(tmp_path, wrong):
    target = tmp_path / "w.params"
    target.write_bytes(b"old")
    with pytest.raises(FileError, match=f"{wrong} is .*put the file at .*w.params.*MXELM_MIRRORS"):
        fetch_file([mirror(tmp_path / "m")], target, {**HASHES, wrong: "0" * 32})
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "w.params"]


def test_mirrors_of_the_environment_replace_the_list(tmp_path, monkeypatch):
    mirror(tmp_path / "b" / "set")
    monkeypatch.setenv("MXELM_MIRRORS", f"{tmp_path.as_uri()}/a;{tmp_path.as_uri()}/b/")
    fetch_file(["https://unused.invalid/w.params"], tmp_path / "w.params", HASHES, folder="set")
    assert (tmp_path / "w.params").read_bytes() == CONTENT
    with pytest.raises(FileError) as caught:
        fetch_file([mirror(tmp_path / "good")], tmp_path / "other.params", HASHES)
    assert "/good/" not in str(caught.value)


@pytest.mark.parametrize("url", ["nonsense", "gopher://x/y", "http://127.0.0.1:9/x"])
def test_a_mirror_that_fails_is_one_sentence(tmp_path, url):
    with pytest.raises(FileError, match="could not fetch w.params from .*put the file at"):
        fetch_file([url], tmp_path / "w.params", {})
    assert not list(tmp_path.iterdir())


def test_what_has_no_hash_must_come_over_tls_and_its_hash_is_told(tmp_path, caplog):
    with served(CONTENT) as url, pytest.raises(FileError, match="https:// is needed"):
        fetch_file([url], tmp_path / "w.params", {})
    assert not list(tmp_path.iterdir())
    with served(CONTENT) as url:
        fetch_file([url], tmp_path / "w.params", HASHES)
    assert not caplog.records
    fetch_file([mirror(tmp_path / "m")], tmp_path / "w.params", {})
    assert HASHES["sha256"] in caplog.text and "no hash was published" in caplog.text


def test_every_known_download_has_a_hash_or_tls():
    from mxelm.backbones.manifest import known
    from mxelm.data import KNOWN
    ways = [(url, entry["sha256"]) for entry in known().values() for url in entry.get("mirrors", ())]
    ways += [(url, item.hashes) for entry in KNOWN.values() for item in entry.downloads for url in item.urls]
    assert all(hashes or url.startswith("https://") for url, hashes in ways)


@contextlib.contextmanager
def served(content, length=None):
    """A URL at which `content` is given, said to be `length` bytes long."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(length or len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/w.params"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_connection_that_breaks_off_is_noticed(tmp_path):
    with served(CONTENT[:5000], len(CONTENT)) as url, pytest.raises(FileError, match="5000"):
        fetch_file([url], tmp_path / "w.params", HASHES)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FileError, match="cannot write .*gone"):
        fetch_file([mirror(tmp_path / "m")], tmp_path / "gone" / "w.params", HASHES)


def test_search_order(tmp_path, monkeypatch):
    monkeypatch.setenv("MXELM_DATA", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    monkeypatch.setenv("MXELM_CACHE", str(tmp_path / "c"))
    assert [p.name for p in search_folders(tmp_path / "root")] == ["root", "a", "b", "c"]
    monkeypatch.delenv("MXELM_DATA")
    monkeypatch.delenv("MXELM_CACHE")
    assert search_folders() == [cache_folder()]
    assert cache_folder().parts[-2:] == (".cache", "mxelm")
