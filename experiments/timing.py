"""What the scripts that time things share."""
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm


def memory_mb(kind):
    """Of this process, MB: "VmRSS" now, or its highest, "VmHWM" (getrusage's would count what the parent had too)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) / 1024


def in_turn(calls, rounds, description, clock=time.perf_counter):
    """Median seconds of each call, run in turn A B A B ...; the first round is not counted.

    calls: dict of name -> callable that returns when its work is done. clock: `time.process_time` for CPU-seconds.
    """
    times = {name: [] for name in calls}
    for _ in tqdm(range(rounds + 1), desc=description):
        for name, call in calls.items():
            start = clock()
            call()
            times[name].append(clock() - start)
    return {name: float(np.median(values[1:])) for name, values in times.items()}
