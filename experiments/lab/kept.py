"""A finished seed is a file: made once, never lost, never mixed with one of other settings.

FOLDER/RUN-DIGEST-SEED.json holds {"run", "settings", "seed", "started", "figures"}. `started` lists the processes that
have worked at it: commit, machine, versions, date. Other settings are another digest and so another file; a file
without figures is of a seed that was begun and not finished.
"""
import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mxelm.errors import FileError
from mxelm.files import locked, make_folder, read_json, write_text
from mxelm.reporting.results import commit
from mxelm.runtime import machine, versions


@dataclass(frozen=True)
class Seed:
    """One finished seed; `seed["accuracy"]` is a figure of it."""

    run: str
    settings: dict
    seed: int
    started: list
    figures: dict

    def __getitem__(self, name):
        return self.figures[name]


def digest(settings):
    """Eight hexadecimal digits that stand for the settings, a JSON-able dict."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def kept(folder, run, settings, seed, make, *, fresh=False):
    """The Seed in `folder`, made where it is missing by `make()`, which returns a JSON-able dict of figures.

    fresh: make it anew. Raises FileError where another process is making it, and for a file that is something else.
    """
    file = make_folder(folder) / f"{run}-{digest(settings)}-{seed}.json"
    lock = file.with_suffix(".lock")
    lock.touch()
    with locked(lock, wait=False):
        found = _read(file) if file.exists() and not fresh else {"started": []}
        if "figures" not in found:
            now = {"git": commit(), "machine": machine(), "versions": versions(),
                   "date": datetime.date.today().isoformat()}
            found = {"run": run, "settings": settings, "seed": seed, "started": [*found["started"], now]}
            if not (fresh and file.exists()):  # a finished one stays until its successor is finished too
                _write(file, found)
            found["figures"] = make()
            _write(file, found)
        lock.unlink()
    return Seed(**_read(file))


def seeds(folder, run, settings):
    """All finished Seeds of a run with these settings, by seed."""
    found = [_read(file) for file in Path(folder).glob(f"{run}-{digest(settings)}-*.json")]
    return sorted((Seed(**content) for content in found if "figures" in content), key=lambda seed: seed.seed)


def _read(file):
    content = read_json(file)
    if not isinstance(content, dict) or not {"run", "settings", "seed", "started"} <= set(content):
        raise FileError(f"{file} does not hold a seed: remove it")
    return content


def _write(file, content):
    """JSON with a line for each part: figures may hold long lists."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value, default=_plain)}" for key, value in content.items())
    write_text(file, f"{{\n{lines}\n}}\n")


def _plain(value):
    """NumPy's scalars and arrays as Python's."""
    return value.tolist()
