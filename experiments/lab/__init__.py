"""What all lessons and benchmarks share, so that a script holds its method alone.

    from lab import main, step, table           # a lesson
    from lab import main, in_turn, in_a_process, memory    # a benchmark

A script ends in `main(__doc__, RUNS, one_seed, rows, lesson=lesson, quick=QUICK)`: see `lab.runner`. Where the rows of
a lesson are long, or its benchmarks make such rows too, they are in a module here, as `lab.gunn_rows`; what only
measures is beside them, as `lab.exits`.
"""
from lab.kept import Seed, digest, kept, seeds
from lab.measuring import in_a_process, in_turn, memory
from lab.pictures import learning_curve
from lab.printing import step, table
from lab.runner import Lab, main

__all__ = ["Lab", "Seed", "digest", "in_a_process", "in_turn", "kept", "learning_curve", "main", "memory", "seeds",
           "step", "table"]
