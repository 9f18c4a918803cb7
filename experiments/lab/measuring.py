"""Time, memory, and a process of one's own to measure them in."""
import contextlib
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mxelm.errors import EnvironmentProblem, MxelmError

GOODBYE = 30.0  # seconds for a process that has answered to end by itself


def in_turn(calls, rounds, description=None, *, clock=time.perf_counter):
    """Median seconds of each call, run in turn A B A B ...; the first round is not counted.

    calls: dict of name -> callable that returns when its work is done. clock: `time.process_time` for CPU-seconds.
    """
    times = {name: [] for name in calls}
    for _ in tqdm(range(rounds + 1), desc=description, disable=None if description else True):
        for name, call in calls.items():
            start = clock()
            call()
            times[name].append(clock() - start)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def memory(field):
    """Resident memory of this process in bytes: "VmRSS" now, "VmHWM" the highest so far."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE).group(1))


def forget_peak():
    """Let "VmHWM" begin anew from now on, where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def in_a_process(function, *arguments, threads=1):
    """What `function(*arguments)` returns, called in a fresh process with so many threads for MXNet and BLAS.

    function: of a module's or script's top level; arguments and answer can be pickled. Raises EnvironmentProblem,
    with the reason, where the call fails or its process dies.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_answer, args=(sender, function, arguments), daemon=True)
    with _environment(OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads)):
        child.start()
    sender.close()
    try:
        answer, problem = receiver.recv()
        child.join(GOODBYE)
    except EOFError:
        child.join()
        raise EnvironmentProblem(f"the process of {function.__name__} ended with code {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
    if problem:
        raise EnvironmentProblem(f"{function.__name__}: {problem}")
    return answer


def _answer(sender, function, arguments):
    """In the child: send (answer, None), or (None, what went wrong)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its child
    try:
        sender.send((function(*arguments), None))
    except MxelmError as error:
        sender.send((None, str(error)))
    except Exception as error:  # whatever it is, the parent says it
        sender.send((None, f"{type(error).__name__}: {error}"))


@contextlib.contextmanager
def _environment(**variables):
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
