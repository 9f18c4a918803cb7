"""Evidence in a script's docstring: the rows that it names, with what the result files hold of them.

A block begins with a line `Evidence:` and holds an indented id a line; `mxelm report` writes behind each id the value,
machine and commit, and `--check` compares them. No figure is typed.
"""
from __future__ import annotations

import os
import re
from pathlib import Path

from mxelm.reporting.numbers import value_text

_BLOCK = re.compile(r"^Evidence:\n\n((?:    \S.*\n)+)", re.MULTILINE)


def filled(text: str, rows: list) -> str:
    """The source `text` with its block of evidence as `rows` (of `results.read`) have it; without a block unchanged."""
    found = {row["id"]: row for row in rows}

    def block(match):
        ids = [line.split()[0] for line in match[1].splitlines()]
        width = max(map(len, ids))
        return "Evidence:\n\n" + "".join(f"    {id:{width}}  {_told(found.get(id))}\n" for id in ids)

    return _BLOCK.sub(block, text, count=1)


def scripts(folder: str | os.PathLike) -> list:
    """The scripts in and below `folder` that have a block of evidence, in order."""
    return [path for path in sorted(Path(folder).rglob("*.py")) if _BLOCK.search(path.read_text(encoding="utf-8"))]


def _told(row):
    if row is None:
        return "not measured yet"
    if row["value"] is None:
        return "no value: RESULTS.md says why"
    machine = row["conditions"].get("measured_on", row)["machine"]
    commits = (row["git"] or "unknown").split(", ")
    commit = commits[0] + (f" to {commits[-1]}" if len(commits) > 1 else "")
    value = value_text(row["value"], row["std"], row["n"], row["unit"])
    return f"{value}, {machine['cpu']} x {machine['cores']}, {commit}"
