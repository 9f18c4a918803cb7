"""The one `main` of all scripts: a lesson without a run, seeds made and kept with one, rows of all kept seeds.

    python experiments/NAME.py                        the lesson: on what ships, under a minute
    python experiments/NAME.py RUN --seeds 0 1 2      make what is missing of these seeds; rows of all kept ones
    python experiments/NAME.py RUN --write            the same, and the rows into experiments/results/NAME.json
    python experiments/NAME.py RUN --quick            on digits in a minute; rows are printed as quick.*

A script gives `main` four things and parses nothing:

    RUNS = {"plain": {...}, ...}                      a recipe is a dict of settings, JSON-able, with units
    def one_seed(run, settings, seed, lab): ...       the paper's method section -> dict of figures, JSON-able
    def rows(run, settings, seeds, lab): ...          rows by `results.over_seeds`, from Seeds (`seed["figure"]`)
    def lesson(lab): ...                              the lesson itself; prints with `step` and `table`
"""
import argparse
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from lab.kept import digest, kept, seeds
from mxelm import data
from mxelm.cli import options
from mxelm.errors import MxelmError
from mxelm.files import make_folder
from mxelm.reporting import results

RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True)
class Lab:
    """Where a script works: what `one_seed`, `rows` and `lesson` need beside the settings.

    work: folder for checkpoints and pictures. root: where known sets lie (None: MXELM_DATA and the cache).
    quick: whether this is on digits: a trial or the lesson. run: None in the lesson. folder: of the kept seeds.
    """

    name: str
    runs: dict
    run: Optional[str]
    work: Path
    root: Optional[str]
    quick: bool
    folder: Path

    def load(self, name, split=None, **options):
        """The Dataset `name`, "train" or "test" of it; where `quick`, digits, 70 and 30 per cent of them."""
        if self.quick:
            digits = data.load("digits")
            return digits if split is None else dict(zip(("train", "test"), digits.split(0.3)))[split]
        return data.load(name, root=self.root, **options, **({"split": split} if split else {}))

    def place(self, seed):
        """Path in `work` for what a seed leaves behind, such as a checkpoint: other settings, another path."""
        return self.work / f"{self.run}-{digest(self.runs[self.run])}-{seed}"

    def kept(self, run):
        """The finished Seeds of another run of this script, for a comparison."""
        return seeds(self.folder, run, self.runs[run])


def main(doc, runs, one_seed, rows, *, lesson=None, quick=None, argv=None):
    """Run the script as the command line says; ends it with a sentence where mxelm finds something wrong.

    doc: the script's docstring, for --help. runs, one_seed, rows, lesson: see the module. quick: settings that
    --quick changes, in each run that has them.
    """
    name = Path(sys.argv[0]).stem
    try:
        args = _parsed(doc, runs, lesson, name, argv)
        logging.basicConfig(level=logging.INFO if args.run else logging.WARNING, format="%(asctime)s %(message)s")
        work = make_folder(args.work)
        if args.quick:
            runs = {run: {key: (quick or {}).get(key, value) for key, value in settings.items()}
                    for run, settings in runs.items()}
        folder = (work / "quick" if args.quick else args.out) / "seeds" / name
        lab = Lab(name, runs, args.run, work, args.data, args.quick or args.run is None, folder)
        if args.run is None:
            lesson(lab)
        else:
            _measure(lab, one_seed, rows, args)
    except MxelmError as error:
        sys.exit(f"{name}.py: {error}")
    except KeyboardInterrupt:
        print(f"{name}.py: interrupted; finished seeds are kept, and the same call goes on", file=sys.stderr)
        sys.exit(130)


def _measure(lab, one_seed, rows, args):
    """Make the missing seeds of a run; print the rows of all kept ones, and write them where that is asked for."""
    settings, start, file = lab.runs[lab.run], time.perf_counter(), args.out / f"{lab.name}.json"
    if args.write:
        results.require_writable(file, lab.name)
    for seed in args.seeds:
        for old in lab.work.glob(f"{lab.place(seed).name}*") if args.fresh else ():
            old.unlink()
        kept(lab.folder, lab.run, settings, seed, lambda seed=seed: one_seed(lab.run, settings, seed, lab),
             fresh=args.fresh)
    found = seeds(lab.folder, lab.run, settings)
    command = f"python {_script(lab.name)} {lab.run} --seeds {' '.join(str(seed.seed) for seed in found)}"
    made = [results.from_seeds(row, command, found) for row in rows(lab.run, settings, found, lab)]
    for row in made:
        print(results.line({**row, "id": f"quick.{row['id']}"} if lab.quick else row))
    if args.write:
        results.write(file, lab.name, made)
    logging.info("%d seeds in %s, %.0f s; rows %s", len(found), lab.folder, time.perf_counter() - start,
                 f"written to {file}" if args.write else "printed: --write puts them into the results")


def _script(name):
    """How the script is called from the repository's folder."""
    return "experiments/" + ("" if (RESULTS.parent / f"{name}.py").exists() else "benchmarks/") + f"{name}.py"


def _parsed(doc, runs, lesson, name, argv):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", choices=tuple(runs), nargs="?" if lesson else None,
                        help="what to measure" + ("; the lesson without" if lesson else ""))
    parser.add_argument("--seeds", type=options.seed, nargs="+", default=[0], help="each made once (default: 0)")
    parser.add_argument("--fresh", action="store_true", help="make these seeds anew, though they are kept")
    parser.add_argument("--quick", action="store_true", help="a trial on digits, whose rows are no figures")
    parser.add_argument("--write", action="store_true", help=f"write the rows to {name}.json in --out")
    parser.add_argument("--work", type=Path, default=Path(f"{name}-work"), help="folder for checkpoints and pictures")
    parser.add_argument("--data", help="folder of known sets (default: MXELM_DATA and the cache)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results and kept seeds "
                                                                  "(default: experiments/results)")
    args = parser.parse_args(argv)
    if args.quick and args.write:
        parser.error("--quick rows are a trial of the script and no figures: leave out --write")
    return args
