"""JSON that holds its own SHA-256: over its text, with zeros in the place of the hash, which is the last in it."""
from __future__ import annotations

import hashlib
import json

UNSEALED = "0" * 64  # what stands in the place of the hash while it is computed


def sealed(content: dict) -> bytes:
    """The JSON text of `content`, which ends in an UNSEALED hash, with that hash filled in."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    before, _, after = text.rpartition(UNSEALED)
    return (before + hashlib.sha256(text.encode()).hexdigest() + after).encode()


def seal_of(content: bytes, recorded: str) -> str:
    """The SHA-256 that sealed bytes should hold, where they hold `recorded`."""
    return hashlib.sha256(content.replace(recorded.encode(), UNSEALED.encode(), 1)).hexdigest()
