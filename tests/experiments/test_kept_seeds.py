"""Rows are functions of kept seeds: what the result files hold is what `rows` makes of experiments/results/seeds."""
import json
import runpy
from pathlib import Path

import pytest
from lab import Lab, seeds
from lab.runner import RESULTS

NAMES = sorted(folder.name for folder in (RESULTS / "seeds").iterdir() if (RESULTS / f"{folder.name}.json").exists())


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_those_of_the_result_file(name, tmp_path):
    script = runpy.run_path(str(next(RESULTS.parent.rglob(f"{name}.py"))), run_name=name)
    written = {row["id"]: row for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]}
    for run, settings in script["RUNS"].items():
        lab = Lab(name, script["RUNS"], run, tmp_path, None, False, RESULTS / "seeds" / name)
        found = seeds(lab.folder, run, settings)
        for made in script["rows"](run, settings, found, lab) if found else ():
            for key in ("value", "std", "n", "unit", "better"):
                assert made[key] == written[made["id"]][key], (run, made["id"], key)


def test_every_kept_seed_says_how_it_came_about():
    for file in Path(RESULTS / "seeds").rglob("*.json"):
        content = json.loads(file.read_text())
        told = [{"git", "machine", "versions", "date"} <= process.keys() for process in content["started"]]
        assert told and all(told), file
