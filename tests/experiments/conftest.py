"""The scripts are imported here as they import each other; rows of knn_slicing.py's quick runs."""
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))


@pytest.fixture
def knn_slicing(monkeypatch):
    """The script, with fewer patches for its k-means kernels."""
    import knn_slicing

    from mxelm.knn_slicing import banks
    monkeypatch.setattr(banks, "PATCHES", 2000)
    return knn_slicing


@pytest.fixture
def rows(knn_slicing, tmp_path):
    """A function: the rows that a quick run of knn_slicing.py writes, by id."""
    def run(*words):
        knn_slicing.main([*words, "--quick", "--work", str(tmp_path)])
        file = tmp_path / "quick.json"
        return {row["id"]: row for row in json.loads(file.read_text())["rows"]} if file.exists() else {}

    return run
