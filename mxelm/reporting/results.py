"""Result files: one JSON a script, a row for each measured figure, merged when a script is run again in parts."""
from __future__ import annotations

import datetime
import functools
import json
import math
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from mxelm import files, runtime
from mxelm.errors import FileError, InputError
from mxelm.reporting.numbers import value_text
from mxelm.reporting.statistics import spread

SCHEMA = 1
BETTER = ("higher", "lower", "none")
ROW_KEYS = ("id", "value", "std", "n", "unit", "better", "command", "git", "date", "seconds", "conditions")
FILE_KEYS = ("schema", "experiment", "machine", "versions", "rows")
MACHINE_KEYS = ("cpu", "cores", "memory")
_ID = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")


def row(id: str, value: float | None, unit: str, better: Literal["higher", "lower", "none"],
        *, std: float | None = None, n: int = 1, command: str = "", seconds: float | None = None,
        conditions: dict | None = None) -> dict:
    """One measured figure as a dict of plain values, stamped with today's date and the commit of the checkout.

    id: str, `paper.what.which`. value: float, a mean over `n` seeds or splits, or None for what cannot be had (then
    `conditions["reason"]` says why; so it does for a figure that misses the paper's). unit: str, as the paper prints
    it: accuracies in "%" (0..100), sizes in "bytes", counts "parameters", times "s" or "minutes", else "ratio".
    std: float, sample standard deviation over the n, in the value's unit. better: "higher", "lower" or "none".
    seconds: float, wall time of the run. conditions: JSON-able dict.
    Raises InputError for a row that `read` would refuse.
    """
    made = {"id": id, "value": _number(value), "std": _number(std), "n": n, "unit": unit, "better": better,
            "command": command, "git": commit(), "date": datetime.date.today().isoformat(),
            "seconds": _number(seconds), "conditions": _plain(id, conditions or {})}
    problem = _problem(made)
    if problem:
        raise InputError(f"row {id!r}: {problem}")
    return made


def over_seeds(id: str, values: Sequence[float], unit: str, better: Literal["higher", "lower", "none"],
               *, seconds: float | None = None, conditions: dict | None = None) -> dict:
    """A row of the mean and sample standard deviation of one value a seed; without a seed it has no value.

    values: float (n,), in the row's unit. The rest as `row` takes it; without a value conditions need a reason.
    """
    values = np.asarray(values, float)
    return row(id, values.mean() if len(values) else None, unit, better, std=spread(values), n=max(len(values), 1),
               seconds=seconds, conditions=conditions)


def from_seeds(made: dict, command: str, seeds: Sequence) -> dict:
    """The row `made`, stamped with the command, commits, last date and machine of the Seeds that it was made of."""
    started = [process for seed in seeds for process in seed.started]
    if not started:
        return {**made, "command": command}
    stamped = {**made, "command": command, "date": max(process["date"] for process in started),
               "git": ", ".join(dict.fromkeys(process["git"] or "unknown" for process in started))}
    return _with_origin(stamped, started[-1], runtime.machine(), runtime.versions())


def write(path: str | os.PathLike, experiment: str, rows: Sequence[dict]) -> None:
    """Write `rows` (from `row`) to the result file at `path`: rows of the same id are replaced, others stay.

    experiment: str, the script's name. The file keeps the machine and versions of this run; a row that stays from a
    run on another machine, or with other versions, keeps those in conditions["measured_on"]. Safe against a crash,
    and against another process that writes to the same folder at the same time.
    """
    path = Path(path)
    _refuse_duplicates(path, rows)
    machine, versions = runtime.machine(), runtime.versions()
    with files.locked(files.make_folder(path.parent)):
        kept, old = [], _old(path, experiment)
        if old:
            new = {made["id"] for made in rows}
            kept = [_with_origin(made, old, machine, versions) for made in old["rows"] if made["id"] not in new]
        ordered = sorted(kept + list(rows), key=lambda made: made["id"])
        files.write_json(path, {"schema": SCHEMA, "experiment": experiment, "machine": machine,
                                "versions": versions, "rows": ordered})


def require_writable(path: str | os.PathLike, experiment: str) -> None:
    """Make the file's folder, and raise FileError before hours of work if `write` would raise it afterwards."""
    path = Path(path)
    files.make_folder(path.parent)
    files.require_writable(path)
    _old(path, experiment)


def _old(path, experiment):
    """The content of the result file of `experiment` at `path`; None if there is no such file."""
    if not path.exists():
        return None
    old = _read_file(path)
    if old["experiment"] != experiment:
        raise FileError(f"{path} holds results of {old['experiment']!r}, not of {experiment!r}: choose another file")
    return old


def line(row: dict) -> str:
    """A row in one line, as scripts print it and RESULTS.md shows it; without a value, the reason why."""
    value = (row["conditions"]["reason"] if row["value"] is None else
             value_text(row["value"], row["std"], row["n"], row["unit"]))
    return f"{row['id']:40s} {value}"


