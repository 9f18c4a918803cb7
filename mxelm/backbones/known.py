"""Known weights: what they are and whence they come."""
import json
from pathlib import Path


def known():
    """The manifest: dict of name -> {kind, summary, sha256 (None where never published), licence, source, advice}."""
    return json.loads(Path(__file__).with_name("manifest.json").read_text(encoding="utf-8"))
