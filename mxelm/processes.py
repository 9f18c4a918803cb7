"""A function in a process of its own, here or on another machine, and the watch over several of them."""
from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from mxelm.errors import MxelmError

CONNECT_SECONDS = 300.0  # for all workers to find each other

log = logging.getLogger(__name__)

# What a child runs. It reads its job from stdin; it ends when stdin ends, because its parent is gone.
CHILD = """
import importlib, json, os, sys, threading
job = json.loads(sys.stdin.readline())
os.environ.update(job["environment"])
threading.Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start()
getattr(importlib.import_module(job["module"]), job["function"])(job)
"""


class Child:
    """A function in a process of its own, here or (by ssh) on another machine; it ends when this process ends.

    name: its name in messages and in the list of processes. job: JSON-able dict with "module" and "function", which is
    called with the job, and "environment", variables that are set first. host: None for this machine.
    Raises MxelmError if the process cannot be started.
    """

    def __init__(self, name: str, job: dict, host: str | None = None) -> None:
        self.name = name
        self._said, self._complained = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 `stop` closes
        command = [sys.executable, "-c", CHILD, name]
        if host is not None:
            command = ["ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "--", host,
                       f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(command)}"]
        # a session of its own: Ctrl-C reaches the parent alone, which then ends all children
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._said,
                                            stderr=self._complained, start_new_session=True)
        except OSError as error:
            raise MxelmError(f"{name} cannot be started: {command[0]}: {error.strerror}") from None
        with contextlib.suppress(BrokenPipeError):  # it is dead already: its exit code will say so
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()

    def reports(self) -> list[dict]:
        """The JSON lines it has printed so far."""
        lines = _content(self._said).split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def failure(self) -> str | None:
        """How it failed, in words; None while it runs and after it has ended well."""
        code = self.process.poll()
        if not code:
            return None
        complaint = _content(self._complained).decode(errors="replace")
        log.info("stderr of %s:\n%s", self.name, complaint)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = [line.strip() for line in complaint.splitlines() if line.strip() and "[bt]" not in line]
        return f"{self.name} {how}" + (f" ({last[-1]})" if last else "")

    def stop(self) -> None:
        """Kill the process if it still runs."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self._said.close()
        self._complained.close()


def watch(children: Sequence[Child], workers: Sequence[Child], timeout: float | None = None) -> None:
    """Wait until all `workers`, some of the `children`, have ended well; MxelmError if a child fails or time runs out.

    A worker reports once when it is connected, after CONNECT_SECONDS at most, and again when its part is finished.
    timeout: seconds for the whole, None for no limit.
    """
    started = time.monotonic()
    while any(child.process.poll() is None for child in workers):
        failures = list(filter(None, (child.failure() for child in children)))
        if failures:
            raise MxelmError(failures[0])
        seconds = time.monotonic() - started
        missing = [child.name for child in workers if not child.reports()]
        if missing and seconds > CONNECT_SECONDS:
            raise MxelmError(f"{', '.join(missing)} did not connect within {CONNECT_SECONDS:g} s")
        if timeout is not None and seconds > timeout:
            late = [child.name for child in workers if len(child.reports()) < 2] or ["the exchange of sums"]
            raise MxelmError(f"after {timeout:g} s {', '.join(late)} had not finished")
        time.sleep(0.1)
    failures = list(filter(None, (child.failure() for child in workers)))
    if failures:
        raise MxelmError(failures[0])


def _content(file):
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
