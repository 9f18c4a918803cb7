"""Known weights: what they are and whence they come, and what lies at hand."""
from __future__ import annotations

import json
import re
from pathlib import Path

from mxelm.download import search_folders


def known() -> dict[str, dict]:
    """The manifest: dict of name -> {kind, summary, sha256 (None where never published), licence, source, advice}."""
    return json.loads(Path(__file__).with_name("manifest.json").read_text(encoding="utf-8"))


def at_hand() -> dict:
    """Prefixes of the checkpoints in the searched folders weights/, by name; the first that is found counts."""
    found = {}
    for folder in search_folders():
        for path in sorted((folder / "weights").glob("*-[0-9]*.params")):
            name = re.sub(r"-\d{4,}\.params$", "", path.name)
            found.setdefault(name, str(path.with_name(name)))
    return found
