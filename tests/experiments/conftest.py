"""The scripts are imported here as they import each other, and run as one runs them."""
import runpy
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
sys.path[:0] = [str(EXPERIMENTS), str(EXPERIMENTS / "benchmarks")]


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A function: run a script of experiments/ in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(name, *words):
        path = next(EXPERIMENTS.rglob(f"{name}.py"))
        monkeypatch.setattr(sys, "argv", [str(path), *words])
        runpy.run_path(str(path), run_name="__main__")

    return run


@pytest.fixture
def lab(tmp_path):
    """A function: the Lab of a script's run, whose seeds are in an empty folder."""
    from lab import Lab

    def of(module, run):
        return Lab(module.__name__, module.RUNS, run, tmp_path, None, True, tmp_path / "seeds")

    return of