def read(folder: str | os.PathLike) -> list[dict]:
    """All rows of the result files in `folder`, by id; each with its file's experiment, machine and versions.

    Raises FileError, naming file and row, for another schema, unknown or missing keys, an id that occurs twice
    (across files too), and values that are not finite numbers.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"there is no folder {folder} with results; run a script of experiments/ first")
    found = {}
    for path in sorted(folder.glob("*.json")):
        content = _read_file(path)
        origin = {key: content[key] for key in ("experiment", "machine", "versions")}
        for made in content["rows"]:
            if made["id"] in found:
                raise FileError(f"{path}: row {made['id']!r} occurs in another result file too; remove one of them")
            found[made["id"]] = {**made, **origin}
    return [found[id] for id in sorted(found)]


def _read_file(path):
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise FileError(f"{path} is not a result file of schema {SCHEMA}; write it again with its script")
    if set(content) != set(FILE_KEYS):
        raise FileError(f"{path}: {_key_difference(content, FILE_KEYS)}")
    kinds = {"experiment": str, "machine": dict, "versions": dict, "rows": list}
    wrong = [key for key, kind in kinds.items() if not isinstance(content[key], kind)]
    if wrong:
        raise FileError(f"{path}: {wrong[0]!r} must be a {kinds[wrong[0]].__name__}")
    if not _is_origin(content):
        raise FileError(f"{path}: the machine must have {', '.join(MACHINE_KEYS)}")
    for made in content["rows"]:
        problem = _problem(made)
        if problem:
            id = made.get("id") if isinstance(made, dict) else made
            raise FileError(f"{path}: row {id!r}: {problem}")
    _refuse_duplicates(path, content["rows"])
    return content


def _problem(made):
    """What is wrong with a row, in words, or None."""
    if not isinstance(made, dict):
        return "is not an object"
    if set(made) != set(ROW_KEYS):
        return _key_difference(made, ROW_KEYS)
    if not isinstance(made["id"], str) or not _ID.fullmatch(made["id"]):
        return "an id has parts of letters, digits, - and _ with dots between them, such as fused.caltech101.elm"
    if made["better"] not in BETTER:
        return f"better is {made['better']!r}, expected one of {', '.join(BETTER)}"
    for key in ("unit", "command", "date"):
        if not isinstance(made[key], str):
            return f"{key} must be text, not {made[key]!r}"
    if not isinstance(made["conditions"], dict):
        return "conditions must be a dict"
    if "measured_on" in made["conditions"] and not _is_origin(made["conditions"]["measured_on"]):
        return "conditions['measured_on'] is kept for the machine and versions of an earlier run"
    return _number_problem(made)


def _number_problem(made):
    for key in ("value", "std", "seconds"):
        number = made[key]
        if number is not None and (isinstance(number, bool) or not isinstance(number, (int, float))
                                   or not math.isfinite(number)):
            return f"{key} is {number!r}, expected a finite number"
    if any(made[key] is not None and made[key] < 0 for key in ("std", "seconds")):
        return "std and seconds cannot be negative"
    if not isinstance(made["n"], int) or isinstance(made["n"], bool) or made["n"] < 1:
        return f"n is {made['n']!r}, expected a whole number from 1"
    if made["std"] is not None and made["n"] == 1:
        return "a standard deviation needs n of at least 2"
    if made["value"] is None and not made["conditions"].get("reason"):
        return "a row without a value needs conditions['reason']"
    return None


def _key_difference(found, expected):
    unknown, missing = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    return "; ".join(f"{word} {', '.join(map(str, keys))}" for word, keys in
                     (("unknown keys:", unknown), ("missing keys:", missing)) if keys)


def _refuse_duplicates(path, rows):
    ids = [made["id"] for made in rows]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    if twice:
        raise FileError(f"{path}: row {twice[0]!r} occurs twice; an id stands for one figure")


def _with_origin(made, old, machine, versions):
    """A row that stays while its file takes over another machine or other versions."""
    changed = {name: version for name, version in old["versions"].items() if versions.get(name) != version}
    if (old["machine"] == machine and not changed) or "measured_on" in made["conditions"]:
        return made
    return {**made, "conditions": {**made["conditions"], "measured_on": {"machine": old["machine"],
                                                                         "versions": changed}}}


def _is_origin(content):
    """Whether `content` has a machine and versions in the form of `mxelm.runtime`."""
    parts = [content.get(key) for key in ("machine", "versions")] if isinstance(content, dict) else [None]
    return all(isinstance(part, dict) for part in parts) and set(parts[0]) == set(MACHINE_KEYS)


def _number(value):
    """NumPy's scalars as Python's; everything else unchanged, for `_problem` to judge."""
    return value.item() if hasattr(value, "item") else value


def _plain(id, conditions):
    try:
        return json.loads(json.dumps(conditions, default=lambda value: value.tolist(), allow_nan=False))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"row {id!r}: conditions must be plain values that JSON can hold: {error}") from None


@functools.lru_cache
def commit() -> str | None:
    """Short hash of the checkout this package lies in, "+" appended when changed since; None outside a checkout.

    Asked once a process: the code that runs is the code that was loaded. Results themselves do not count as a
    change, for a script that writes its rows in parts would else mark its own rest.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", ".", ":!experiments/results", ":!RESULTS.md")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _git(root, *arguments):
    return subprocess.run(("git", *arguments), cwd=root, check=True, capture_output=True, text=True).stdout.strip()
